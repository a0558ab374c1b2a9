//! Operations in an envelope: domctl, sysctl and platform_op.
//!
//! The hypercall's one argument points to a structure with an interface version, the operation's
//! number and a union of 128 bytes for its argument. One private copy of it is read. It is written
//! back as a whole, if the declaration says so. All of these calls need a privileged caller.

use bytemuck::Pod;
use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::Errno;

use super::super::{Answer, Stop};
use super::{Call, Privileged};

/// An envelope of the ABI.
pub(crate) trait Envelope: Pod {
    /// The interface version that callers must name.
    const VERSION: u32;

    /// The version that the caller names.
    fn version(&self) -> u32;

    /// The operation's argument.
    fn argument(&mut self) -> &mut [u8; 128];
}

macro_rules! envelope {
    ($type:ty, $version:expr) => {
        impl Envelope for $type {
            const VERSION: u32 = $version;

            fn version(&self) -> u32 {
                self.interface_version
            }

            fn argument(&mut self) -> &mut [u8; 128] {
                &mut self.u
            }
        }
    };
}

envelope!(abi::Domctl, abi::DOMCTL_INTERFACE_VERSION);
envelope!(abi::Sysctl, abi::SYSCTL_INTERFACE_VERSION);
envelope!(abi::PlatformOp, abi::XENPF_INTERFACE_VERSION);

/// An envelope whose operation is carried out.
pub(crate) struct Request<E> {
    /// The private copy.
    pub envelope: E,
    /// Whether it is written back.
    replies: bool,
}

/// Runs the operation in the envelope that argument 0 points to.
///
/// # Errors
/// `Perm` for an unprivileged caller, `Fault` if the envelope cannot be read or written, `Acces`
/// for another interface version, and those of `act`.
pub(crate) fn enveloped<E: Envelope>(
    call: &mut Call<'_>,
    act: impl FnOnce(&mut Call<'_>, Privileged, &mut Request<E>) -> Answer,
) -> Answer {
    let dom0 = call.privileged()?;
    let at = call.args[0];
    let envelope: E = call.read(at)?;
    if envelope.version() != E::VERSION {
        return Err(Errno::Acces.into());
    }
    let mut request = Request {
        envelope,
        replies: false,
    };
    let answer = act(call, dom0, &mut request);
    if request.replies {
        call.write(at, &request.envelope)?;
    }
    answer
}

impl<E: Envelope> Request<E> {
    /// An operation whose argument is read only.
    pub(crate) fn takes<T: Pod>(&mut self, act: impl FnOnce(&T) -> Answer) -> Answer {
        act(&self.envelope.argument().view())
    }

    /// An operation whose argument is written back.
    pub(crate) fn updates<T: Pod>(&mut self, act: impl FnOnce(&mut T) -> Answer) -> Answer {
        let mut argument = self.envelope.argument().view();
        let answer = act(&mut argument)?;
        self.reply(&argument);
        Ok(answer)
    }

    /// An operation whose argument is written back after a failure, too.
    pub(crate) fn reports<T: Pod>(&mut self, act: impl FnOnce(&mut T) -> Answer) -> Answer {
        let mut argument = self.envelope.argument().view();
        let answer = act(&mut argument);
        if answer != Err(Stop::Again) {
            self.reply(&argument);
        }
        answer
    }

    /// An operation whose argument is only written.
    pub(crate) fn gives<T: Pod>(&mut self, act: impl FnOnce(&mut T) -> Answer) -> Answer {
        let mut argument = T::zeroed();
        let answer = act(&mut argument)?;
        self.reply(&argument);
        Ok(answer)
    }

    /// An operation that changes more of the envelope than its argument.
    pub(crate) fn whole(&mut self, act: impl FnOnce(&mut E) -> Answer) -> Answer {
        let answer = act(&mut self.envelope)?;
        self.replies = true;
        Ok(answer)
    }

    fn reply<T: Pod>(&mut self, argument: &T) {
        self.envelope.argument().store(argument);
        self.replies = true;
    }
}
