//! Loading a guest onto a CPU, running, and stepping over its instructions.

use core::fmt;

use oxen_types::Maddr;

use super::super::SvmFeatures;
use super::super::intercept::{self, g1};
use super::super::virtual_registers::VirtualRegisters;
use super::super::vmcb::Clean;
use super::{INTERRUPT_SHADOW, SvmVcpu};
use crate::backend::{
    ApicAssist, Event, Exit, RunDeadline, ShadowRoots, VcpuBackend, VcpuEmulation, VcpuEvents,
    Window,
};
use crate::phys_cpu::PhysCpu;
use crate::start;
use crate::step::stepped_flags;
use crate::tags::Tag;
use crate::x86::{DR6_BS, DR7_ENABLES};

/// Makes a host interrupt pending on this CPU, which ends the next entry at once.
#[cfg(target_os = "none")]
fn interrupt_this_cpu() {
    oxen_arch::ipi::kick(oxen_arch::cpu::cpu_id());
}

/// Tests on the host never enter a guest.
#[cfg(not(target_os = "none"))]
fn interrupt_this_cpu() {}

impl VcpuEmulation for SvmVcpu {
    fn insn_len(&self) -> Option<u8> {
        if !self.caps.has(SvmFeatures::NEXT_RIP) {
            return None;
        }
        let len = self.vmcb.control.next_rip.checked_sub(self.vmcb.save.rip)?;
        (1..=15).contains(&len).then_some(len as u8)
    }

    fn insn_bytes(&self) -> &[u8] {
        let c = &self.vmcb.control;
        if self.caps.has(SvmFeatures::DECODE_ASSISTS) {
            c.insn.get(..usize::from(c.fetched & 15)).unwrap_or(&[])
        } else {
            &[]
        }
    }

    fn advance_rip(&mut self, len: u8) {
        let s = &mut self.vmcb.save;
        s.rip = s.rip.wrapping_add(u64::from(len));
        self.vmcb.control.int_state &= !INTERRUPT_SHADOW;
        let (flags, traps) = stepped_flags(s.rflags);
        s.rflags = flags;
        if traps && !self.event_pending() {
            self.vmcb.save.dr6 |= DR6_BS;
            self.clean.remove(Clean::DRX);
            self.inject(Event::DB);
        }
    }

    fn flush_tlb(&mut self) {
        if self.caps.has(SvmFeatures::FLUSH_BY_ASID) {
            self.flush_asid = true;
        } else {
            self.tag = Tag::NONE;
        }
    }
}

impl VcpuBackend for SvmVcpu {
    fn load(&mut self, cpu: &mut PhysCpu) {
        cpu.spec.switch_to(&mut self.spec);
        // The CPU's cache of VMCB fields is another vcpu's, or this vcpu's from before it ran
        // elsewhere.
        self.clean = Clean::empty();
        self.fpu.load();
        self.write_tsc_aux();
        if self.vmcb.save.dr7 & DR7_ENABLES != 0 {
            self.load_debug_registers();
        }
        self.loaded = true;
    }

    fn unload(&mut self, _cpu: &mut PhysCpu) {
        if self.dr_loaded {
            self.save_debug_registers();
        }
        if self.quirks.xsetbv_runs {
            self.fpu.adopt_xcr0();
        }
        self.fpu.save();
        self.loaded = false;
    }

    fn run(&mut self, cpu: &mut PhysCpu) -> Exit {
        if self.quirks.injects_twice && matches!(self.pending_event(), Some(Event::Interrupt(_))) {
            // An exit right behind the injection: see `Quirks::injects_twice`.
            interrupt_this_cpu();
        }
        self.run_once(|vcpu| vcpu.enter(cpu))
    }

    fn apic_assist(&mut self) -> Option<&mut dyn ApicAssist> {
        None
    }

    fn run_deadline(&mut self) -> Option<&mut dyn RunDeadline> {
        None
    }

    fn set_nested_root(&mut self, root: Maddr) {
        self.vmcb.control.nested_cr3 = root.raw();
        self.clean.remove(Clean::NESTED);
        self.flush_tlb();
    }

    fn set_shadow_roots(&mut self, roots: ShadowRoots) {
        let guest = VirtualRegisters::new(roots);
        guest.apply(&mut self.vmcb.save);
        self.shadowed = Some(guest);
        let c = &mut self.vmcb.control;
        c.nested_ctl = 0;
        c.cr_read |= intercept::CR_SHADOWED;
        c.cr_write |= intercept::CR_SHADOWED;
        c.exceptions |= intercept::PAGE_FAULT;
        c.general1 |= g1::INVLPG;
        self.clean = Clean::empty();
        // Sets the guest's view of the registers too.
        self.reset(true);
    }

    fn move_shadow_roots(&mut self, roots: ShadowRoots) {
        if let Some(guest) = &mut self.shadowed {
            guest.roots = roots;
            guest.apply(&mut self.vmcb.save);
            self.clean.remove(Clean::CRX);
        }
    }

    fn reset(&mut self, cold: bool) {
        self.request_interrupt_window(Window::Unwanted);
        self.intercept(g1::IRET, false);
        self.nmi_blocked = false;
        self.nmi_iret_at = None;
        self.vmcb.control.event_inj = 0;
        self.vmcb.control.int_state = 0;
        start::init(self, cold);
        if cold {
            self.fpu.reset();
            if self.loaded {
                self.fpu.load();
            }
        }
        self.flush_tlb();
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::dump::dump(f, self)?;
        let c = &self.vmcb.control;
        write!(
            f,
            "exit {:x} info {:x} {:x} intinfo {:x} inj {:x} int_ctl {:x} shadow {:x} asid {} ncr3 {:x}",
            c.exit_code,
            c.exit_info1,
            c.exit_info2,
            c.exit_int_info,
            c.event_inj,
            c.int_ctl,
            c.int_state,
            c.asid,
            c.nested_cr3
        )
    }
}
