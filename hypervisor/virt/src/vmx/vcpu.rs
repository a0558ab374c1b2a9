//! The VT-x back end: one virtual CPU as a VMCS with what the VMCS does not hold.
#![allow(unsafe_code, reason = "makes VMCSs current and gives them up")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use oxen_types::Maddr;

use super::apic::Apic;
use super::caps::{VmxCaps, proc, second};
use super::cpu::Page;
use super::enter::EXCEPTIONS;
use super::exit::{self, Info, reason};
use super::msrs::LOADED_MSRS;
use super::refused::Refused;
use super::shadow::Shadowed;
use super::{control, event, host, insn, segment, state};
use crate::backend::{Event, Exit, Gprs, Reg, SegReg, Segment, ShadowRoots, VcpuBackend, Window};
use crate::controls::DomainControls;
use crate::dev::lapic::{LapicImage, LapicPosted};
use crate::fpu::Fpu;
use crate::platform::{PhysCpu, Platform, ToMaddr, VirtError};
use crate::spec::SpecVcpu;
use crate::start;
use crate::step::stepped_flags;
use crate::tags::Tag;
use crate::x86::*;

/// Interrupts wait for an instruction after STI and MOV SS.
const SHADOW: u64 = 3;
const SINGLE_STEP: u64 = 1 << 14;
const DR7_GD: u64 = 1 << 13;
/// Write-back, four levels. Not accessed and dirty bits: our tables have them set from the start, and
/// with them on each walk of the guest's own tables would count as a write.
const EPTP_FLAGS: u64 = 6 | 3 << 3;

pub struct VmxVcpu {
    /// RSP travels through the VMCS.
    pub(super) regs: Gprs,
    pub(super) state: state::State,
    pub(super) info: Info,
    pub(super) caps: VmxCaps,
    _vmcs: Box<Page>,
    vmcs_maddr: Maddr,
    pub(super) apic: Apic,
    to_maddr: ToMaddr,
    pub(super) domain: Arc<DomainControls>,
    /// The controls that never change have been written.
    pub(super) prepared: bool,
    pub(super) launched: bool,
    pub(super) tag: Tag,
    pub(super) flush: bool,
    pub(super) pending: Option<Event>,
    /// From an NMI's delivery to the exit that tells of its handler's end. The VMCS says the same, but in an
    /// emulator (Bochs 2.7) entries block NMIs and never unblock them, so that one guest's state gets into another.
    pub(super) nmi_blocked: bool,
    /// Of the TSC: runs end when it comes.
    pub(super) deadline: Option<u64>,
    fpu: Fpu,
    pub(super) cr2: u64,
    /// DR0-3 and DR6, while the CPU does not hold them.
    pub(super) dr: [u64; 4],
    pub(super) dr6: u64,
    pub(super) dr_loaded: bool,
    /// In the order of `LOADED_MSRS`, while the CPU does not hold them.
    pub(super) msrs: [u64; 5],
    pub(super) tsc_aux: u64,
    pub(super) spec: SpecVcpu,
    /// What the guest sees, if it runs without nested paging.
    pub(super) shadowed: Option<Shadowed>,
    pub(super) loaded: bool,
}

impl VmxVcpu {
    pub fn new(
        platform: &Platform,
        caps: VmxCaps,
        domain: Arc<DomainControls>,
        to_maddr: ToMaddr,
    ) -> Result<Self, VirtError> {
        let (vmcs, vmcs_maddr) = Page::new(caps.revision, to_maddr)?;
        let mut vcpu = Self {
            regs: Gprs::default(),
            state: state::State::new(),
            info: Info::default(),
            caps,
            _vmcs: vmcs,
            vmcs_maddr,
            apic: Apic::new(to_maddr)?,
            to_maddr,
            domain,
            prepared: false,
            launched: false,
            tag: Tag::NONE,
            flush: false,
            pending: None,
            nmi_blocked: false,
            deadline: None,
            fpu: Fpu::new(platform.fpu)?,
            cr2: 0,
            dr: [0; 4],
            dr6: DR6_RESET,
            dr_loaded: false,
            msrs: [0; 5],
            tsc_aux: 0,
            spec: SpecVcpu::default(),
            shadowed: None,
            loaded: false,
        };
        if !caps.has_second(second::VPID) {
            vcpu.state.lack(state::VPID);
        }
        let (proc, entry) = (u64::from(caps.proc), u64::from(caps.entry));
        vcpu.state.set(state::PROC_CONTROLS, proc);
        vcpu.state.set(state::ENTRY_CONTROLS, entry);
        vcpu.state.set(state::PIN_CONTROLS, caps.pin.into());
        vcpu.state.set(state::EXCEPTIONS, EXCEPTIONS);
        vcpu.reset(true);
        Ok(vcpu)
    }

