//! Guests without nested paging: page faults, INVLPG, and moves from and to control registers.

use oxen_paging::shadow::Answer;
use oxen_types::Vaddr;
use oxen_virt::emul::{self, ControlOutcome};
use oxen_virt::{ControlExit, ControlOp, Event, Exit, Reg};

use super::{Cx, memory};
use crate::guest_log;
use crate::host::Host;

const PAGE_FAULT: u8 = 14;
const DOUBLE_FAULT: Event = Event::Exception {
    vector: 8,
    code: Some(0),
};

/// The guest's own fault, or one that the shadow settles.
pub(crate) fn fault<H: Host>(cx: &mut Cx<'_, H>, code: u32, address: Vaddr) {
    let context = &mut *cx.context;
    let paging = context.backend.execution().paging(cx.hvm.domain.limits());
    let (Some(shadow), Some(shared)) = (&mut context.shadow, &cx.hvm.domain.shadow) else {
        return;
    };
    match shadow.fault(shared, &*cx.vcpu.domain.memory, &paging, address, code) {
        Answer::Fill(_) | Answer::Retry => {}
        Answer::Memory(fault) => memory::handle(cx, fault),
        Answer::Guest(code) => {
            cx.context.backend.set(Reg::Cr2, address.raw());
            deliver(cx, code);
        }
    }
}

/// A fault while another event was being delivered takes that one's place, or doubles (SDM vol. 3,
/// 6.15).
fn deliver<H: Host>(cx: &mut Cx<'_, H>, code: u32) {
    let doubles = |vector| matches!(vector, 0 | 10..=13 | PAGE_FAULT);
    match cx.context.backend.pending_event() {
        Some(Event::Exception { vector: 8, .. }) => cx.crash("triple fault:", &Exit::Shutdown),
        Some(Event::Exception { vector, .. }) if doubles(vector) => cx.inject(DOUBLE_FAULT),
        _ => cx.inject(Event::page_fault(code)),
    }
}

/// MOV from and to control registers, CLTS, LMSW and SMSW.
pub(crate) fn control_register<H: Host>(cx: &mut Cx<'_, H>, access: ControlExit) {
    let hvm = cx.hvm;
    let outcome = {
        let cpuid = hvm.domain.cpuid.read();
        cx.with_memory(|backend, space| emul::control_exit(backend, space, &cpuid, access))
    };
    match outcome {
        ControlOutcome::Done => {}
        ControlOutcome::NewAddressSpace => cx.context.new_address_space(),
        ControlOutcome::Inject(event) => cx.inject(event),
        ControlOutcome::Retry => guest_log!(
            log::Level::Debug,
            "{}: no instruction at {:#x} that does {access:?}",
            cx.name(),
            cx.context.backend.get(Reg::Rip)
        ),
    }
}

/// Forgets one page: here, what the guest changed since its last flush.
pub(crate) fn invlpg<H: Host>(cx: &mut Cx<'_, H>) {
    let Some((ControlOp::Invlpg { .. }, len)) = cx.with_memory(emul::control_op) else {
        return; // Another instruction is there now: the guest runs that.
    };
    let context = &mut *cx.context;
    if let Some(shared) = &cx.hvm.domain.shadow {
        shared.invalidate();
    }
    context.backend.flush_tlb();
    context.backend.advance_rip(len);
}
