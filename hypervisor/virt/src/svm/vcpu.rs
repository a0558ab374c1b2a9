//! The AMD-V back end: one virtual CPU as a VMCB with what the VMCB does not hold.
#![allow(unsafe_code, reason = "enters the guest; writes TSC_AUX")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use oxen_types::Maddr;

use super::caps::{SvmCaps, SvmFeatures};
use super::event::{decode_event, encode_event, interrupted_event};
use super::intercept::{self, g1};
use super::shadow::Shadowed;
use super::vmcb::{self, Clean, TLB_FLUSH_ALL, TLB_FLUSH_ASID, TLB_KEEP, Vmcb, VmcbSeg, int_ctl};
use super::{SvmCpu, exit, insn, switch};
use crate::backend::{
    Event, Execution, Exit, Gprs, Reg, SegReg, Segment, ShadowRoots, VcpuBackend, Window,
};
use crate::controls::DomainControls;
use crate::fpu::Fpu;
use crate::platform::{PhysCpu, Platform, Quirks, ToMaddr, VirtError};
use crate::spec::SpecVcpu;
use crate::start;
use crate::step::{enterable_rip, stepped_flags};
use crate::tags::Tag;
use crate::x86::{
    CR0_ET, CR0_PE, CR4_MCE, DR6_BS, DR7_ENABLES, DR7_RESET, EFER_LMA, EFER_SVME, MSR_TSC_AUX,
    RFLAGS_FIXED, RFLAGS_IF,
};
use crate::zeroed::zeroed_box;

/// PAUSEs closer together than the threshold (in cycles) count; this many exit.
const PAUSE_COUNT: u16 = 3000;
const PAUSE_THRESHOLD: u16 = 128;
const SHADOW: u64 = 1;

pub struct SvmVcpu {
    /// RAX and RSP travel through the VMCB.
    regs: Gprs,
    pub(super) vmcb: Box<Vmcb>,
    vmcb_maddr: Maddr,
    caps: SvmCaps,
    quirks: Quirks,
    /// Parts of the VMCB unchanged since the last exit on this CPU.
    pub(super) clean: Clean,
    tag: Tag,
    flush_asid: bool,
    fpu: Fpu,
    /// DR0-3, while the CPU does not hold them.
    pub(super) dr: [u64; 4],
    pub(super) dr_loaded: bool,
    tsc_aux: u64,
    spec: SpecVcpu,
    loaded: bool,
    /// Between the delivery of an NMI and the guest's IRET.
    nmi_blocked: bool,
    /// The IRET that will end the blocking, once it has run.
    nmi_iret_at: Option<u64>,
    /// This CPU has shown that it takes a virtual interrupt whose priority equals V_TPR, as QEMU's
    /// emulation does: see `note_priority`.
    takes_equal_priority: bool,
    /// The guest's CR4, if it runs with nested paging: the CPU's has MCE on.
    cr4: u64,
    /// The guest's control registers, if it runs without nested paging.
    shadowed: Option<Shadowed>,
    /// Keeps the maps alive that the VMCB points to.
    domain: Arc<DomainControls>,
}

impl SvmVcpu {
    pub fn new(
        platform: &Platform,
        caps: SvmCaps,
        domain: Arc<DomainControls>,
        to_maddr: ToMaddr,
    ) -> Result<Self, VirtError> {
        let mut vmcb = zeroed_box::<Vmcb>()?;
        // The CPU reads and writes it behind the compiler's back, during `enter`.
        let vmcb_maddr = to_maddr(core::ptr::from_mut::<Vmcb>(&mut vmcb).expose_provenance());
        let c = &mut vmcb.control;
        c.exceptions = intercept::EXCEPTIONS;
        c.general1 = g1::ALWAYS;
        c.general2 = intercept::G2_ALWAYS;
        c.general3 = if caps.invlpgb {
            intercept::G3_INVLPGB
        } else {
            0
        };
        c.cr_write = intercept::CR4;
        c.dr_read = intercept::DR_ALL;
        c.dr_write = intercept::DR_ALL;
        if caps.has(SvmFeatures::PAUSE_FILTER) {
            c.general1 |= g1::PAUSE;
            c.pause_count = PAUSE_COUNT;
            if caps.has(SvmFeatures::PAUSE_THRESHOLD) {
                c.pause_threshold = PAUSE_THRESHOLD;
            }
        }
        c.iopm = domain.io_map().raw();
        c.msrpm = domain.msr_map().raw();
        c.int_ctl = int_ctl::MASKING;
        c.nested_ctl = 1;
        let mut vcpu = Self {
            regs: Gprs::default(),
            vmcb,
            vmcb_maddr,
            caps,
            quirks: platform.quirks,
            clean: Clean::empty(),
            tag: Tag::NONE,
            flush_asid: false,
            fpu: Fpu::new(platform.fpu)?,
            dr: [0; 4],
            dr_loaded: false,
            tsc_aux: 0,
            spec: SpecVcpu::default(),
            loaded: false,
            nmi_blocked: false,
            nmi_iret_at: None,
            takes_equal_priority: false,
            cr4: 0,
            shadowed: None,
            domain,
        };
        vcpu.reset(true);
        Ok(vcpu)
    }

