//! The declarations of operations as data, for the tests and for docs/hypercalls.md.

/// How far an operation goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// As in Xen 4.17 for PVH domains.
    Full,
    /// With the difference that the note names.
    Part,
    /// Answered with success, as nothing is to do.
    Taken,
    /// Refused.
    No,
}

/// One operation of a hypercall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declaration {
    pub number: u64,
    /// The number's name in the ABI crate.
    pub name: &'static str,
    /// The form of the argument, as `mod.rs` describes it.
    pub form: &'static str,
    /// The argument's type; empty if there is none.
    pub argument: &'static str,
    pub size: usize,
    pub who: &'static str,
    pub status: Status,
    pub note: &'static str,
}

impl Declaration {
    pub(crate) const fn refused(
        number: u64,
        name: &'static str,
        errno: &'static str,
        note: &'static str,
    ) -> Self {
        Self {
            number,
            name,
            form: errno,
            argument: "",
            size: 0,
            who: "",
            status: Status::No,
            note,
        }
    }
}

macro_rules! status {
    (full) => {
        $crate::hypercall::op::declared::Status::Full
    };
    (part) => {
        $crate::hypercall::op::declared::Status::Part
    };
    (taken) => {
        $crate::hypercall::op::declared::Status::Taken
    };
}

macro_rules! declaration {
    ($number:ident, $form:ident $(($type:ty))?, $who:ident, $status:ident $(($note:literal))?) => {
        $crate::hypercall::op::declared::Declaration {
            number: guest_pv_abi::$number as u64,
            name: stringify!($number),
            form: stringify!($form),
            argument: concat!($(stringify!($type))?),
            size: 0 $(+ size_of::<$type>())?,
            who: stringify!($who),
            status: $crate::hypercall::op::declared::status!($status),
            note: concat!($($note)?),
        }
    };
}

pub(crate) use {declaration, status};
