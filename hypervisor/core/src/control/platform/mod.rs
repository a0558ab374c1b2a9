//! platform_op: what dom0, as the machine's main operating system, tells and asks of the platform
//! (xen/platform.h, interface version 0x03000001). Only a privileged domain may call it.

mod cpus;
mod time;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{Errno, Result};

use crate::hypercall::op::{Request, enveloped, operations};
use crate::hypercall::{Answer, Call, Privileged};
use crate::seams::PowerAction;

/// ACPI's soft-off.
const S5: u32 = 5;

/// args: the operation.
pub fn call(call: &mut Call<'_>) -> Answer {
    enveloped(call, act)
}

operations! {
    fn act(call, dom0: Privileged, request: &mut Request<abi::PlatformOp>) with (dom0,);
    declared OPERATIONS;
    command request.envelope.cmd;
    argument request;
    accepted {
        XENPF_SETTIME32: takes(abi::XenpfSettime32) by dom0 => time::set_32,
            full("every domain's wall clock is written at once");
        XENPF_SETTIME64: takes(abi::XenpfSettime64) by dom0 => time::set_64,
            full("every domain's wall clock is written at once");
        XENPF_GETIDLETIME: updates(abi::XenpfGetidletime) by dom0 => time::idle,
            full("CPUs 0 to 63");
        XENPF_FIRMWARE_INFO: updates(abi::XenpfFirmwareInfo) by dom0 => firmware,
            part("keyboard flags and EFI versions where the platform has them, else -ENOENT");
        XENPF_ENTER_ACPI_SLEEP: takes(abi::XenpfEnterAcpiSleep) by dom0 => sleep, part("S5");
        XENPF_GET_CPUINFO: updates(abi::XenpfPcpuinfo) by dom0 => cpus::info,
            part("-ENODEV where the platform does not tell local APIC ids; beyond the last CPU, \"invalid\"");
        XENPF_GET_CPU_VERSION: updates(abi::XenpfPcpuVersion) by dom0 => cpus::version, full;
        XENPF_SET_PROCESSOR_PMINFO: plain by dom0 => processor_states,
            taken("the hardware chooses idle and frequency states");
    }
    refused {
        XENPF_CPU_ONLINE: OpNotSupp;
        XENPF_CPU_OFFLINE: OpNotSupp;
        XENPF_CPU_HOTADD: OpNotSupp;
        XENPF_MEM_HOTADD: OpNotSupp;
        XENPF_CORE_PARKING: OpNotSupp;
        XENPF_MICROCODE_UPDATE: OpNotSupp;
        XENPF_ADD_MEMTYPE: NoSys;
        XENPF_DEL_MEMTYPE: NoSys;
        XENPF_READ_MEMTYPE: NoSys;
        XENPF_PLATFORM_QUIRK: NoSys;
        XENPF_EFI_RUNTIME_CALL: NoSys;
        XENPF_CHANGE_FREQ: NoSys;
        XENPF_RESOURCE_OP: NoSys;
        XENPF_GET_SYMBOL: NoSys;
        XENPF_GET_DOM0_CONSOLE: NoSys;
    }
    else Err(Errno::NoSys.into());
}

/// The hypervisor leaves idle and frequency states to the hardware, so it does not need what ACPI
/// says of them.
fn processor_states(_call: &Call<'_>, _dom0: Privileged) {}

/// The pieces that are one number; what the platform does not have is its error.
fn firmware(call: &Call<'_>, _dom0: Privileged, ask: &mut abi::XenpfFirmwareInfo) -> Result<()> {
    let value = call.machine().platform.firmware_info(ask.kind, ask.index)?;
    match (ask.kind, ask.index) {
        (abi::XEN_FW_KBD_SHIFT_FLAGS, _) => ask.u.store(&(value as u8)),
        (abi::XEN_FW_EFI_INFO, abi::XEN_FW_EFI_VERSION | abi::XEN_FW_EFI_RT_VERSION) => {
            ask.u.store(&(value as u32));
        }
        _ => return Err(Errno::OpNotSupp),
    }
    Ok(())
}

/// dom0 has made the devices ready, and the machine goes off. Other sleep states are not supported.
fn sleep(call: &Call<'_>, _dom0: Privileged, ask: &abi::XenpfEnterAcpiSleep) -> Result<()> {
    if ask.sleep_state != S5 {
        return Err(Errno::OpNotSupp);
    }
    call.machine().platform.power(PowerAction::PowerOff);
    Ok(())
}
