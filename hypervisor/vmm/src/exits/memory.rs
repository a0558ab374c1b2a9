//! Nested page faults: devices that we emulate, dom0's own devices mapped at first touch, and
//! holes.

use oxen_core::seams::{Access, FaultKind, MapKind};
use oxen_core::vcpu::Vcpu;
use oxen_types::{Gaddr, Gfn, Mfn};
use oxen_virt::dev::lapic::{Effect, Lapic, send_ipi};
use oxen_virt::{Event, NestedFault, emul};

use super::Cx;
use crate::deliver::{arm_lapic_timer, clock};
use crate::domain::ApicBus;
use crate::guest_log;
use crate::host::Host;
use crate::space::Devices;
use crate::vcpu::HvmVcpu;

pub(crate) fn handle<H: Host>(cx: &mut Cx<'_, H>, fault: NestedFault) {
    let memory = &cx.vcpu.domain.memory;
    let gfn = fault.gpa.frame();
    let access = match (fault.fetch, fault.write) {
        (true, _) => Access::Execute,
        (false, true) => Access::Write,
        (false, false) => Access::Read,
    };
    match memory.fault(fault.gpa, access) {
        FaultKind::Absent | FaultKind::OutOfRange => device(cx, fault),
        FaultKind::Spurious => spurious(cx, fault),
        // RAM may be written and executed; who forbids it for a while allows it at the first fault.
        FaultKind::Forbidden(MapKind::Ram | MapKind::Xen) if access == Access::Write => {
            if !memory.log_write(gfn) {
                spurious(cx, fault);
            }
        }
        FaultKind::Forbidden(MapKind::Ram) => {
            if !memory.allow_exec(gfn) {
                spurious(cx, fault);
            }
        }
        FaultKind::Forbidden(kind) => {
            guest_log!(
                log::Level::Warn,
                "{}: forbidden {fault:?} of {kind:?}",
                cx.name()
            );
            cx.inject(Event::GP);
        }
    }
}

/// An access of what is no memory: a device, or an empty bus.
fn device<H: Host>(cx: &mut Cx<'_, H>, fault: NestedFault) {
    if !is_device(cx, fault.gpa) && map_own_device(cx, fault.gpa) {
        return;
    }
    let (hvm, vcpu) = (cx.hvm, cx.vcpu);
    // The emulator holds the back end, the device the rest of the context.
    let context = &mut *cx.context;
    let (backend, lapic) = context.parts();
    let mut touched = false;
    let mut device = |at: Gaddr, size: u8, value: Option<u64>| {
        access(hvm, vcpu, lapic, &mut touched, at, size, value)
    };
    let mut space = Devices {
        domain: &vcpu.domain,
        limits: hvm.domain.limits(),
        device: &mut device,
    };
    let outcome = emul::mmio(&mut **backend, &mut space, &fault);
    if touched {
        cx.context.lapic_written();
        arm_lapic_timer(cx.hvm, cx.context, cx.vcpu);
    }
    cx.finish(outcome, &fault);
}

/// An entry is there that allows the access: only a stale translation can have faulted.
fn spurious<H: Host>(cx: &mut Cx<'_, H>, fault: NestedFault) {
    if fault.present {
        cx.context.backend.flush_tlb();
    }
}

/// Whether accesses of the address must be emulated.
fn is_device<H: Host>(cx: &Cx<'_, H>, at: Gaddr) -> bool {
    if cx.context.lapic_settings().mmio_offset(at.raw()).is_some() {
        return true;
    }
    let devices = cx.hvm.domain.devices.as_ref();
    devices.is_some_and(|devices| devices.claims(at))
}

/// dom0 has the machine's devices at their own addresses, mapped at the first touch.
fn map_own_device<H: Host>(cx: &Cx<'_, H>, at: Gaddr) -> bool {
    let frame = Mfn::new(at.frame().raw());
    let Some(devices) = &cx.hvm.domain.devices else {
        return false;
    };
    let memory = &cx.vcpu.domain.memory;
    devices.may_map(frame, 1, cx.hvm.domain.vmm.frames)
        && memory.map_mmio(Gfn::new(frame.raw()), frame, 1).is_ok()
}

/// Does what a write of a local APIC's register asks for: at each write, as an instruction with REP
/// makes several.
pub(crate) fn apply<H: Host>(hvm: &HvmVcpu<H>, vcpu: &Vcpu, effect: Effect) {
    let (hvm, domain) = (&*hvm.domain, &*vcpu.domain);
    match effect {
        Effect::None => {}
        Effect::Ipi(request) => {
            send_ipi(&ApicBus { hvm, domain }, vcpu.id.index(), &request);
        }
        Effect::LevelEoi(vector) => {
            if let Some(devices) = &hvm.devices {
                devices.with(hvm, domain, |buses, side| buses.ioapics.eoi(vector, side));
            }
        }
        Effect::Enabled => vcpu.recheck_upcall(),
    }
}

fn access<H: Host>(
    hvm: &HvmVcpu<H>,
    vcpu: &Vcpu,
    lapic: &mut Lapic,
    lapic_touched: &mut bool,
    at: Gaddr,
    size: u8,
    value: Option<u64>,
) -> Option<u64> {
    if let Some(offset) = lapic.mmio_offset(at.raw()) {
        let now = clock(hvm, vcpu.domain.machine.now());
        *lapic_touched = true;
        let apply = |effect| apply(hvm, vcpu, effect);
        return Some(lapic.mmio(offset, size, value, now, apply));
    }
    if let Some(devices) = &hvm.domain.devices {
        let taken = devices.mmio(&hvm.domain, &vcpu.domain, at, size, value);
        if taken.is_some() {
            return taken;
        }
    }
    // The emulator reads and writes RAM itself; what is neither reads as ones and swallows writes,
    // as on a bus.
    if vcpu.domain.memory.lookup(at.frame()).is_some() {
        None
    } else {
        Some(u64::MAX)
    }
}
