//! The meaning of an exit, and the exits that the back end handles itself.

use super::super::caps::proc;
use super::super::exit::{self, reason};
use super::super::refused::Refused;
use super::super::{control, event, insn, state};
use super::{INTERRUPT_SHADOW, SINGLE_STEP, VmxVcpu};
use crate::backend::{Event, Exit, SegReg, VcpuEmulation, VcpuEvents, VcpuRegisters, Window};
use crate::x86::EFER_LMA;

const DR7_GD: u64 = 1 << 13;

impl VmxVcpu {
    /// Enters once and interprets the exit.
    pub(super) fn run_once(
        &mut self,
        mut enter: impl FnMut(&mut Self) -> Result<(), Refused>,
    ) -> Exit {
        match enter(self) {
            Ok(()) => self.after_exit(),
            Err(Refused::MachineCheck) => Exit::HostMachineCheck,
            Err(Refused::Because(why)) => {
                log::error!("VM entry failed: {why}");
                Exit::InvalidState
            }
        }
    }

    /// Interprets the exit, and handles those exits that only the back end can. Nothing here enters
    /// the guest again: see [`Exit::Settled`].
    fn after_exit(&mut self) -> Exit {
        self.settle();
        match self.info.reason {
            reason::DEBUG_REGISTER => {
                self.load_debug_registers();
                Exit::Settled
            }
            reason::CONTROL_REGISTER => match self.shadowed {
                Some(_) => self.shadowed_control_register(),
                None => self.write_control_register(),
            },
            reason::INTERRUPT_WINDOW => {
                self.request_interrupt_window(Window::Unwanted);
                Exit::InterruptWindow
            }
            reason::NMI_WINDOW => {
                self.nmi_blocked = false;
                let window = u64::from(proc::NMI_WINDOW);
                self.state.change(state::PROC_CONTROLS, window, false);
                Exit::NmiWindow
            }
            reason::INTERRUPT if self.info.event & event::VALID != 0 => {
                Exit::TakenInterrupt(self.info.event as u8)
            }
            reason::APIC_WRITE => Exit::SelfIpi(self.apic.self_ipi()),
            reason::PAUSE => {
                // A loop that exits resumes at its PAUSE. Where each PAUSE exits, the guest would
                // not get past the instruction.
                if self.caps.proc & proc::PAUSE != 0 {
                    self.advance_rip(self.info.insn_len);
                }
                Exit::Pause
            }
            reason::EXCEPTION if self.real_mode_instruction() => Exit::RealMode,
            _ => self.reflect(exit::decode(&self.info, self.state.get(state::RIP))),
        }
    }

    /// Gives exceptions back to the guest that are intercepted only so that the CPU's loop runs.
    fn reflect(&mut self, exit: Exit) -> Exit {
        match exit {
            Exit::Exception { vector: 1, .. } => self.debug_exception(),
            Exit::Exception { vector: 17, .. } => self.inject(Event::AC),
            Exit::HostNmi => {
                insn::raise_nmi();
                return Exit::HostNmi;
            }
            exit => return exit,
        }
        Exit::Settled
    }

    /// Handles a MOV to CR0 or CR4 that changes a bit which the hypervisor owns. Other accesses do
    /// not exit on CPUs with unrestricted guests.
    fn write_control_register(&mut self) -> Exit {
        let q = self.info.qualification;
        // Outside of 64-bit mode the operand has 32 bits.
        let long = self.state.get(state::EFER) & EFER_LMA != 0 && self.segment(SegReg::Cs).long();
        let value = self.regs.get((q >> 8) as u8);
        let value = if long { value } else { value & 0xffff_ffff };
        if !self.caps.unrestricted()
            && let Some(exit) = self.write_restricted(q, value)
        {
            return exit;
        }
        // Only MOV to a control register exits.
        let done = match (q & 15, q >> 4 & 3) {
            (0, 0) => control::write_cr0(&mut self.state, value),
            (4, 0) => control::write_cr4(&mut self.state, &self.caps, value),
            _ => control::Write::Fault,
        };
        if done == control::Write::Fault {
            self.inject(Event::GP);
        }
        Exit::Settled
    }

    /// Reflects #DB. The exit has not changed DR6 and DR7, but the guest's handler must find in
    /// them what a CPU leaves there (SDM volume 3, 28.1).
    fn debug_exception(&mut self) {
        const CAUSES: u64 = 0x600f;
        let causes = self.info.qualification & CAUSES;
        let dr6 = self.dr6() & !0xf | causes;
        self.set_dr6(dr6);
        if self.info.event & event::TYPE_MASK == event::ICEBP {
            self.advance_rip(self.info.insn_len);
            self.state.change(state::PENDING_DEBUG, SINGLE_STEP, false);
        }
        // Behind MOV SS with RFLAGS.TF set, entries require a pending single step (SDM volume 3,
        // 27.3.1.5).
        self.state
            .change(state::INTERRUPTIBILITY, INTERRUPT_SHADOW, false);
        self.state.change(state::DR7, DR7_GD, false);
        self.inject(Event::DB);
    }
}