    fn enter(&mut self, cpu: &mut SvmCpu) {
        if !cpu.asids.is_current(self.tag) {
            self.tag = cpu.asids.allocate();
            self.vmcb.control.asid = self.tag.number();
            self.clean.remove(Clean::ASID);
            self.flush_asid = false;
        }
        let flush_asid = core::mem::take(&mut self.flush_asid);
        let (c, s) = (&mut self.vmcb.control, &mut self.vmcb.save);
        c.tlb_control = if cpu.asids.take_flush() {
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
        let (vmcb, host) = (self.vmcb_maddr.raw(), cpu.host.raw());
        // SAFETY: SVM is on, or there would be no `SvmCpu`, which holds this CPU's saved state;
        // the VMCB is ours, initialised by `new`, and `&mut self` keeps others off it; the nested
        // root is the caller's p2m (`set_nested_root`); `load` put the guest's FPU state in.
        unsafe { switch::enter(&mut self.regs, vmcb, host, &work) };
        cpu.spec.leave(&self.spec);
        let (c, s) = (&mut self.vmcb.control, &self.vmcb.save);
        (self.regs.rax, self.regs.rsp) = (s.rax, s.rsp);
        c.event_inj = 0;
        self.clean = Clean::all();
    }

    /// Brings what emulation left into the form in which a CPU would have it.
    fn tidy(&mut self) {
        let (c, s) = (&mut self.vmcb.control, &mut self.vmcb.save);
        let long_code = s.efer & EFER_LMA != 0 && Segment::from(s.cs).long();
        let (rip, faults) = enterable_rip(s.rip, long_code);
        s.rip = rip;
        if faults && c.event_inj & vmcb::event::VALID == 0 {
            c.event_inj = encode_event(Event::GP);
        }
        if s.cr0 & CR0_PE == 0 {
            // Real mode has no error codes: the CPU would push it.
            c.event_inj &= !vmcb::event::HAS_CODE;
        }
    }

    /// What the exit means. Nothing here enters again: see `Exit::Settled`.
    fn after_exit(&mut self) -> Exit {
        self.requeue_interrupted_event();
        if self.nmi_iret_at.is_some_and(|at| at != self.vmcb.save.rip) {
            self.nmi_iret_at = None;
            self.nmi_blocked = false;
        }
        // The second guard behind the intercepts: a CPU that let the guest load CR3 used tables of its choice.
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
                // The IRET has not run yet: NMIs stay blocked until an exit elsewhere shows that
                // it has.
                self.intercept(g1::IRET, false);
                self.nmi_iret_at = Some(self.vmcb.save.rip);
                Exit::NmiWindow
            }
            _ => exit::decode(
                &self.vmcb.control,
                self.caps.has(SvmFeatures::DECODE_ASSISTS),
            ),
        }
    }

    /// One entry, one exit.
    fn run_once(&mut self, mut enter: impl FnMut(&mut Self)) -> Exit {
        enter(self);
        self.after_exit()
    }

    /// At the exit of a virtual interrupt: was it taken although V_TPR is not below its priority? Then the
    /// next one would be, too, at once and for ever, so it gets a priority that is one less. (APM 15.21.4
    /// has "above"; QEMU 7.2 compares by "not below".)
    fn note_priority(&mut self) {
        let int_ctl = self.vmcb.control.int_ctl;
        let priority = (int_ctl & int_ctl::PRIO_MAX) >> int_ctl::PRIO_SHIFT;
        self.takes_equal_priority |= int_ctl & int_ctl::IGNORE_TPR == 0
            && int_ctl & int_ctl::PRIO_MAX != 0
            && priority == int_ctl & int_ctl::TPR_MASK;
    }

    /// An event whose delivery the exit interrupted is delivered again at the next entry. Software
    /// interrupts are not: RIP is still at the instruction, which runs again.
    fn requeue_interrupted_event(&mut self) {
        let c = &mut self.vmcb.control;
        c.event_inj = interrupted_event(c.exit_int_info, self.quirks).unwrap_or(0);
    }

    fn intercept(&mut self, bit: u32, on: bool) {
        let general1 = &mut self.vmcb.control.general1;
        let new = if on {
            *general1 | bit
        } else {
            *general1 & !bit
        };
        if new != *general1 {
            *general1 = new;
            self.clean.remove(Clean::INTERCEPTS);
        }
    }

    fn write_tsc_aux(&self) {
        if self.caps.tsc_aux {
            // SAFETY: the MSR exists, and the hypervisor does not use it.
            unsafe { insn::wrmsr(MSR_TSC_AUX, self.tsc_aux & 0xffff_ffff) };
        }
    }

    fn seg(&self, reg: SegReg) -> &VmcbSeg {
        let s = &self.vmcb.save;
        match reg {
            SegReg::Es => &s.es,
            SegReg::Cs => &s.cs,
            SegReg::Ss => &s.ss,
            SegReg::Ds => &s.ds,
            SegReg::Fs => &s.fs,
            SegReg::Gs => &s.gs,
            SegReg::Ldtr => &s.ldtr,
            SegReg::Tr => &s.tr,
            SegReg::Gdtr => &s.gdtr,
            SegReg::Idtr => &s.idtr,
        }
    }
}

