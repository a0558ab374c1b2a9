//! platform_op: what dom0, as the machine's main operating system, tells and asks of the platform
//! (xen/platform.h, interface version 0x03000001). Only a privileged domain may call it.

mod cpus;
mod time;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::Errno;

use crate::hypercall::{Answer, Call, Handle};
use crate::seams::PowerAction;

/// ACPI's soft-off.
const S5: u32 = 5;

/// args: the operation.
pub fn call(call: &mut Call<'_>) -> Answer {
    let at: Handle<abi::PlatformOp> = call.handle(0);
    let mut op = call.read(at)?;
    if op.interface_version != abi::XENPF_INTERFACE_VERSION {
        return Err(Errno::Acces.into());
    }
    let before = op;
    let answer = act(call, &mut op)?;
    if bytemuck::bytes_of(&op) != bytemuck::bytes_of(&before) {
        call.write(at, &op)?;
    }
    Ok(answer)
}

fn act(call: &Call<'_>, op: &mut abi::PlatformOp) -> Answer {
    match op.cmd {
        abi::XENPF_SETTIME32 => time::set_32(call, op),
        abi::XENPF_SETTIME64 => time::set_64(call, op),
        abi::XENPF_GETIDLETIME => time::idle(call, op),
        abi::XENPF_FIRMWARE_INFO => firmware(call, op),
        abi::XENPF_ENTER_ACPI_SLEEP => sleep(call, op),
        abi::XENPF_GET_CPUINFO => cpus::info(call, op),
        abi::XENPF_GET_CPU_VERSION => cpus::version(call, op),
        // We leave idle and frequency states to the hardware, so what ACPI says of them is not needed.
        abi::XENPF_SET_PROCESSOR_PMINFO => Ok(0),
        abi::XENPF_CPU_ONLINE
        | abi::XENPF_CPU_OFFLINE
        | abi::XENPF_CPU_HOTADD
        | abi::XENPF_MEM_HOTADD
        | abi::XENPF_CORE_PARKING
        | abi::XENPF_MICROCODE_UPDATE => Err(Errno::OpNotSupp.into()),
        _ => Err(Errno::NoSys.into()),
    }
}

/// The pieces that are one number; what the platform does not have is its error.
fn firmware(call: &Call<'_>, op: &mut abi::PlatformOp) -> Answer {
    let mut ask: abi::XenpfFirmwareInfo = op.u.view();
    let value = call.machine().platform.firmware_info(ask.kind, ask.index)?;
    match (ask.kind, ask.index) {
        (abi::XEN_FW_KBD_SHIFT_FLAGS, _) => ask.u.store(&(value as u8)),
        (abi::XEN_FW_EFI_INFO, abi::XEN_FW_EFI_VERSION | abi::XEN_FW_EFI_RT_VERSION) => {
            ask.u.store(&(value as u32));
        }
        _ => return Err(Errno::OpNotSupp.into()),
    }
    op.u.store(&ask);
    Ok(0)
}

/// dom0 has made the devices ready, and the machine goes off. Other sleep states are not supported.
fn sleep(call: &Call<'_>, op: &abi::PlatformOp) -> Answer {
    let ask: abi::XenpfEnterAcpiSleep = op.u.view();
    if ask.sleep_state != S5 {
        return Err(Errno::OpNotSupp.into());
    }
    call.machine().platform.power(PowerAction::PowerOff);
    Ok(0)
}