    /// MOV to CR0 or CR4 that changes a bit of ours: other accesses do not exit where guests are unrestricted.
    fn write_control_register(&mut self) -> Exit {
        let q = self.info.qualification;
        // Outside 64-bit mode only half of the register counts.
        let long = self.state.get(state::EFER) & EFER_LMA != 0 && self.segment(SegReg::Cs).long();
        let value = self.regs.get((q >> 8) as u8);
        let value = if long { value } else { value & 0xffff_ffff };
        if !self.caps.unrestricted()
            && let Some(exit) = self.write_restricted(q, value)
        {
            return exit;
        }
        // Only MOV to a control register can come here.
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

    /// The exit has not touched DR6 and DR7; the guest's handler is to find them as the CPU leaves them.
    fn debug_exception(&mut self) {
        const CAUSES: u64 = 0x600f;
        let causes = self.info.qualification & CAUSES;
        let dr6 = self.dr6() & !0xf | causes;
        self.set_dr6(dr6);
        if self.info.event & event::TYPE_MASK == event::ICEBP {
            self.advance_rip(self.info.insn_len);
            self.state.change(state::PENDING_DEBUG, SINGLE_STEP, false);
        }
        // After MOV SS an entry would want single steps to be pending.
        self.state.change(state::INTERRUPTIBILITY, SHADOW, false);
        self.state.change(state::DR7, DR7_GD, false);
        self.inject(Event::DB);
    }
}

impl VmxVcpu {
    /// One entry, one exit.
    fn run_once(&mut self, mut enter: impl FnMut(&mut Self) -> Result<(), Refused>) -> Exit {
        match enter(self) {
            Ok(()) => self.after_exit(),
            Err(Refused::MachineCheck) => Exit::HostMachineCheck,
            Err(Refused::Because(why)) => {
                log::error!("entry to a guest failed: {why}");
                Exit::InvalidState
            }
        }
    }

    /// What the exit means. Nothing here enters again: see `Exit::Settled`.
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
                // A loop that exits goes on at its PAUSE; where each PAUSE exits, it would do so for ever.
                if self.caps.proc & proc::PAUSE != 0 {
                    self.advance_rip(self.info.insn_len);
                }
                Exit::Pause
            }
            reason::EXCEPTION if self.real_mode_instruction() => Exit::RealMode,
            _ => self.reflect(exit::decode(&self.info, self.state.get(state::RIP))),
        }
    }

    /// Exceptions that are intercepted only so that the CPU's loop comes round go back to the guest.
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
}

impl VcpuBackend for VmxVcpu {
    fn gprs(&self) -> &Gprs {
        &self.regs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.regs
    }

