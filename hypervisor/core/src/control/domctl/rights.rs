//! Rights to interrupts, device memory and I/O ports. dom0 has all that is not ours, and keeps it;
//! other domains get no devices as long as there is no IOMMU to hold their DMA.

use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use crate::hypercall::{Call, Target};

const PORTS: u32 = 1 << 16;

/// The right to an interrupt.
pub(super) fn irq(_call: &Call<'_>, domain: &Target, ask: &abi::DomctlIrqPermission) -> Result<()> {
    decide(domain, ask.allow_access)
}

/// The right to device memory.
pub(super) fn memory(
    _call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlIomemPermission,
) -> Result<()> {
    if ask.first_mfn.checked_add(ask.nr_mfns).is_none() {
        return Err(Errno::Inval);
    }
    decide(domain, ask.allow_access)
}

/// The right to I/O ports.
pub(super) fn ports(
    _call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlIoportPermission,
) -> Result<()> {
    let end = ask.first_port.checked_add(ask.nr_ports);
    if end.is_none_or(|end| end > PORTS) {
        return Err(Errno::Inval);
    }
    decide(domain, ask.allow_access)
}

/// Agrees to what is so already, and to nothing else.
fn decide(domain: &Target, allow: u8) -> Result<()> {
    if (allow != 0) == domain.config.privileged {
        Ok(())
    } else {
        Err(Errno::Perm)
    }
}