impl VcpuBackend for SvmVcpu {
    fn gprs(&self) -> &Gprs {
        &self.regs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.regs
    }

    fn get(&self, reg: Reg) -> u64 {
        let (c, s) = (&self.vmcb.control, &self.vmcb.save);
        match reg {
            Reg::Rip => s.rip,
            Reg::Rflags => s.rflags,
            Reg::Cr0 => self.shadowed.map_or(s.cr0, |g| g.cr0),
            Reg::Cr2 => s.cr2,
            Reg::Cr3 => self.shadowed.map_or(s.cr3, |g| g.cr3),
            Reg::Cr4 => self.shadowed.map_or(self.cr4, |g| g.cr4),
            Reg::Cr8 => c.int_ctl & int_ctl::TPR_MASK,
            Reg::Dr0 => self.dr(0),
            Reg::Dr1 => self.dr(1),
            Reg::Dr2 => self.dr(2),
            Reg::Dr3 => self.dr(3),
            Reg::Dr6 => s.dr6,
            Reg::Dr7 => s.dr7,
            Reg::Xcr0 if self.loaded && self.quirks.xsetbv_runs => self.fpu.xcr0_of_cpu(),
            Reg::Xcr0 => self.fpu.xcr0(),
            Reg::Efer => self.shadowed.map_or(s.efer & !EFER_SVME, |g| g.efer),
            Reg::Star => s.star,
            Reg::Lstar => s.lstar,
            Reg::Cstar => s.cstar,
            Reg::Sfmask => s.sfmask,
            Reg::KernelGsBase => s.kernel_gs_base,
            Reg::SysenterCs => s.sysenter_cs,
            Reg::SysenterEsp => s.sysenter_esp,
            Reg::SysenterEip => s.sysenter_eip,
            Reg::Pat => s.pat,
            Reg::TscAux => self.tsc_aux,
            Reg::SpecCtrl => self.spec.spec_ctrl,
            Reg::VirtSpecCtrl => self.spec.virt_spec_ctrl,
        }
    }

