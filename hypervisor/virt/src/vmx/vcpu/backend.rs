//! Loading a guest onto a CPU, running, and stepping over its instructions.
#![allow(unsafe_code, reason = "makes VMCSs current and gives them up")]

use core::fmt;

use oxen_types::Maddr;

use super::super::caps::proc;
use super::super::exit::Info;
use super::super::msrs::LOADED_MSRS;
use super::super::{host, insn, state};
use super::{INTERRUPT_SHADOW, SINGLE_STEP, VmxVcpu};
use crate::backend::{
    ApicAssist, Exit, RunDeadline, ShadowRoots, VcpuBackend, VcpuEmulation, VcpuEvents, Window,
};
use crate::phys_cpu::PhysCpu;
use crate::start;
use crate::step::stepped_flags;
use crate::x86::DR7_ENABLES;

/// The EPT pointer's attributes: write-back, four levels. Accessed and dirty bits stay off: entries
/// of our tables have both set from the start, and with them on a walk of the guest's own tables
/// counts as a write.
const EPTP_FLAGS: u64 = 6 | 3 << 3;

impl VcpuEmulation for VmxVcpu {
    fn insn_len(&self) -> Option<u8> {
        let len = self.info.insn_len;
        (1..=15).contains(&len).then_some(len)
    }

    fn insn_bytes(&self) -> &[u8] {
        &[]
    }

    fn advance_rip(&mut self, len: u8) {
        let rip = self.state.get(state::RIP).wrapping_add(u64::from(len));
        self.state.set(state::RIP, rip);
        self.state
            .change(state::INTERRUPTIBILITY, INTERRUPT_SHADOW, false);
        let (flags, traps) = stepped_flags(self.state.get(state::RFLAGS));
        if flags != self.state.get(state::RFLAGS) {
            self.state.set(state::RFLAGS, flags);
        }
        if traps {
            self.state.change(state::PENDING_DEBUG, SINGLE_STEP, true);
        }
    }

    fn flush_tlb(&mut self) {
        self.flush = true;
    }
}

impl VcpuBackend for VmxVcpu {
    fn load(&mut self, cpu: &mut PhysCpu) {
        cpu.spec.switch_to(&mut self.spec);
        // SAFETY: VMX is on, or there would be no `PhysCpu`; the VMCS is this vcpu's and active on
        // no other CPU, as `unload` clears it.
        let current = unsafe {
            if !self.prepared {
                let _ = insn::vmclear(self.vmcs_maddr);
            }
            insn::vmptrld(self.vmcs_maddr)
        };
        assert!(current.is_ok(), "VMPTRLD of this vcpu's VMCS");
        if !self.prepared {
            self.prepare();
        }
        host::write(&self.caps);
        self.write_efer();
        self.launched = false;
        self.fpu.load();
        self.write_tsc_aux();
        for index in 0..LOADED_MSRS.len() {
            self.write_msr(index);
        }
        if self.state.get(state::DR7) & DR7_ENABLES != 0 {
            self.load_debug_registers();
        }
        self.loaded = true;
    }

    fn unload(&mut self, _cpu: &mut PhysCpu) {
        if self.dr_loaded {
            self.save_debug_registers();
        }
        self.fpu.save();
        self.msrs = core::array::from_fn(|index| self.msr(index));
        self.loaded = false;
        self.state.fetch_all();
        // SAFETY: the VMCS is this vcpu's and current on this CPU. Once cleared, it can be loaded
        // on any.
        let cleared = unsafe { insn::vmclear(self.vmcs_maddr) };
        assert!(cleared.is_ok(), "VMCLEAR of this vcpu's VMCS");
    }

    fn run(&mut self, cpu: &mut PhysCpu) -> Exit {
        self.run_once(|vcpu| vcpu.enter(cpu))
    }

    fn apic_assist(&mut self) -> Option<&mut dyn ApicAssist> {
        if self.caps.apic == 0 {
            return None;
        }
        Some(self)
    }

    fn run_deadline(&mut self) -> Option<&mut dyn RunDeadline> {
        match self.caps.timer_shift {
            Some(_) if self.caps.timer_steady => Some(self),
            _ => None,
        }
    }

    fn set_nested_root(&mut self, root: Maddr) {
        self.state.set(state::EPTP, root.raw() | EPTP_FLAGS);
        self.flush_tlb();
    }

    fn set_shadow_roots(&mut self, roots: ShadowRoots) {
        self.put_on_shadow(roots);
        // Sets the guest's view of the registers too.
        self.reset(true);
    }

    fn move_shadow_roots(&mut self, roots: ShadowRoots) {
        self.move_roots(roots);
    }

    fn reset(&mut self, cold: bool) {
        self.pending = None;
        self.nmi_blocked = false;
        self.info = Info::default();
        self.request_interrupt_window(Window::Unwanted);
        let window = u64::from(proc::NMI_WINDOW);
        self.state.change(state::PROC_CONTROLS, window, false);
        for slot in [
            state::INTERRUPTIBILITY,
            state::PENDING_DEBUG,
            state::DEBUGCTL,
        ] {
            self.state.set(slot, 0);
        }
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
        let s = &self.state;
        let Info {
            reason,
            qualification,
            guest_physical,
            ..
        } = self.info;
        write!(
            f,
            "exit {reason:x} qualification {qualification:x} gpa {guest_physical:x} pending {:?} real cr0 {:x} cr4 {:x} \
             proc {:x} entry {:x} blocked {:x} vpid {:x} eptp {:x}",
            self.pending,
            s.get(state::CR0),
            s.get(state::CR4),
            s.get(state::PROC_CONTROLS),
            s.get(state::ENTRY_CONTROLS),
            s.get(state::INTERRUPTIBILITY),
            s.get(state::VPID),
            s.get(state::EPTP)
        )
    }
}

impl RunDeadline for VmxVcpu {
    fn set_deadline(&mut self, tsc: Option<u64>) {
        self.deadline = tsc;
    }
}

impl Drop for VmxVcpu {
    fn drop(&mut self) {
        if self.loaded {
            // SAFETY: the CPU must not keep a page that is about to be freed.
            let _ = unsafe { insn::vmclear(self.vmcs_maddr) };
        }
    }
}
