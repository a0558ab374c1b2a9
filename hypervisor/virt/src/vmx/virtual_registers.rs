//! Guests without nested paging: what the CPU's control registers hold is not what the guest sees.
//!
//! The CPU always pages, through the shadow, and always protects the kernel's pages from its own
//! writes. A guest in long mode runs on the shadow's four levels, any other on its three levels
//! (PAE), whose top entries each entry to the guest loads. All bits of CR0 and CR4 are ours: the
//! read shadows answer the guest's reads, and what it changes exits. Real mode is virtual-8086
//! mode, as on any CPU without unrestricted guests (`restricted`).
//!
//! PAT and EFER need no controls that older CPUs lack: memory types are those of the hypervisor's
//! own tables, and of EFER the entry switches what makes long mode; SCE is in the CPU while the
//! vcpu is loaded, and NXE is always on.
#![allow(unsafe_code, reason = "writes the CPU's EFER.SCE")]

use super::caps::{VmxCaps, enter, leave, proc, second};
use super::state::{self, State};
use super::{VmxVcpu, enter::EXCEPTIONS, insn};
use crate::backend::{ControlExit, ControlOp, Event, Exit, Reg, VcpuEmulation, VcpuEvents};
use crate::policy;
use crate::tags::Tag;
use crate::x86::*;
use oxen_types::paging::ShadowRoots;

const PAGE_FAULT: u64 = 1 << 14;
/// Bits that a CPU has: PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_KNOWN: u64 = 0xe005_003f;

/// The registers as the guest sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct VirtualRegisters {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    pat: u64,
    roots: ShadowRoots,
}

impl VirtualRegisters {
    fn new(roots: ShadowRoots) -> Self {
        Self {
            cr0: CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            pat: PAT_RESET,
            roots,
        }
    }

    /// One of the registers that are kept here.
    pub(super) fn get(&self, reg: Reg) -> Option<u64> {
        Some(match reg {
            Reg::Cr0 => self.cr0,
            Reg::Cr3 => self.cr3,
            Reg::Cr4 => self.cr4,
            Reg::Efer => self.efer,
            Reg::Pat => self.pat,
            _ => return None,
        })
    }

    /// Sets one of them. False for others.
    fn set(&mut self, reg: Reg, value: u64) -> bool {
        match reg {
            Reg::Cr0 => self.cr0 = value | CR0_ET,
            Reg::Cr3 => self.cr3 = value,
            Reg::Cr4 => self.cr4 = value,
            Reg::Efer => self.efer = value,
            Reg::Pat => self.pat = value,
            _ => return false,
        }
        true
    }

    /// Puts into the VMCS what the CPU needs for what the guest sees.
    fn apply(&self, s: &mut State, caps: &VmxCaps) {
        let paging = self.cr0 & CR0_PG != 0;
        let long = self.efer & EFER_LMA != 0;
        // Memory is cached for guests all the time.
        let cr0 = self.cr0 & CR0_KNOWN & caps.cr0_allowed & !(CR0_CD | CR0_NW);
        s.set(
            state::CR0,
            cr0 | caps.cr0_fixed | CR0_PE | CR0_PG | CR0_WP | CR0_ET,
        );
        s.set(state::CR0_SHADOW, self.cr0);
        let unused = CR4_PCIDE | CR4_PGE | CR4_LA57 | CR4_PKE;
        // Without paging no page is a user's.
        let user_pages = if paging { 0 } else { CR4_SMEP | CR4_SMAP };
        let cr4 = self.cr4 & caps.cr4_allowed & !(unused | user_pages);
        s.set(state::CR4, cr4 | caps.cr4_fixed | CR4_PAE | CR4_MCE);
        s.set(state::CR4_SHADOW, self.cr4);
        let root = if long {
            self.roots.long
        } else {
            self.roots.pae
        };
        s.set(state::CR3, root.raw());
        s.change(state::ENTRY_CONTROLS, enter::GUEST_64.into(), long);
    }
}

impl VmxCaps {
    /// Leaves off, for a guest on a shadow, the parts of the CPU that need EPT, and adds those that
    /// the shadow needs.
    fn on_shadow(&mut self) {
        self.second &= !(second::EPT | second::UNRESTRICTED | second::INVPCID);
        self.proc |= proc::CR3_LOAD | proc::CR3_STORE | proc::INVLPG;
        self.exit &= !(leave::SAVE_PAT | leave::LOAD_PAT | leave::SAVE_EFER | leave::LOAD_EFER);
        self.entry &= !(enter::LOAD_PAT | enter::LOAD_EFER);
    }
}

impl VmxVcpu {
    /// Before the first load.
    pub(super) fn put_on_shadow(&mut self, roots: ShadowRoots) {
        self.caps.on_shadow();
        let s = &mut self.state;
        // Not all CPUs have these fields.
        for slot in [state::EFER, state::PAT, state::EPTP] {
            s.lack(slot);
        }
        s.set(state::PROC_CONTROLS, self.caps.proc.into());
        s.set(state::ENTRY_CONTROLS, self.caps.entry.into());
        s.set(state::EXCEPTIONS, EXCEPTIONS | PAGE_FAULT);
        let guest = VirtualRegisters::new(roots);
        guest.apply(s, &self.caps);
        self.shadowed = Some(guest);
    }

    pub(super) fn move_roots(&mut self, roots: ShadowRoots) {
        if let Some(guest) = &mut self.shadowed {
            guest.roots = roots;
            guest.apply(&mut self.state, &self.caps);
        }
    }