    fn set(&mut self, reg: Reg, value: u64) {
        let (c, s) = (&mut self.vmcb.control, &mut self.vmcb.save);
        let dirty = match reg {
            Reg::Cr0 | Reg::Cr3 | Reg::Cr4 | Reg::Efer => Clean::CRX,
            Reg::Cr2 => Clean::CR2,
            Reg::Cr8 => Clean::TPR,
            Reg::Dr6 | Reg::Dr7 => Clean::DRX,
            Reg::Pat => Clean::NESTED,
            _ => Clean::empty(),
        };
        self.clean.remove(dirty);
        if let Some(guest) = &mut self.shadowed
            && guest.set(reg, value)
        {
            return guest.apply(s);
        }
        match reg {
            Reg::Rip => s.rip = value,
            Reg::Rflags => s.rflags = value | RFLAGS_FIXED,
            Reg::Cr0 => s.cr0 = value | CR0_ET,
            Reg::Cr2 => s.cr2 = value,
            Reg::Cr3 => s.cr3 = value,
            Reg::Cr4 => {
                self.cr4 = value;
                // A machine check without it is a shutdown of the guest, of which the host learns nothing
                // (APM 15.12.18). Reads exit as long as the guest has it off.
                s.cr4 = value | CR4_MCE;
                let reads = if value & CR4_MCE == 0 {
                    intercept::CR4
                } else {
                    0
                };
                if c.cr_read != reads {
                    c.cr_read = reads;
                    self.clean.remove(Clean::INTERCEPTS);
                }
            }
            Reg::Cr8 => {
                c.int_ctl = c.int_ctl & !int_ctl::TPR_MASK | value & int_ctl::TPR_MASK;
            }
            Reg::Dr0 => self.set_dr(0, value),
            Reg::Dr1 => self.set_dr(1, value),
            Reg::Dr2 => self.set_dr(2, value),
            Reg::Dr3 => self.set_dr(3, value),
            // VMRUN refuses upper halves that are not zero.
            Reg::Dr6 => s.dr6 = value & 0xffff_ffff,
            Reg::Dr7 => s.dr7 = value & 0xffff_ffff | DR7_RESET,
            Reg::Xcr0 if self.loaded => self.fpu.set_xcr0_loaded(value),
            Reg::Xcr0 => self.fpu.set_xcr0(value),
            Reg::Efer => s.efer = value | EFER_SVME,
            Reg::Star => s.star = value,
            Reg::Lstar => s.lstar = value,
            Reg::Cstar => s.cstar = value,
            Reg::Sfmask => s.sfmask = value,
            Reg::KernelGsBase => s.kernel_gs_base = value,
            Reg::SysenterCs => s.sysenter_cs = value,
            Reg::SysenterEsp => s.sysenter_esp = value,
            Reg::SysenterEip => s.sysenter_eip = value,
            Reg::Pat => s.pat = value,
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
        (*self.seg(reg)).into()
    }

    fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        let s = &mut self.vmcb.save;
        let slot = match reg {
            SegReg::Es => &mut s.es,
            SegReg::Cs => &mut s.cs,
            SegReg::Ss => {
                // The CPL is a field of its own, and the DPL of SS is what it follows.
                s.cpl = (segment.attr >> 5) as u8 & 3;
                &mut s.ss
            }
            SegReg::Ds => &mut s.ds,
            SegReg::Fs => &mut s.fs,
            SegReg::Gs => &mut s.gs,
            SegReg::Ldtr => &mut s.ldtr,
            SegReg::Tr => &mut s.tr,
            SegReg::Gdtr => &mut s.gdtr,
            SegReg::Idtr => &mut s.idtr,
        };
        *slot = segment.into();
        self.clean.remove(match reg {
            SegReg::Gdtr | SegReg::Idtr => Clean::DT,
            _ => Clean::SEG,
        });
    }

    fn execution(&self) -> Execution {
        let s = &self.vmcb.save;
        let mut state = Execution {
            rip: s.rip,
            rflags: s.rflags,
            cr0: s.cr0,
            cr3: s.cr3,
            cr4: self.cr4,
            efer: s.efer & !EFER_SVME,
            cs: s.cs.into(),
        };
        if let Some(guest) = &self.shadowed {
            (state.cr0, state.cr3) = (guest.cr0, guest.cr3);
            (state.cr4, state.efer) = (guest.cr4, guest.efer);
        }
        state
    }

    fn cpl(&self) -> u8 {
        self.vmcb.save.cpl
    }

    fn fpu(&self) -> &Fpu {
        &self.fpu
    }

    fn fpu_mut(&mut self) -> &mut Fpu {
        &mut self.fpu
    }

    fn load(&mut self, cpu: &mut PhysCpu) {
        cpu.spec().switch_to(&mut self.spec);
        // Another VMCB, or this one elsewhere, may have run since.
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
        let PhysCpu::Svm(cpu) = cpu else {
            return Exit::InvalidState;
        };
        self.run_once(|vcpu| vcpu.enter(cpu))
    }

