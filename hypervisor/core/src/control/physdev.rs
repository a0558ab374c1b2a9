//! physdev_op: dom0's word about the machine's devices (xen/physdev.h).
//!
//! dom0 programs IO-APICs and MSI like a native kernel, and what it writes is trapped; so it has no
//! need of the interrupt operations, which PVH guests do not have in Xen either. What it tells of
//! PCI is taken note of without effect: each access to configuration space passes us anyway.

use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use crate::hypercall::op::operations;
use crate::hypercall::{Answer, Call, Privileged};

/// args: cmd, argument. To other domains than dom0, none of this exists.
pub fn call(call: &mut Call<'_>) -> Answer {
    call.privileged().map_err(|_| Errno::NoSys)?;
    by_dom0(call)
}

operations! {
    fn by_dom0(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[1];
    accepted {
        PHYSDEVOP_PCI_MMCFG_RESERVED: takes(abi::PhysdevPciMmcfgReserved) by privileged
            => mmcfg_reserved, taken;
        PHYSDEVOP_PCI_DEVICE_ADD: takes(abi::PhysdevPciDeviceAdd) by privileged => device_added, taken;
        PHYSDEVOP_PCI_DEVICE_REMOVE: takes(abi::PhysdevPciDevice) by privileged => device_removed, taken;
    }
    refused {
        PHYSDEVOP_IRQ_UNMASK_NOTIFY: NoSys;
        PHYSDEVOP_IRQ_STATUS_QUERY: NoSys;
        PHYSDEVOP_SET_IOPL: NoSys;
        PHYSDEVOP_SET_IOBITMAP: NoSys;
        PHYSDEVOP_APIC_READ: NoSys;
        PHYSDEVOP_APIC_WRITE: NoSys;
        PHYSDEVOP_ALLOC_IRQ_VECTOR: NoSys;
        PHYSDEVOP_FREE_IRQ_VECTOR: NoSys;
        PHYSDEVOP_EOI: NoSys;
        PHYSDEVOP_MAP_PIRQ: NoSys;
        PHYSDEVOP_UNMAP_PIRQ: NoSys;
        PHYSDEVOP_MANAGE_PCI_ADD: NoSys;
        PHYSDEVOP_MANAGE_PCI_REMOVE: NoSys;
        PHYSDEVOP_PIRQ_EOI_GMFN_V1: NoSys;
        PHYSDEVOP_RESTORE_MSI: NoSys;
        PHYSDEVOP_MANAGE_PCI_ADD_EXT: NoSys;
        PHYSDEVOP_SETUP_GSI: NoSys;
        PHYSDEVOP_GET_FREE_PIRQ: NoSys;
        PHYSDEVOP_RESTORE_MSI_EXT: NoSys;
        PHYSDEVOP_PIRQ_EOI_GMFN_V2: NoSys;
        PHYSDEVOP_DBGP_OP: NoSys;
        PHYSDEVOP_PREPARE_MSIX: NoSys;
        PHYSDEVOP_RELEASE_MSIX: NoSys;
    }
    else Err(Errno::NoSys.into());
}

fn mmcfg_reserved(
    _call: &Call<'_>,
    _dom0: Privileged,
    ask: &abi::PhysdevPciMmcfgReserved,
) -> Result<()> {
    if ask.flags & !abi::XEN_PCI_MMCFG_RESERVED != 0 || ask.start_bus > ask.end_bus {
        return Err(Errno::Inval);
    }
    Ok(())
}

fn device_added(_call: &Call<'_>, _dom0: Privileged, _device: &abi::PhysdevPciDeviceAdd) {}

fn device_removed(_call: &Call<'_>, _dom0: Privileged, _device: &abi::PhysdevPciDevice) {}
