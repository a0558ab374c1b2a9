//! Errors that reach a guest: the errno values of xen/errno.h.

/// A result whose error reaches a guest.
pub type Result<T, E = Errno> = core::result::Result<T, E>;

/// Why a request failed, in the ABI's terms. An error that only the hypervisor could cause is not
/// among them: that is a bug, and asserts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Errno {
    /// Not permitted for this caller.
    Perm = 1,
    /// No such file, entry or vcpu.
    NoEnt = 2,
    /// No such domain or process.
    Srch = 3,
    /// Interrupted.
    Intr = 4,
    /// Input or output failed.
    Io = 5,
    /// No such device or address.
    NxIo = 6,
    /// The arguments are too long.
    TooBig = 7,
    /// Not in a form that can be executed.
    NoExec = 8,
    /// Not a valid descriptor.
    BadF = 9,
    /// Not possible now: try again.
    Again = 11,
    /// Not enough memory.
    NoMem = 12,
    /// Access denied; also: another interface version.
    Acces = 13,
    /// A guest handle led to an absent or forbidden page.
    Fault = 14,
    /// In use by another.
    Busy = 16,
    /// There is one already.
    Exist = 17,
    /// Not within one device.
    XDev = 18,
    /// No such device.
    NoDev = 19,
    /// An argument is not valid.
    Inval = 22,
    /// No room left.
    NoSpc = 28,
    /// The target can only be read.
    Rofs = 30,
    /// A number is out of range.
    Range = 34,
    /// Would wait for ever.
    Deadlk = 35,
    /// No such hypercall or sub-op.
    NoSys = 38,
    /// Not empty.
    NotEmpty = 39,
    /// No data.
    NoData = 61,
    /// The timer expired.
    Time = 62,
    /// Not a valid message.
    BadMsg = 74,
    /// The value does not fit.
    Overflow = 75,
    /// Connected already.
    IsConn = 106,
    /// Not connected.
    NotConn = 107,
    /// Not supported.
    OpNotSupp = 95,
    /// No room for the reply.
    NoBufs = 105,
    /// Took too long.
    TimedOut = 110,
    /// The other end refuses.
    ConnRefused = 111,
}

impl Errno {
    /// As the hypercall's result register carries it: negative, sign-extended.
    pub const fn to_abi(self) -> i64 {
        -(self as u8 as i64)
    }
}