    fn inject(&mut self, event: Event) {
        self.vmcb.control.event_inj = encode_event(event);
        if event == Event::Nmi {
            self.nmi_blocked = true;
            self.intercept(g1::IRET, true);
        }
    }

    fn pending_event(&self) -> Option<Event> {
        decode_event(self.vmcb.control.event_inj)
    }

    fn event_pending(&self) -> bool {
        self.vmcb.control.event_inj & vmcb::event::VALID != 0
    }

    fn wants_exit_at_once(&self) -> bool {
        self.quirks.injects_twice && matches!(self.pending_event(), Some(Event::Interrupt(_)))
    }

    fn forgets_shadow(&self) -> bool {
        self.quirks.shadow_lost && self.vmcb.control.int_state & SHADOW != 0
    }

    fn can_take_interrupt(&self) -> bool {
        self.vmcb.save.rflags & RFLAGS_IF != 0
            && self.vmcb.control.int_state & SHADOW == 0
            && !self.event_pending()
    }

    fn can_take_nmi(&self) -> bool {
        !self.nmi_blocked && self.vmcb.control.int_state & SHADOW == 0 && !self.event_pending()
    }

    fn request_interrupt_window(&mut self, window: Window) {
        // A virtual interrupt that is never delivered: its intercept tells when it could be. Its priority is
        // compared with V_TPR, which the guest changes by CR8 without an exit (APM 15.21.4).
        const FIELDS: u64 = int_ctl::V_IRQ | int_ctl::PRIO_MAX | int_ctl::IGNORE_TPR;
        let window = match window {
            Window::Priority(_) if self.quirks.cr8_aborts => Window::Unwanted,
            window => window,
        };
        let wanted = match window {
            Window::Unwanted => 0,
            Window::Interrupts => FIELDS,
            Window::Priority(class) => {
                let class = u64::from(class & 0xf);
                let equal = u64::from(self.takes_equal_priority);
                int_ctl::V_IRQ | class.saturating_sub(equal) << int_ctl::PRIO_SHIFT
            }
        };
        let c = &mut self.vmcb.control;
        let new = c.int_ctl & !FIELDS | wanted;
        if new != c.int_ctl {
            c.int_ctl = new;
            self.clean.remove(Clean::TPR);
        }
        self.intercept(g1::VINTR, window != Window::Unwanted);
    }

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
        self.vmcb.control.int_state &= !SHADOW;
        let (flags, traps) = stepped_flags(s.rflags);
        s.rflags = flags;
        if traps && !self.event_pending() {
            self.vmcb.save.dr6 |= DR6_BS;
            self.clean.remove(Clean::DRX);
            self.inject(Event::DB);
        }
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcb.control.tsc_offset = offset;
        self.clean.remove(Clean::INTERCEPTS);
    }

    fn tsc_offset(&self) -> u64 {
        self.vmcb.control.tsc_offset
    }

    fn set_nested_root(&mut self, root: Maddr) {
        self.vmcb.control.nested_cr3 = root.raw();
        self.clean.remove(Clean::NESTED);
        self.flush_tlb();
    }

    fn set_shadow_roots(&mut self, roots: ShadowRoots) -> bool {
        let guest = Shadowed::new(roots);
        guest.apply(&mut self.vmcb.save);
        self.shadowed = Some(guest);
        let c = &mut self.vmcb.control;
        c.nested_ctl = 0;
        c.cr_read |= intercept::CR_SHADOWED;
        c.cr_write |= intercept::CR_SHADOWED;
        c.exceptions |= intercept::PAGE_FAULT;
        c.general1 |= g1::INVLPG;
        self.clean = Clean::empty();
        // The registers of a reset, as the guest sees them.
        self.reset(true);
        true
    }

    fn move_shadow_roots(&mut self, roots: ShadowRoots) {
        if let Some(guest) = &mut self.shadowed {
            guest.roots = roots;
            guest.apply(&mut self.vmcb.save);
            self.clean.remove(Clean::CRX);
        }
    }

    fn flush_tlb(&mut self) {
        if self.caps.has(SvmFeatures::FLUSH_BY_ASID) {
            self.flush_asid = true;
        } else {
            self.tag = Tag::NONE;
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

#[cfg(test)]
mod tests;
