//! Guests without nested paging: page faults, INVLPG, and moves from and to control registers.

use oxen_types::Vaddr;
use oxen_virt::emul::{self, ControlOp};
use oxen_virt::policy::{self, MsrFault};
use oxen_virt::shadow::Answer;
use oxen_virt::walk::Paging;
use oxen_virt::{CpuMode, Event, Exit, Reg};

use super::{Cx, memory};

const CR0_TS: u64 = 1 << 3;
const PAGE_FAULT: u8 = 14;
const DOUBLE_FAULT: Event = Event::Exception {
    vector: 8,
    code: Some(0),
};

/// The guest's own fault, or one that the shadow settles.
pub fn fault(cx: &mut Cx<'_>, code: u32, address: Vaddr) {
    let context = &mut *cx.context;
    let paging = Paging::of(&context.backend.execution(), cx.hv.hv.phys_bits);
    let Some(shadow) = &mut context.shadow else {
        return;
    };
    match shadow.fault(&cx.hv.hv, &*cx.vcpu.domain.memory, &paging, address, code) {
        Answer::Fill(_) | Answer::Retry => {}
        Answer::Memory(fault) => memory::handle(cx, fault),
        Answer::Guest(code) => {
            cx.context.backend.set(Reg::Cr2, address.raw());
            deliver(cx, code);
        }
    }
}

/// A fault while another event was being delivered takes that one's place, or doubles (SDM vol. 3, 6.15).
fn deliver(cx: &mut Cx<'_>, code: u32) {
    let doubles = |vector| matches!(vector, 0 | 10..=13 | PAGE_FAULT);
    match cx.context.backend.pending_event() {
        Some(Event::Exception { vector: 8, .. }) => cx.crash("triple fault:", &Exit::Shutdown),
        Some(Event::Exception { vector, .. }) if doubles(vector) => cx.inject(DOUBLE_FAULT),
        _ => cx.inject(Event::page_fault(code)),
    }
}

/// MOV from and to control registers, CLTS, LMSW and SMSW.
pub fn control_register(cx: &mut Cx<'_>) {
    let Some((op, len)) = cx.with_memory(emul::control_op) else {
        // Another instruction is there now, or one with an operand in memory, which no kernel uses.
        oxen_arch::guest_log!(
            log::Level::Warn,
            "{}: no instruction on a control register at {:#x}",
            cx.name(),
            cx.context.backend.get(Reg::Rip)
        );
        return cx.inject(Event::UD);
    };
    match carry_out(cx, op) {
        Ok(()) => cx.context.backend.advance_rip(len),
        Err(MsrFault) => cx.inject(Event::GP),
    }
}

fn carry_out(cx: &mut Cx<'_>, op: ControlOp) -> Result<(), MsrFault> {
    let backend = &mut *cx.context.backend;
    let long = backend.mode() == CpuMode::Long64;
    match op {
        ControlOp::Read { control, register } => {
            let value = match control {
                0 => backend.get(Reg::Cr0),
                3 => backend.get(Reg::Cr3),
                4 => backend.get(Reg::Cr4),
                _ => return Err(MsrFault),
            };
            backend.gprs_mut().set(register, value);
        }
        ControlOp::Write { control, register } => {
            let value = backend.gprs().get(register);
            let value = if long { value } else { value & 0xffff_ffff };
            let cpuid = cx.hv.hv.cpuid.read();
            match control {
                0 => policy::write_cr0(backend, value)?,
                3 => {
                    policy::write_cr3(backend, &cpuid, value)?;
                    cx.context.new_address_space();
                }
                4 => policy::write_cr4(backend, &cpuid, value)?,
                _ => return Err(MsrFault),
            }
        }
        ControlOp::Clts => {
            let old = backend.get(Reg::Cr0);
            backend.set(Reg::Cr0, old & !CR0_TS);
        }
        ControlOp::LoadStatus { register } => {
            let value = backend.gprs().get(register);
            policy::write_status(backend, value)?;
        }
        ControlOp::StoreStatus { register } => {
            let value = backend.get(Reg::Cr0);
            let old = backend.gprs().get(register);
            let value = if long {
                value
            } else {
                old & !0xffff | value & 0xffff
            };
            backend.gprs_mut().set(register, value);
        }
        ControlOp::Invlpg { .. } => return Err(MsrFault),
    }
    Ok(())
}

/// Forgets one page: here, what the guest changed since its last flush.
pub fn invlpg(cx: &mut Cx<'_>) {
    let Some((ControlOp::Invlpg { .. }, len)) = cx.with_memory(emul::control_op) else {
        return; // Another instruction is there now: the guest runs that.
    };
    let context = &mut *cx.context;
    if let Some(shadow) = &mut context.shadow {
        shadow.invalidate(&cx.hv.hv);
    }
    context.backend.flush_tlb();
    context.backend.advance_rip(len);
}
