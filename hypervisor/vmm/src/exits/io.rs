//! Port I/O that the permission bitmap did not let through.

use oxen_arch::cpu::io_port;
use oxen_virt::dev::ports::PortAccess;
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
    match crate::ports::rules().judge(at, size, value) {
        PortAccess::Pass => pass(at, size, value),
        PortAccess::Absent => u32::MAX,
        PortAccess::Change(value) => {
            log::warn!("dom0 asks for a sleep state other than S5: not offered");
            pass(at, size, Some(value))
        }
        PortAccess::Config => {
            let mut hardware = hardware.lock();
            let (_, pci, mut side) = hardware.parts(hv, &vcpu.domain);
            match value {
                None => pci.port_read(at, size, &mut side).unwrap_or(u32::MAX),
                Some(value) => {
                    pci.port_write(at, size, value, &mut side);
                    0
                }
            }
        }
        PortAccess::PowerOff => {
            log::info!("dom0 powers the machine off");
            log::info!("powering off");
            oxen_arch::power::power_off()
        }
    }
}

fn pass(at: u16, size: u8, value: Option<u32>) -> u32 {
    match value {
        None => io_port::read(at, size),
        Some(value) => {
            io_port::write(at, size, value);
            0
        }
    }
}
