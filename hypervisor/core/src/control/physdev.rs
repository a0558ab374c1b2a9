//! physdev_op: dom0's word about the machine's devices (xen/physdev.h).
//!
//! dom0 programs IO-APICs and MSI like a native kernel, and what it writes is trapped; so it has no
//! need of the interrupt operations, which PVH guests do not have in Xen either. What it tells of PCI
//! is taken note of without effect: each access to configuration space passes us anyway.

use guest_pv_abi as abi;
use oxen_types::Errno;

use crate::hypercall::{Answer, Call};

/// args: cmd, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    // To other domains, none of this exists.
    if !call.is_privileged() {
        return Err(Errno::NoSys.into());
    }
    match call.args[0] as u32 {
        abi::PHYSDEVOP_PCI_MMCFG_RESERVED => {
            let ask: abi::PhysdevPciMmcfgReserved = call.read(call.handle(1))?;
            if ask.flags & !abi::XEN_PCI_MMCFG_RESERVED != 0 || ask.start_bus > ask.end_bus {
                return Err(Errno::Inval.into());
            }
            Ok(0)
        }
        abi::PHYSDEVOP_PCI_DEVICE_ADD => {
            let _device: abi::PhysdevPciDeviceAdd = call.read(call.handle(1))?;
            Ok(0)
        }
        abi::PHYSDEVOP_PCI_DEVICE_REMOVE => {
            let _device: abi::PhysdevPciDevice = call.read(call.handle(1))?;
            Ok(0)
        }
        _ => Err(Errno::NoSys.into()),
    }
}
