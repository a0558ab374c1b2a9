//! The list of all declared items, as data: what the layout test compares with the C headers.

/// One declaration.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// A structure, and the C type whose layout it has; up to the C field `until`, if not empty.
    Struct {
        name: &'static str,
        c: &'static str,
        size: usize,
        until: &'static str,
        fields: &'static [Field],
    },
    /// A number, and the C expression for it. None given (empty) means: the C identifiers that in
    /// upper case are `name`; with two underscores before it if they are hypercall numbers.
    Const {
        name: &'static str,
        c: &'static str,
        value: i128,
    },
    /// A string; `c` as for numbers.
    Text {
        name: &'static str,
        c: &'static str,
        value: &'static str,
    },
    /// A number that the headers do not have.
    Extra { name: &'static str },
}

/// One field. Names that begin with `_pad` are our explicit padding and have no C name.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub c: &'static str,
    pub offset: usize,
    pub size: usize,
}
