//! Port I/O that the permission bitmap did not let through.

use oxen_arch::cpu::port;
use oxen_virt::dev::pci::{PORT_ADDRESS, PORT_DATA_LAST};
use oxen_virt::emul;
use oxen_virt::{IoExit, Reg};

use super::Cx;
use crate::space::Devices;

pub fn handle(cx: &mut Cx<'_>, io: IoExit) {
    let (hv, vcpu) = (cx.hv, cx.vcpu);
    if io.string {
        let mut none = |_, _, _| None;
        let mut space = Devices {
            domain: &vcpu.domain,
            hv: &hv.hv,
            device: &mut none,
        };
        let mut access = |value: Option<u32>| access(&hv.hv, vcpu, io.port, io.size, value);
        let outcome = emul::string_io(&mut *cx.context.backend, &mut space, &io, &mut access);
        return cx.finish(outcome, &io);
    }
    let regs = cx.context.backend.gprs_mut();
    let mask = u32::MAX >> (32 - 8 * u32::from(io.size.clamp(1, 4)));
    if io.input {
        let value = access(&hv.hv, vcpu, io.port, io.size, None) & mask;
        // A 32-bit result clears the upper half; narrower ones leave the rest alone.
        regs.rax = if io.size == 4 {
            value.into()
        } else {
            regs.rax & !u64::from(mask) | u64::from(value)
        };
    } else {
        access(&hv.hv, vcpu, io.port, io.size, Some(regs.rax as u32 & mask));
    }
    cx.context.backend.set(Reg::Rip, io.next_rip);
    cx.context.backend.advance_rip(0);
}

/// One access: a write of a value, or a read. Absent ports read as all ones.
fn access(
    hv: &crate::domain::HvDomain,
    vcpu: &oxen_core::vcpu::Vcpu,
    at: u16,
    size: u8,
    value: Option<u32>,
) -> u32 {
    let Some(hardware) = &hv.hardware else {
        return u32::MAX;
    };
    if (PORT_ADDRESS..=PORT_DATA_LAST).contains(&at) {
        let mut hardware = hardware.lock();
        let (_, pci, mut side) = hardware.parts(hv, &vcpu.domain);
        let taken = match value {
            None => pci.port_read(at, size, &mut side),
            Some(value) => pci.port_write(at, size, value, &mut side).then_some(0),
        };
        return taken.unwrap_or_else(|| pass(at, size, value));
    }
    if crate::ports::is_denied(at) {
        return u32::MAX;
    }
    if let Some(value) = value
        && crate::ports::is_sleep_request(at, value)
    {
        log::info!("dom0 powers the machine off");
        crate::platform::power_off();
    }
    pass(at, size, value)
}

fn pass(at: u16, size: u8, value: Option<u32>) -> u32 {
    match value {
        None => port::read(at, size),
        Some(value) => {
            port::write(at, size, value);
            0
        }
    }
}
