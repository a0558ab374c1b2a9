//! Destroy, pause, unpause, resume and trigger: a domain's life in the toolstack's hands.

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Result};

use crate::hypercall::{Answer, Call, Stop, Target};

/// Entries (ports, mappings, pages) that one step of a teardown takes back.
const TEARDOWN_BUDGET: usize = 512;

/// Takes everything back from the domain. Whoever calls again goes on where it stands.
pub(super) fn destroy(_call: &Call<'_>, domain: &Target) -> Answer {
    if domain.id == DomainId::DOM0 {
        return Err(Errno::Inval.into());
    }
    if domain.destroy_step(TEARDOWN_BUDGET) {
        Ok(0)
    } else {
        Err(Stop::Again)
    }
}

/// Returns when no vcpu runs any more. Counts one pause, once for all parts of the call.
pub(super) fn pause(_call: &Call<'_>, domain: &Target) -> Result<(), Stop> {
    domain.pause_once()?;
    if !domain.is_quiet() {
        return Err(Stop::Again);
    }
    domain.pause_answered();
    Ok(())
}

/// Runs `act` while the domain stands still; it goes on after that if nobody else paused it.
pub(super) fn while_paused<R>(
    call: &Call<'_>,
    domain: &Target,
    act: impl FnOnce() -> Result<R>,
) -> Result<R, Stop> {
    pause(call, domain)?;
    let done = act();
    domain.unpause()?;
    Ok(done?)
}

/// Takes one pause away; the domain goes on after the last.
pub(super) fn unpause(_call: &Call<'_>, domain: &Target) -> Result<()> {
    domain.unpause()
}

/// Lets a domain go on that has shut itself down (a suspend that was cancelled).
pub(super) fn resume(_call: &Call<'_>, domain: &Target) {
    domain.resume();
}

/// An NMI; PVH guests have no buttons to press, and are reset by making them again.
pub(super) fn trigger(
    _call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlSendTrigger,
) -> Result<()> {
    let vcpu = domain.vcpu(ask.vcpu).ok_or(Errno::Inval)?;
    match ask.trigger {
        abi::XEN_DOMCTL_SENDTRIGGER_NMI => {
            vcpu.arch.post_nmi();
            vcpu.kick();
            Ok(())
        }
        _ => Err(Errno::NoSys),
    }
}
