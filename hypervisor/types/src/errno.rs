//! Errors that reach a guest: the errno values of xen/errno.h.

pub type Result<T, E = Errno> = core::result::Result<T, E>;

/// Why a request failed, in the ABI's terms. Anything that only we could cause is not in here: it
/// is a bug, and asserts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Errno {
    /// Not permitted for this caller.
    Perm = 1,
    /// No such file, entry or vcpu.
    NoEnt = 2,
    /// No such domain or process.
    Srch = 3,
    Intr = 4,
    Io = 5,
    NxIo = 6,
    TooBig = 7,
    NoExec = 8,
    BadF = 9,
    Again = 11,
    NoMem = 12,
    /// Access denied; also: another interface version.
    Acces = 13,
    /// A guest handle led to an absent or forbidden page.
    Fault = 14,
    Busy = 16,
    Exist = 17,
    XDev = 18,
    NoDev = 19,
    Inval = 22,
    NoSpc = 28,
    Rofs = 30,
    Range = 34,
    Deadlk = 35,
    /// No such hypercall or sub-op.
    NoSys = 38,
    NotEmpty = 39,
    NoData = 61,
    Time = 62,
    BadMsg = 74,
    Overflow = 75,
    IsConn = 106,
    NotConn = 107,
    OpNotSupp = 95,
    NoBufs = 105,
    TimedOut = 110,
    ConnRefused = 111,
}

impl Errno {
    /// As the hypercall's result register carries it: negative, sign-extended.
    pub const fn to_abi(self) -> i64 {
        -(self as u8 as i64)
    }
}
