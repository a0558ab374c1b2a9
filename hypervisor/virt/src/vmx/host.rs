//! The host's part of a VMCS: what exits load (SDM volume 3, 25.5). It is that of the CPU which
//! runs this, written anew whenever a vcpu is loaded. Exits leave larger limits in GDTR and IDTR
//! than ours; nothing lies behind the tables that an interrupt or a selector of ours could reach.
#![allow(unsafe_code, reason = "reads selectors, writes the host state")]

use core::arch::asm;

use oxen_arch::cpu::regs;
use x86_64::registers::control::{Cr0, Cr4};

use super::caps::{VmxCaps, leave};
use super::{field, insn, switch};
use crate::x86::{MSR_EFER, MSR_GS_BASE, MSR_PAT};

/// RPL and TI must be 0, as they are in ours.
const SELECTOR: u64 = 0xfff8;

/// Into the current VMCS.
pub(super) fn write(caps: &VmxCaps) {
    let [gdt, idt, tss] = bases();
    // SAFETY: reads the selectors.
    let selectors: [u64; 7] = unsafe {
        let (es, cs, ss, ds, fs, gs, tr): (u64, u64, u64, u64, u64, u64, u64);
        asm!("mov {0:r}, es", "mov {1:r}, cs", "mov {2:r}, ss", "mov {3:r}, ds", "mov {4:r}, fs",
             "mov {5:r}, gs", "str {6:r}", out(reg) es, out(reg) cs, out(reg) ss, out(reg) ds,
             out(reg) fs, out(reg) gs, out(reg) tr, options(nomem, nostack, preserves_flags));
        [es, cs, ss, ds, fs, gs, tr]
    };
    // SAFETY: the state of this CPU as it is, which is what exits are to bring back; `exit_point`
    // takes the stack over from `enter`. All CPUs have PAT and EFER.
    unsafe {
        for (field, selector) in field::HOST_SELECTORS.into_iter().zip(selectors) {
            insn::vmwrite(field, selector & SELECTOR);
        }
        insn::vmwrite(field::HOST_TR, selectors[6] & SELECTOR);
        insn::vmwrite(field::HOST_CR0, Cr0::read_raw());
        insn::vmwrite(field::HOST_CR3, regs::page_table_root().raw());
        insn::vmwrite(field::HOST_CR4, Cr4::read_raw());
        insn::vmwrite(field::HOST_FS_BASE, 0);
        insn::vmwrite(field::HOST_GS_BASE, insn::rdmsr(MSR_GS_BASE));
        insn::vmwrite(field::HOST_GDT_BASE, gdt);
        insn::vmwrite(field::HOST_IDT_BASE, idt);
        insn::vmwrite(field::HOST_TR_BASE, tss);
        if caps.exit & leave::LOAD_PAT != 0 {
            insn::vmwrite(field::HOST_PAT, insn::rdmsr(MSR_PAT));
        }
        if caps.exit & leave::LOAD_EFER != 0 {
            insn::vmwrite(field::HOST_EFER, insn::rdmsr(MSR_EFER));
        }
        for field in field::HOST_SYSENTER {
            insn::vmwrite(field, 0);
        }
        insn::vmwrite(field::HOST_RIP, switch::exit_point as *const () as u64);
    }
}

#[cfg(target_os = "none")]
fn bases() -> [u64; 3] {
    use oxen_arch::{cpu, trap};
    [cpu::gdt_base(), trap::idt_base(), cpu::tss_base()].map(|base| base.raw())
}

/// Tests on the host never enter a guest.
#[cfg(not(target_os = "none"))]
fn bases() -> [u64; 3] {
    [0; 3]
}
