//! Destroy, pause, unpause, resume and trigger: a domain's life in the toolstack's hands.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{DomainId, Errno};

use super::not_self;
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Stop};

/// Entries (ports, mappings, pages) that one step of a teardown takes back.
const TEARDOWN_BUDGET: usize = 512;

/// Takes everything back from the domain. Whoever calls again goes on where it stands.
pub fn destroy(call: &Call<'_>, domain: &Arc<Domain>) -> Answer {
    not_self(call, domain)?;
    if domain.id == DomainId::DOM0 {
        return Err(Errno::Inval.into());
    }
    if domain.destroy_step(TEARDOWN_BUDGET) {
        Ok(0)
    } else {
        Err(Stop::Again)
    }
}

/// Returns when no vcpu runs any more.
pub fn pause(call: &Call<'_>, domain: &Arc<Domain>) -> Answer {
    pause_counted(call, domain)?;
    Ok(0)
}

/// Counts one pause, once for all parts of the call, and waits until the domain stands still.
fn pause_counted(call: &Call<'_>, domain: &Arc<Domain>) -> Result<(), Stop> {
    not_self(call, domain)?;
    domain.pause_once()?;
    if !domain.is_quiet() {
        return Err(Stop::Again);
    }
    domain.pause_answered();
    Ok(())
}

/// Runs `act` while the domain stands still; it goes on after that if nobody else paused it.
pub fn while_paused<R>(
    call: &mut Call<'_>,
    domain: &Arc<Domain>,
    act: impl FnOnce(&mut Call<'_>) -> Result<R, Errno>,
) -> Result<R, Stop> {
    pause_counted(call, domain)?;
    let done = act(call);
    domain.unpause()?;
    Ok(done?)
}

pub fn unpause(call: &Call<'_>, domain: &Arc<Domain>) -> Answer {
    not_self(call, domain)?;
    domain.unpause()?;
    Ok(0)
}

pub fn resume(call: &Call<'_>, domain: &Arc<Domain>) -> Answer {
    not_self(call, domain)?;
    domain.resume();
    Ok(0)
}

/// An NMI; PVH guests have no buttons to press, and are reset by making them anew.
pub fn trigger(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlSendTrigger = op.u.view();
    let vcpu = domain.vcpu(ask.vcpu).ok_or(Errno::Inval)?;
    match ask.trigger {
        abi::XEN_DOMCTL_SENDTRIGGER_NMI => {
            vcpu.arch.post_nmi();
            vcpu.kick();
            Ok(0)
        }
        _ => Err(Errno::NoSys.into()),
    }
}
