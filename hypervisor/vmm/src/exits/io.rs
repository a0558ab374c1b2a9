//! Port I/O that the permission bitmap did not let through.

use oxen_core::fallible::with_reserve;
use oxen_core::vcpu::Vcpu;
use oxen_virt::dev::ports::PortAccess;
use oxen_virt::emul;
use oxen_virt::{IoExit, Reg};

use super::Cx;
use crate::domain::HvmDomain;
use crate::host::{Hardware, Host};
use crate::space::Devices;

pub(crate) fn handle<H: Host>(cx: &mut Cx<'_, H>, io: IoExit) {
    let (hvm, vcpu) = (cx.hvm, cx.vcpu);
    if io.string {
        let mut none = |_, _, _| None;
        let mut space = Devices {
            domain: &vcpu.domain,
            limits: hvm.domain.limits(),
            device: &mut none,
        };
        let mut access = |value: Option<u32>| access(&hvm.domain, vcpu, io.port, io.size, value);
        let outcome = emul::string_io(&mut *cx.context.backend, &mut space, &io, &mut access);
        return cx.finish(outcome, &io);
    }
    let regs = cx.context.backend.gprs_mut();
    let mask = u32::MAX >> (32 - 8 * u32::from(io.size.clamp(1, 4)));
    if io.input {
        let value = access(&hvm.domain, vcpu, io.port, io.size, None) & mask;
        // A 32-bit result clears the upper half; narrower ones leave the rest alone.
        regs.rax = if io.size == 4 {
            value.into()
        } else {
            regs.rax & !u64::from(mask) | u64::from(value)
        };
    } else {
        access(
            &hvm.domain,
            vcpu,
            io.port,
            io.size,
            Some(regs.rax as u32 & mask),
        );
    }
    cx.context.backend.set(Reg::Rip, io.next_rip);
    cx.context.backend.advance_rip(0);
}

/// One access: a write of a value, or a read. Absent ports read as all ones.
fn access<H: Host>(hvm: &HvmDomain<H>, vcpu: &Vcpu, at: u16, size: u8, value: Option<u32>) -> u32 {
    let Some(devices) = &hvm.devices else {
        return u32::MAX;
    };
    let host = &hvm.vmm.host;
    match devices.ports.judge(at, size, value) {
        PortAccess::Pass => pass(host, at, size, value),
        PortAccess::Absent => u32::MAX,
        PortAccess::Change(value) => {
            log::warn!("dom0 requests a sleep state other than S5: not offered");
            pass(host, at, size, Some(value))
        }
        PortAccess::Config => {
            let access = || {
                devices.with(hvm, &vcpu.domain, |buses, side| match value {
                    None => buses.pci.port_read(at, size, side).unwrap_or(u32::MAX),
                    Some(value) => {
                        buses.pci.port_write(at, size, value, side);
                        0
                    }
                })
            };
            // The first access of a function makes the hypervisor keep its registers. Without
            // memory for them there is no function.
            with_reserve(hvm.vmm.frames, access).unwrap_or(u32::MAX)
        }
        PortAccess::PowerOff => {
            log::info!("dom0 powers the machine off");
            host.power_off()
        }
    }
}

fn pass(hardware: &impl Hardware, at: u16, size: u8, value: Option<u32>) -> u32 {
    match value {
        None => hardware.port_read(at, size),
        Some(value) => {
            hardware.port_write(at, size, value);
            0
        }
    }
}
