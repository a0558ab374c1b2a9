//! One entry to a guest with VMRUN, and the meaning of the exit.
#![allow(unsafe_code, reason = "enters the guest")]

use super::super::event::encode_event;
use super::super::intercept::g1;
use super::super::vmcb::{self, Clean, TLB_FLUSH_ALL, TLB_FLUSH_ASID, TLB_KEEP};
use super::super::{SvmFeatures, exit, switch};
use super::{INTERRUPT_SHADOW, SvmVcpu};
use crate::backend::{Event, Exit, Segment, VcpuEvents, Window};
use crate::phys_cpu::PhysCpu;
use crate::step::enterable_rip;
use crate::x86::{CR0_PE, EFER_LMA};

impl SvmVcpu {
    /// Enters once and interprets the exit.
    pub(super) fn run_once(&mut self, mut enter: impl FnMut(&mut Self)) -> Exit {
        enter(self);
        self.after_exit()
    }

    /// Enters the guest until its next exit.
    pub(super) fn enter(&mut self, cpu: &mut PhysCpu) {
        if !cpu.tags.is_current(self.tag) {
            self.tag = cpu.tags.allocate();
            self.vmcb.control.asid = self.tag.number();
            self.clean.remove(Clean::ASID);
            self.flush_asid = false;
        }
        let flush_asid = core::mem::take(&mut self.flush_asid);
        let (c, s) = (&mut self.vmcb.control, &mut self.vmcb.save);
        c.tlb_control = if cpu.tags.take_flush() {
            TLB_FLUSH_ALL
        } else if flush_asid {
            TLB_FLUSH_ASID
        } else {
            TLB_KEEP
        };
        c.clean = if self.caps.has(SvmFeatures::CLEAN_BITS) {
            self.clean.bits()
        } else {
            0
        };
        (s.rax, s.rsp) = (self.regs.rax, self.regs.rsp);
        self.tidy();
        cpu.spec.enter(&self.spec);
        let work = cpu.spec.switch(&self.spec, self.domain.trusted);
        let (vmcb, host) = (self.vmcb_maddr.raw(), cpu.host_state.raw());
        // SAFETY: SVM is on, or there would be no `PhysCpu`, which has the page of this CPU's saved
        // state; the VMCB is this vcpu's, initialised by `new`, and `&mut self` excludes other
        // users; the caller set the nested root to tables of the guest's p2m; `load` has loaded the
        // guest's FPU state.
        unsafe { switch::enter(&mut self.regs, vmcb, host, &work) };
        cpu.spec.leave(&self.spec);
        let (c, s) = (&mut self.vmcb.control, &self.vmcb.save);
        (self.regs.rax, self.regs.rsp) = (s.rax, s.rsp);
        c.event_inj = 0;
        self.clean = Clean::all();
    }

    /// Brings RIP and the pending event into a form that VMRUN accepts, after emulation may have
    /// left another.
    pub(super) fn tidy(&mut self) {
        let (c, s) = (&mut self.vmcb.control, &mut self.vmcb.save);
        let long_code = s.efer & EFER_LMA != 0 && Segment::from(s.cs).long();
        let (rip, faults) = enterable_rip(s.rip, long_code);
        s.rip = rip;
        if faults && c.event_inj & vmcb::event::VALID == 0 {
            c.event_inj = encode_event(Event::GP);
        }
        if s.cr0 & CR0_PE == 0 {
            // Exceptions in real mode have no error code, but the CPU would push one.
            c.event_inj &= !vmcb::event::HAS_CODE;
        }
    }

    /// Interprets the exit, and handles those exits that only the back end can. Nothing here enters
    /// the guest again: see [`Exit::Settled`].
    fn after_exit(&mut self) -> Exit {
        self.requeue_interrupted_event();
        if self.nmi_iret_at.is_some_and(|at| at != self.vmcb.save.rip) {
            self.nmi_iret_at = None;
            self.nmi_blocked = false;
        }
        // The intercepts keep the guest from loading CR3. This is the second line of defence: a
        // guest that ran with another CR3 used page tables of its own choice.
        if let Some(guest) = &self.shadowed
            && self.vmcb.save.cr3 != guest.root()
        {
            return Exit::ForeignRoot(self.vmcb.save.cr3);
        }
        match self.vmcb.control.exit_code {
            code if exit::is_debug_register(code) => {
                self.load_debug_registers();
                Exit::Settled
            }
            exit::EXCEPTION_DB => {
                self.inject(Event::DB);
                Exit::Settled
            }
            exit::EXCEPTION_AC => {
                self.inject(Event::AC);
                Exit::Settled
            }
            exit::VINTR => {
                self.note_priority();
                self.request_interrupt_window(Window::Unwanted);
                Exit::InterruptWindow
            }
            exit::IRET => {
                // The intercept comes before the IRET runs. NMIs stay blocked until an exit at
                // another RIP shows that the IRET has run.
                self.intercept(g1::IRET, false);
                self.nmi_iret_at = Some(self.vmcb.save.rip);
                Exit::NmiWindow
            }
            _ => {
                let assists = self.caps.has(SvmFeatures::DECODE_ASSISTS);
                match exit::decode(&self.vmcb.control, assists) {
                    Exit::ExternalInterrupt | Exit::HostNmi if self.loses_shadow() => {
                        Exit::ShadowLost
                    }
                    exit => exit,
                }
            }
        }
    }

    /// The guest is in an interrupt shadow, and VMRUN of this emulator would not restore that.
    fn loses_shadow(&self) -> bool {
        self.quirks.shadow_lost && self.vmcb.control.int_state & INTERRUPT_SHADOW != 0
    }
}