    fn get(&self, reg: Reg) -> u64 {
        if let Some(value) = self.shadowed.as_ref().and_then(|guest| guest.get(reg)) {
            return value;
        }
        let s = &self.state;
        match reg {
            Reg::Rip => s.get(state::RIP),
            Reg::Rflags => s.get(state::RFLAGS),
            Reg::Cr0 => control::cr0(s, &self.caps),
            Reg::Cr2 => self.cr2,
            Reg::Cr3 => s.get(state::CR3),
            Reg::Cr4 => control::cr4(s, &self.caps),
            Reg::Cr8 => self.apic.cr8(),
            Reg::Dr0 => self.dr(0),
            Reg::Dr1 => self.dr(1),
            Reg::Dr2 => self.dr(2),
            Reg::Dr3 => self.dr(3),
            Reg::Dr6 => self.dr6(),
            Reg::Dr7 => s.get(state::DR7),
            Reg::Xcr0 => self.fpu.xcr0(),
            Reg::Efer => s.get(state::EFER),
            Reg::Star => self.msr(0),
            Reg::Lstar => self.msr(1),
            Reg::Cstar => self.msr(2),
            Reg::Sfmask => self.msr(3),
            Reg::KernelGsBase => self.msr(4),
            Reg::SysenterCs => s.get(state::SYSENTER_CS),
            Reg::SysenterEsp => s.get(state::SYSENTER_ESP),
            Reg::SysenterEip => s.get(state::SYSENTER_EIP),
            Reg::Pat => s.get(state::PAT),
            Reg::TscAux => self.tsc_aux,
            Reg::SpecCtrl => self.spec.spec_ctrl,
            Reg::VirtSpecCtrl => self.spec.virt_spec_ctrl,
        }
    }

    fn set(&mut self, reg: Reg, value: u64) {
        if matches!(reg, Reg::Cr0 | Reg::Cr3 | Reg::Cr4 | Reg::Efer) {
            self.flush = true;
        }
        if self.set_shadowed(reg, value) {
            return;
        }
        let s = &mut self.state;
        match reg {
            Reg::Rip => s.set(state::RIP, value),
            Reg::Rflags => s.set(state::RFLAGS, value | RFLAGS_FIXED),
            Reg::Cr0 => control::set_cr0(s, &self.caps, value),
            Reg::Cr2 => self.cr2 = value,
            Reg::Cr3 => s.set(state::CR3, value),
            Reg::Cr4 => control::set_cr4(s, &self.caps, value),
            Reg::Cr8 => self.apic.set_cr8(value),
            Reg::Dr0 => self.set_dr(0, value),
            Reg::Dr1 => self.set_dr(1, value),
            Reg::Dr2 => self.set_dr(2, value),
            Reg::Dr3 => self.set_dr(3, value),
            Reg::Dr6 => self.set_dr6(value),
            // Entries refuse an upper half that is not zero.
            Reg::Dr7 => s.set(state::DR7, value & 0xffff_ffff | DR7_RESET),
            Reg::Xcr0 if self.loaded => self.fpu.set_xcr0_loaded(value),
            Reg::Xcr0 => self.fpu.set_xcr0(value),
            Reg::Efer => s.set(state::EFER, value),
            Reg::Star => self.set_msr(0, value),
            Reg::Lstar => self.set_msr(1, value),
            Reg::Cstar => self.set_msr(2, value),
            Reg::Sfmask => self.set_msr(3, value),
            Reg::KernelGsBase => self.set_msr(4, value),
            Reg::SysenterCs => s.set(state::SYSENTER_CS, value),
            Reg::SysenterEsp => s.set(state::SYSENTER_ESP, value),
            Reg::SysenterEip => s.set(state::SYSENTER_EIP, value),
            Reg::Pat => s.set(state::PAT, value),
            Reg::TscAux => {
                self.tsc_aux = value;
                if self.loaded {
                    self.write_tsc_aux();
                }
            }
            Reg::SpecCtrl => self.spec.spec_ctrl = value,
            Reg::VirtSpecCtrl => self.spec.virt_spec_ctrl = value,
        }
    }

    fn segment(&self, reg: SegReg) -> Segment {
        segment::get(&self.state, reg)
    }

    fn set_segment(&mut self, reg: SegReg, value: Segment) {
        segment::set(&mut self.state, reg, value);
    }

    fn cpl(&self) -> u8 {
        segment::cpl(&self.state)
    }

    fn fpu(&self) -> &Fpu {
        &self.fpu
    }

    fn fpu_mut(&mut self) -> &mut Fpu {
        &mut self.fpu
    }

