//! Rights to interrupts, device memory and I/O ports. dom0 has all that is not ours, and keeps it;
//! other domains get no devices as long as there is no IOMMU to hold their DMA.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::Errno;

use crate::domain::Domain;
use crate::hypercall::Answer;

const PORTS: u32 = 1 << 16;

pub fn irq(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlIrqPermission = op.u.view();
    decide(domain, ask.allow_access)
}

pub fn memory(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlIomemPermission = op.u.view();
    if ask.first_mfn.checked_add(ask.nr_mfns).is_none() {
        return Err(Errno::Inval.into());
    }
    decide(domain, ask.allow_access)
}

pub fn ports(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlIoportPermission = op.u.view();
    let end = ask.first_port.checked_add(ask.nr_ports);
    if end.is_none_or(|end| end > PORTS) {
        return Err(Errno::Inval.into());
    }
    decide(domain, ask.allow_access)
}

/// What is so already may be asked for.
fn decide(domain: &Domain, allow: u8) -> Answer {
    if (allow != 0) == domain.config.privileged {
        Ok(0)
    } else {
        Err(Errno::Perm.into())
    }
}