    /// Sets a register that the guest on a shadow sees and the CPU does not have. False for others.
    pub(super) fn set_shadowed(&mut self, reg: Reg, value: u64) -> bool {
        let Some(guest) = &mut self.shadowed else {
            return false;
        };
        if !guest.set(reg, value) {
            return false;
        }
        guest.apply(&mut self.state, &self.caps);
        if self.loaded && reg == Reg::Efer {
            self.write_efer();
        }
        true
    }

    /// While the vcpu is loaded, SYSCALL is the guest's.
    pub(super) fn write_efer(&self) {
        if let Some(guest) = &self.shadowed {
            // SAFETY: the hypervisor does not use SYSCALL; all other bits stay.
            unsafe {
                let host = insn::rdmsr(MSR_EFER) & !EFER_SCE;
                insn::wrmsr(MSR_EFER, host | guest.efer & EFER_SCE);
            }
        }
    }

    /// An access to a control register, of which the exit tells all. LMSW is done here, as its
    /// operand may have been in memory.
    pub(super) fn shadowed_control_register(&mut self) -> Exit {
        let q = self.info.qualification;
        if let Some(op) = control_op(q) {
            return Exit::ControlRegister(ControlExit::Known(op));
        }
        match policy::write_status(self, q >> 16 & 0xffff) {
            Ok(()) => self.advance_rip(self.info.insn_len),
            Err(policy::MsrFault) => self.inject(Event::GP),
        }
        Exit::Settled
    }

    /// Translations are tagged with the VPID alone: nothing is cached under a new one. Without
    /// VPIDs each entry flushes.
    pub(super) fn flush_shadow(&mut self) {
        if self.shadowed.is_some() && core::mem::take(&mut self.flush) {
            self.tag = Tag::NONE;
        }
    }
}

/// The operation that the qualification of an exit tells (SDM volume 3, table 28-3). `None`: LMSW.
pub(super) fn control_op(qualification: u64) -> Option<ControlOp> {
    let (control, register) = (qualification as u8 & 15, (qualification >> 8) as u8 & 15);
    Some(match qualification >> 4 & 3 {
        0 => ControlOp::Write { control, register },
        1 => ControlOp::Read { control, register },
        2 => ControlOp::Clts,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::caps::tests::caps;
    use super::*;
    use oxen_types::Maddr;

    const ROOTS: ShadowRoots = ShadowRoots {
        long: Maddr::new(0x1_2345_6000),
        pae: Maddr::new(0x1000),
    };

    fn applied(registers: &[(Reg, u64)]) -> State {
        let (mut guest, mut s, mut caps) = (VirtualRegisters::new(ROOTS), State::new(), caps());
        caps.on_shadow();
        for (reg, value) in registers {
            assert!(guest.set(*reg, *value));
        }
        guest.apply(&mut s, &caps);
        s
    }

    #[test]
    fn the_exit_tells_the_operation() {
        let (control, register) = (3, 9);
        assert_eq!(
            control_op(0x903),
            Some(ControlOp::Write { control, register })
        );
        assert_eq!(
            control_op(0x913),
            Some(ControlOp::Read { control, register })
        );
        assert_eq!(control_op(0x20), Some(ControlOp::Clts));
        assert_eq!(control_op(0xffff_0030), None);
    }

    #[test]
    fn the_cpu_always_pages() {
        let s = applied(&[(Reg::Cr0, CR0_CD | CR0_NW), (Reg::Cr4, CR4_SMEP | CR4_PGE)]);
        assert_eq!(
            s.get(state::CR0),
            CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG
        );
        assert_eq!(s.get(state::CR0_SHADOW), CR0_CD | CR0_NW | CR0_ET);
        assert_eq!(s.get(state::CR4), CR4_PAE | CR4_MCE | 1 << 13);
        assert_eq!(s.get(state::CR4_SHADOW), CR4_SMEP | CR4_PGE);
        assert_eq!(s.get(state::CR3), ROOTS.pae.raw());
        assert_eq!(s.get(state::ENTRY_CONTROLS) & u64::from(enter::GUEST_64), 0);
    }

    #[test]
    fn long_mode_has_four_levels() {
        let s = applied(&[
            (Reg::Cr0, CR0_PE | CR0_PG),
            (Reg::Cr3, 0x5000),
            (Reg::Cr4, CR4_PAE | CR4_SMEP),
            (Reg::Efer, EFER_LME | EFER_LMA | EFER_SCE),
        ]);
        assert_eq!(s.get(state::CR3), ROOTS.long.raw());
        assert_eq!(s.get(state::CR4) & CR4_SMEP, CR4_SMEP);
        let long = u64::from(enter::GUEST_64);
        assert_eq!(s.get(state::ENTRY_CONTROLS) & long, long);
    }

    #[test]
    fn nothing_of_newer_cpus_is_asked_for() {
        let mut caps = caps();
        caps.on_shadow();
        assert!(!caps.unrestricted() && !caps.has_second(second::EPT));
        assert_eq!(caps.entry & (enter::LOAD_PAT | enter::LOAD_EFER), 0);
        assert_eq!(caps.exit & (leave::LOAD_PAT | leave::SAVE_EFER), 0);
        let exits = proc::CR3_LOAD | proc::CR3_STORE | proc::INVLPG;
        assert_eq!(caps.proc & exits, exits);
    }
}