    fn load(&mut self, cpu: &mut PhysCpu) {
        cpu.spec().switch_to(&mut self.spec);
        // SAFETY: VMX is on, or there would be no `PhysCpu`; the page is ours and clear elsewhere.
        let current = unsafe {
            if !self.prepared {
                let _ = insn::vmclear(self.vmcs_maddr);
            }
            insn::vmptrld(self.vmcs_maddr)
        };
        assert!(current.is_ok(), "VMPTRLD of a page that was made for it");
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
        // SAFETY: the VMCS is ours and current here; cleared, it can be loaded anywhere.
        let cleared = unsafe { insn::vmclear(self.vmcs_maddr) };
        assert!(cleared.is_ok(), "VMCLEAR of a page that was made for it");
    }

    fn run(&mut self, cpu: &mut PhysCpu) -> Exit {
        let PhysCpu::Vmx(cpu) = cpu else {
            return Exit::InvalidState;
        };
        self.run_once(|vcpu| vcpu.enter(cpu))
    }

    fn has_deadline(&self) -> bool {
        self.caps.timer_shift.is_some() && self.caps.timer_steady
    }

    fn set_deadline(&mut self, tsc: Option<u64>) {
        self.deadline = tsc.filter(|_| self.has_deadline());
    }

    fn inject(&mut self, event: Event) {
        self.pending = Some(event);
        if event == Event::Nmi {
            let window = u64::from(proc::NMI_WINDOW);
            self.state.change(state::PROC_CONTROLS, window, true);
        }
    }

    fn pending_event(&self) -> Option<Event> {
        self.pending
    }

    fn can_take_interrupt(&self) -> bool {
        self.state.get(state::RFLAGS) & RFLAGS_IF != 0
            && self.state.get(state::INTERRUPTIBILITY) & SHADOW == 0
            && !self.event_pending()
    }

    fn can_take_nmi(&self) -> bool {
        !self.nmi_blocked
            && !self.pretends_real_mode()
            && self.state.get(state::INTERRUPTIBILITY) & SHADOW == 0
            && !self.event_pending()
    }

    fn request_interrupt_window(&mut self, window: Window) {
        // The TPR threshold of each entry is the task priority: the guest leaves whenever it lowers that.
        let on = window == Window::Interrupts;
        let window = u64::from(proc::INTERRUPT_WINDOW);
        self.state.change(state::PROC_CONTROLS, window, on);
    }

    fn keeps_apic(&self) -> bool {
        self.caps.apic != 0
    }

    fn give_apic(&mut self, image: &LapicImage) {
        if self.keeps_apic() {
            self.give(image);
        }
    }

    fn take_apic(&mut self) -> Option<LapicImage> {
        self.take()
    }

    fn set_posted(&mut self, posted: &Arc<LapicPosted>) {
        self.apic.set_posted(posted, self.to_maddr);
    }

    fn takes_posted(&self) -> bool {
        self.posting()
    }

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
        self.state.change(state::INTERRUPTIBILITY, SHADOW, false);
        let (flags, traps) = stepped_flags(self.state.get(state::RFLAGS));
        if flags != self.state.get(state::RFLAGS) {
            self.state.set(state::RFLAGS, flags);
        }
        if traps {
            self.state.change(state::PENDING_DEBUG, SINGLE_STEP, true);
        }
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.state.set(state::TSC_OFFSET, offset);
    }

    fn tsc_offset(&self) -> u64 {
        self.state.get(state::TSC_OFFSET)
    }

    fn set_nested_root(&mut self, root: Maddr) {
        self.state.set(state::EPTP, root.raw() | EPTP_FLAGS);
        self.flush_tlb();
    }

    fn set_shadow_roots(&mut self, roots: ShadowRoots) -> bool {
        self.put_on_shadow(roots);
        // The registers of a reset, as the guest sees them.
        self.reset(true);
        true
    }

    fn move_shadow_roots(&mut self, roots: ShadowRoots) {
        self.move_roots(roots);
    }

    fn flush_tlb(&mut self) {
        self.flush = true;
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

impl Drop for VmxVcpu {
    fn drop(&mut self) {
        if self.loaded {
            // SAFETY: the CPU must not keep a page that is about to be freed.
            let _ = unsafe { insn::vmclear(self.vmcs_maddr) };
        }
    }
}

#[cfg(test)]
mod tests;
