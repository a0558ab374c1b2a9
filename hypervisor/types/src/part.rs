//! Parts of the hypervisor that Cargo features leave out.
//!
//! A type that only exists with such a part holds a [`Part`]: [`Present`], or [`Absent`] without
//! the feature. Nothing can make a value of a type that holds [`Absent`], so the compiler drops the
//! code for it, wherever it stands: the part needs no other `cfg`.

/// Whether a part is compiled in, as a type.
pub trait Part: Sized {
    /// The value, if there is one.
    const BUILT: Option<Self>;
}

/// The part is compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present;

/// The part is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {}

impl Part for Present {
    const BUILT: Option<Self> = Some(Self);
}

impl Part for Absent {
    const BUILT: Option<Self> = None;
}
