//! The list of all declared items, as data: what the layout test compares with the C headers.

/// One declaration.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// A structure, and the C type whose layout it has.
    Struct {
        name: &'static str,
        c: &'static str,
        size: usize,
        fields: &'static [Field],
    },
    /// A number. An empty `c` means: the C identifier that is `name` in upper case, leading
    /// underscores left out.
    Const {
        name: &'static str,
        c: &'static str,
        value: i128,
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
