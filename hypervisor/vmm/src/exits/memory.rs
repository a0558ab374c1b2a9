//! Nested page faults: devices that we emulate, dom0's own devices mapped at first touch, and holes.

use oxen_core::seams::MapKind;
use oxen_core::vcpu::Vcpu;
use oxen_types::{Gaddr, Gfn, Mfn};
use oxen_virt::dev::lapic::{Effect, Lapic, send_ipi};
use oxen_virt::{Event, NestedFault, emul};

use super::Cx;
use crate::domain::ApicBus;
use crate::run::{arm_lapic_timer, clock};
use crate::space::Devices;
use crate::vcpu::HvVcpu;

pub fn handle(cx: &mut Cx<'_>, fault: NestedFault) {
    let domain = &cx.vcpu.domain;
    if let Some(entry) = domain.memory.lookup(fault.gpa.frame()) {
        match entry.kind {
            MapKind::Ram | MapKind::Xen
                if fault.write && domain.memory.log_write(fault.gpa.frame()) =>
            {
                return;
            }
            // Somebody was quicker and mapped it, or the rights are there by now.
            MapKind::Ram | MapKind::Xen | MapKind::Foreign | MapKind::Mmio if !fault.fetch => {
                return spurious(cx, fault);
            }
            MapKind::Ram if domain.memory.allow_exec(fault.gpa.frame()) => return,
            MapKind::Ram => return spurious(cx, fault),
            MapKind::Grant { writable } if writable || !fault.write => return spurious(cx, fault),
            _ => {
                oxen_arch::guest_log!(
                    log::Level::Warn,
                    "{}: forbidden {fault:?} of {entry:?}",
                    cx.name()
                );
                return cx.inject(Event::GP);
            }
        }
    }
    if !is_device(cx, fault.gpa) && map_own_device(cx, fault.gpa) {
        return;
    }
    let (hv, vcpu) = (cx.hv, cx.vcpu);
    // The emulator holds the back end, the device the rest of the context.
    let context = &mut *cx.context;
    let (backend, lapic) = context.parts();
    let mut touched = false;
    let mut device = |at: Gaddr, size: u8, value: Option<u64>| {
        access(hv, vcpu, lapic, &mut touched, at, size, value)
    };
    let mut space = Devices {
        domain: &vcpu.domain,
        hv: &hv.hv,
        device: &mut device,
    };
    let outcome = emul::mmio(&mut **backend, &mut space, &fault);
    if touched {
        cx.context.lapic_written();
        arm_lapic_timer(cx.context, cx.vcpu);
    }
    cx.finish(outcome, &fault);
}

/// An entry is there that allows the access: only a stale translation can have faulted.
fn spurious(cx: &mut Cx<'_>, fault: NestedFault) {
    if fault.present {
        cx.context.backend.flush_tlb();
    }
}

/// Must accesses of the address be emulated?
fn is_device(cx: &Cx<'_>, at: Gaddr) -> bool {
    if cx.context.lapic_settings().mmio_offset(at.raw()).is_some() {
        return true;
    }
    let Some(hardware) = &cx.hv.hv.hardware else {
        return false;
    };
    let hardware = hardware.lock();
    hardware.ioapics.claims(at.raw()) || hardware.pci.claims(at.raw())
}

/// dom0 has the machine's devices at their own addresses, mapped at the first touch.
fn map_own_device(cx: &Cx<'_>, at: Gaddr) -> bool {
    let frame = Mfn::new(at.frame().raw());
    cx.hv.hv.hardware.is_some()
        && crate::dom0::may_map(frame, 1)
        && cx
            .vcpu
            .domain
            .memory
            .map_mmio(Gfn::new(frame.raw()), frame, 1)
            .is_ok()
}

/// What follows from a write of a local APIC's register. Done at each write, as an instruction with REP makes several.
pub fn apply(hv: &HvVcpu, vcpu: &Vcpu, effect: Effect) {
    let (hv, domain) = (&hv.hv, &vcpu.domain);
    match effect {
        Effect::None => {}
        Effect::Ipi(request) => {
            send_ipi(&ApicBus { hv, domain }, vcpu.id.index(), &request);
        }
        Effect::LevelEoi(vector) => {
            if let Some(hardware) = &hv.hardware {
                let mut hardware = hardware.lock();
                let (ioapics, _, mut side) = hardware.parts(hv, domain);
                ioapics.eoi(vector, &mut side);
            }
        }
        Effect::Enabled => vcpu.recheck_upcall(),
    }
}

fn access(
    hv: &HvVcpu,
    vcpu: &Vcpu,
    lapic: &mut Lapic,
    lapic_touched: &mut bool,
    at: Gaddr,
    size: u8,
    value: Option<u64>,
) -> Option<u64> {
    if let Some(offset) = lapic.mmio_offset(at.raw()) {
        let now = clock(hv, vcpu.domain.machine.now());
        *lapic_touched = true;
        let apply = |effect| apply(hv, vcpu, effect);
        return Some(lapic.mmio(offset, size, value, now, apply));
    }
    if let Some(hardware) = &hv.hv.hardware {
        let mut hardware = hardware.lock();
        let (ioapics, pci, mut side) = hardware.parts(&hv.hv, &vcpu.domain);
        let taken = match value {
            None => {
                let found = ioapics.mmio_read(at.raw(), size.into()).map(u64::from);
                found.or_else(|| pci.mmio_read(at.raw(), size, &mut side))
            }
            Some(value) => {
                let taken = ioapics.mmio_write(at.raw(), size.into(), value as u32, &mut side)
                    || pci.mmio_write(at.raw(), size, value, &mut side);
                taken.then_some(0)
            }
        };
        if taken.is_some() {
            return taken;
        }
    }
    // RAM answers for itself; what is neither reads as ones and swallows writes, as on a bus.
    if vcpu.domain.memory.lookup(at.frame()).is_some() {
        None
    } else {
        Some(u64::MAX)
    }
}
