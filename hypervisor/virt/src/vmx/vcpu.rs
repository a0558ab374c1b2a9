//! The VT-x back end: one virtual CPU as a VMCS with what the VMCS does not hold.
#![allow(
    unsafe_code,
    reason = "enters the guest; switches MSRs that the VMCS does not"
)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use oxen_arch::cpu::msr::wrmsr_safe;
use oxen_arch::cpu::regs;
use oxen_types::Maddr;
use zerocopy::{FromZeros, KnownLayout};

use super::bitmap::VmxDomain;
use super::caps::{VmxCaps, enter, proc, second};
use super::cpu::Page;
use super::exit::{self, Info, reason};
use super::{VmxCpu, control, event, field, host, insn, refused, segment, state, switch};
use crate::backend::{Event, Exit, Gprs, Reg, SegReg, Segment, VcpuBackend};
use crate::fpu::Fpu;
use crate::platform::{PhysCpu, Platform, ToMaddr, VirtError};
use crate::tags::Tag;
use crate::x86::*;

/// PAUSEs closer together than the gap belong to one loop; a loop longer than the window exits (in
/// cycles).
const PAUSE_GAP: u64 = 128;
const PAUSE_WINDOW: u64 = 4096 * 16;
/// Interrupts wait for an instruction after STI and MOV SS.
const SHADOW: u64 = 3;
const NMI_BLOCKED: u64 = 1 << 3;
const SINGLE_STEP: u64 = 1 << 14;
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
/// Low bits of DR7 that enable breakpoints.
const DR7_ENABLES: u64 = 0xff;
const DR7_GD: u64 = 1 << 13;
/// #DB and #AC only because a guest can make their delivery recurse without end (CVE-2015-8104,
/// CVE-2015-5307). #MC is the host's.
const EXCEPTIONS: u64 = 1 << 1 | 1 << 17 | 1 << 18;
/// Write-back, four levels. Not accessed and dirty bits: our tables have them set from the start, and
/// with them on each walk of the guest's own tables would count as a write.
const EPTP_FLAGS: u64 = 6 | 3 << 3;

/// MSRs that the hypervisor has no use for: the guest's are in the CPU while it is loaded.
const LOADED_MSRS: [u32; 5] = [
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_SFMASK,
    MSR_KERNEL_GS_BASE,
];

/// The CPU keeps the task priority in it (offset 0x80), and uses nothing else of it.
#[derive(FromZeros, KnownLayout)]
#[repr(C, align(4096))]
struct ApicPage([AtomicU32; 1024]);
const TPR: usize = 0x80 / 4;

pub struct VmxVcpu {
    /// RSP travels through the VMCS.
    regs: Gprs,
    pub(super) state: state::State,
    pub(super) info: Info,
    caps: VmxCaps,
    _vmcs: Box<Page>,
    vmcs_maddr: Maddr,
    apic: Box<ApicPage>,
    apic_maddr: Maddr,
    domain: Arc<VmxDomain>,
    /// The controls that never change have been written.
    prepared: bool,
    launched: bool,
    tag: Tag,
    flush: bool,
    pending: Option<Event>,
    fpu: Fpu,
    cr2: u64,
    /// DR0-3 and DR6, while the CPU does not hold them.
    pub(super) dr: [u64; 4],
    pub(super) dr6: u64,
    pub(super) dr_loaded: bool,
    /// In the order of `LOADED_MSRS`, while the CPU does not hold them.
    msrs: [u64; 5],
    tsc_aux: u64,
    loaded: bool,
}

impl VmxVcpu {
    pub fn new(
        platform: &Platform,
        caps: VmxCaps,
        domain: Arc<VmxDomain>,
        to_maddr: ToMaddr,
    ) -> Result<Self, VirtError> {
        let (vmcs, vmcs_maddr) = Page::new(caps.revision, to_maddr)?;
        let apic = ApicPage::new_box_zeroed().map_err(|_| VirtError::NoMemory)?;
        let apic_maddr = to_maddr(core::ptr::from_ref::<ApicPage>(&apic).expose_provenance());
        let mut vcpu = Self {
            regs: Gprs::default(),
            state: state::State::new(),
            info: Info::default(),
            caps,
            _vmcs: vmcs,
            vmcs_maddr,
            apic,
            apic_maddr,
            domain,
            prepared: false,
            launched: false,
            tag: Tag::NONE,
            flush: false,
            pending: None,
            fpu: Fpu::new(platform.fpu)?,
            cr2: 0,
            dr: [0; 4],
            dr6: DR6_RESET,
            dr_loaded: false,
            msrs: [0; 5],
            tsc_aux: 0,
            loaded: false,
        };
        let (proc, entry) = (u64::from(caps.proc), u64::from(caps.entry));
        vcpu.state.set(state::PROC_CONTROLS, proc);
        vcpu.state.set(state::ENTRY_CONTROLS, entry);
        vcpu.reset(true);
        Ok(vcpu)
    }

    /// The fields of the current VMCS that stay as they are.
    fn prepare(&mut self) {
        let io_map = self.domain.io_map().raw();
        let caps = &self.caps;
        let fields = [
            (field::PIN_CONTROLS, caps.pin.into()),
            (field::SECONDARY_CONTROLS, caps.second.into()),
            (field::EXIT_CONTROLS, caps.exit.into()),
            (field::EXCEPTIONS, EXCEPTIONS),
            (field::IO_MAP_A, io_map),
            (field::IO_MAP_B, io_map + 4096),
            (field::MSR_MAP, self.domain.msr_map().raw()),
            (field::VIRTUAL_APIC, self.apic_maddr.raw()),
            (field::CR0_MASK, control::cr0_mask()),
            (field::CR4_MASK, control::cr4_mask(caps)),
            (field::LINK, u64::MAX),
            (field::ENTRY_EVENT, 0),
            (field::ENTRY_EVENT_CODE, 0),
        ];
        // SAFETY: the maps are the domain's, which we keep alive, the APIC page is ours; what exits is
        // what the hypervisor relies on.
        unsafe {
            for (field, value) in fields {
                insn::vmwrite(field, value);
            }
            for field in field::ZEROED {
                insn::vmwrite(field, 0);
            }
            if caps.has_second(second::PAUSE_LOOP) {
                insn::vmwrite(field::PLE_GAP, PAUSE_GAP);
                insn::vmwrite(field::PLE_WINDOW, PAUSE_WINDOW);
            }
        }
        self.prepared = true;
    }

    /// Enters once. False if the CPU refused.
    fn enter(&mut self, cpu: &mut VmxCpu) -> bool {
        self.flush_if_needed(cpu);
        self.match_entry_controls();
        let tpr = self.tpr();
        self.state.set(state::TPR_THRESHOLD, tpr);
        self.state.set(state::RSP, self.regs.rsp);
        let pending = self.pending.take();
        if let Some(pending) = pending {
            self.write_event(pending);
        }
        self.state.write_back();
        if regs::cr2() != self.cr2 {
            // SAFETY: the hypervisor looks at CR2 in its own page faults only.
            unsafe { regs::set_cr2(self.cr2) };
        }
        // SAFETY: the VMCS is ours, current (`load`) and complete; `load` wrote this CPU's host state
        // and put the guest's FPU state in; the nested root is the caller's p2m.
        let refused = unsafe { switch::enter(&mut self.regs, self.launched.into()) } != 0;
        self.cr2 = regs::cr2();
        if refused {
            self.pending = pending;
            return false;
        }
        self.launched = true;
        self.state.forget();
        self.regs.rsp = self.state.get(state::RSP);
        self.info = Info::read();
        if self.info.reason & reason::ENTRY_FAILED != 0 {
            self.launched = false;
            return false;
        }
        true
    }

    fn flush_if_needed(&mut self, cpu: &mut VmxCpu) {
        if !cpu.vpids.is_current(self.tag) {
            self.tag = cpu.vpids.allocate();
            if self.caps.has_second(second::VPID) {
                self.state.set(state::VPID, self.tag.number().into());
            }
            // Translations of the nested tables are shared by all VPIDs: others may have left some here
            // that a flush elsewhere did not reach.
            self.flush = true;
        }
        if cpu.vpids.take_flush() {
            insn::invept(insn::Scope::All, 0);
            if self.caps.has_second(second::VPID) {
                insn::invvpid_all();
            }
            self.flush = false;
        }
        if core::mem::take(&mut self.flush) {
            let scope = if self.caps.invept_one {
                insn::Scope::One
            } else {
                insn::Scope::All
            };
            insn::invept(scope, self.state.get(state::EPTP));
        }
    }

    /// EFER.LMA follows from LME and paging, and the entry controls from that.
    fn match_entry_controls(&mut self) {
        let paging = self.state.get(state::CR0) & CR0_PG != 0;
        let mut efer = self.state.get(state::EFER);
        efer = if paging && efer & EFER_LME != 0 {
            efer | EFER_LMA
        } else {
            efer & !EFER_LMA
        };
        self.state.set(state::EFER, efer);
        let long = u64::from(enter::GUEST_64);
        self.state
            .change(state::ENTRY_CONTROLS, long, efer & EFER_LMA != 0);
    }

    fn write_event(&mut self, pending: Event) {
        let (mut info, code) = event::encode(pending);
        if pending == Event::Nmi {
            // Delivery blocks further ones; it must not find them blocked.
            self.state
                .change(state::INTERRUPTIBILITY, NMI_BLOCKED, false);
        }
        if self.state.get(state::CR0) & CR0_PE == 0 {
            // Real mode has no error codes, and entries refuse them.
            info &= !event::HAS_CODE;
        }
        // SAFETY: an event for the guest, in a valid form.
        unsafe {
            insn::vmwrite(field::ENTRY_EVENT_CODE, code.into());
            insn::vmwrite(field::ENTRY_EVENT, info.into());
        }
    }

    fn failed_entry(&self) -> Exit {
        let why = if self.info.reason & reason::ENTRY_FAILED != 0 {
            refused::entry(self.info.reason, self.info.qualification)
        } else {
            refused::instruction(insn::vmread(field::INSN_ERROR))
        };
        log::error!("entry to a guest failed: {why}");
        Exit::InvalidState
    }

    /// What an exit means before anything looks at it: an event whose delivery it interrupted is
    /// delivered again, and NMIs that a faulting IRET let in are blocked again.
    fn settle(&mut self) {
        self.pending = event::interrupted(self.info.vectoring, self.info.vectoring_code);
        if self.info.iret_unblocked_nmi() {
            self.state
                .change(state::INTERRUPTIBILITY, NMI_BLOCKED, true);
        }
    }

    /// MOV to CR0 or CR4 that changes a bit of ours: other accesses do not exit.
    fn write_control_register(&mut self) {
        let q = self.info.qualification;
        let number = (q >> 8) as u8 & 15;
        let value = if number == 4 {
            self.regs.rsp
        } else {
            self.regs.get(number)
        };
        // Outside 64-bit mode only half of the register counts.
        let long = self.state.get(state::EFER) & EFER_LMA != 0 && self.segment(SegReg::Cs).long();
        let value = if long { value } else { value & 0xffff_ffff };
        let done = match q & 15 {
            0 => control::write_cr0(&mut self.state, value),
            4 => control::write_cr4(&mut self.state, &self.caps, value),
            _ => control::Write::Fault,
        };
        if done == control::Write::Fault {
            self.inject(Event::GP);
        }
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

    fn tpr(&self) -> u64 {
        u64::from(self.apic_tpr().load(Ordering::Relaxed)) >> 4 & 15
    }

    fn apic_tpr(&self) -> &AtomicU32 {
        &self.apic.0[TPR]
    }

    fn msr(&self, index: usize) -> u64 {
        match LOADED_MSRS.get(index) {
            // SAFETY: all CPUs with VT-x and long mode have them.
            Some(msr) if self.loaded => unsafe { insn::rdmsr(*msr) },
            _ => self.msrs.get(index).copied().unwrap_or(0),
        }
    }

    fn set_msr(&mut self, index: usize, value: u64) {
        if let Some(slot) = self.msrs.get_mut(index) {
            *slot = value;
        }
        if self.loaded {
            self.write_msr(index);
        }
    }

    fn write_msr(&self, index: usize) {
        if let (Some(msr), Some(value)) = (LOADED_MSRS.get(index), self.msrs.get(index)) {
            // What a toolstack sets may be refused (an address that is not canonical): then the
            // register must not keep another guest's value.
            // SAFETY: the hypervisor does not use these registers.
            let _ = unsafe { wrmsr_safe(*msr, *value) || wrmsr_safe(*msr, 0) };
        }
    }

    fn write_tsc_aux(&self) {
        if self.caps.tsc_aux {
            // SAFETY: the MSR exists, and the hypervisor does not use it.
            unsafe { insn::wrmsr(MSR_TSC_AUX, self.tsc_aux & 0xffff_ffff) };
        }
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
        let s = &self.state;
        match reg {
            Reg::Rip => s.get(state::RIP),
            Reg::Rflags => s.get(state::RFLAGS),
            Reg::Cr0 => control::cr0(s),
            Reg::Cr2 => self.cr2,
            Reg::Cr3 => s.get(state::CR3),
            Reg::Cr4 => control::cr4(s, &self.caps),
            Reg::Cr8 => self.tpr(),
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
        }
    }

    fn set(&mut self, reg: Reg, value: u64) {
        let s = &mut self.state;
        if matches!(reg, Reg::Cr0 | Reg::Cr3 | Reg::Cr4 | Reg::Efer) {
            self.flush = true;
        }
        match reg {
            Reg::Rip => s.set(state::RIP, value),
            Reg::Rflags => s.set(state::RFLAGS, value | RFLAGS_FIXED),
            Reg::Cr0 => control::set_cr0(s, &self.caps, value),
            Reg::Cr2 => self.cr2 = value,
            Reg::Cr3 => s.set(state::CR3, value),
            Reg::Cr4 => control::set_cr4(s, &self.caps, value),
            Reg::Cr8 => self
                .apic_tpr()
                .store((value as u32 & 15) << 4, Ordering::Relaxed),
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

    fn load(&mut self, _cpu: &mut PhysCpu) {
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
        host::write();
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
        // Ends: a pending host interrupt turns any entry into an exit.
        loop {
            if !self.enter(cpu) {
                return self.failed_entry();
            }
            self.settle();
            match self.info.reason {
                reason::DEBUG_REGISTER => self.load_debug_registers(),
                reason::CONTROL_REGISTER => self.write_control_register(),
                reason::INTERRUPT_WINDOW => {
                    self.request_interrupt_window(false);
                    return Exit::InterruptWindow;
                }
                reason::NMI_WINDOW => {
                    let window = u64::from(proc::NMI_WINDOW);
                    self.state.change(state::PROC_CONTROLS, window, false);
                    return Exit::NmiWindow;
                }
                _ => match exit::decode(&self.info, self.state.get(state::RIP)) {
                    Exit::Exception { vector: 1, .. } => self.debug_exception(),
                    Exit::Exception { vector: 17, .. } => self.inject(Event::Exception {
                        vector: 17,
                        code: Some(0),
                    }),
                    Exit::HostNmi => {
                        insn::raise_nmi();
                        return Exit::HostNmi;
                    }
                    exit => return exit,
                },
            }
        }
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
        self.state.get(state::INTERRUPTIBILITY) & (SHADOW | NMI_BLOCKED) == 0
            && !self.event_pending()
    }

    fn request_interrupt_window(&mut self, on: bool) {
        let window = u64::from(proc::INTERRUPT_WINDOW);
        self.state.change(state::PROC_CONTROLS, window, on);
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
        if self.state.get(state::RFLAGS) & RFLAGS_TF != 0 {
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

    fn flush_tlb(&mut self) {
        self.flush = true;
    }

    fn reset(&mut self, cold: bool) {
        self.regs = Gprs::default();
        self.pending = None;
        self.info = Info::default();
        self.request_interrupt_window(false);
        let window = u64::from(proc::NMI_WINDOW);
        self.state.change(state::PROC_CONTROLS, window, false);
        for slot in [
            state::INTERRUPTIBILITY,
            state::PENDING_DEBUG,
            state::DEBUGCTL,
        ] {
            self.state.set(slot, 0);
        }
        let data = Segment::new(0, 0x93, 0xffff, 0);
        for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            self.set_segment(reg, data);
        }
        self.set_segment(SegReg::Cs, Segment::new(0xf000, 0x9b, 0xffff, 0xffff_0000));
        self.set_segment(SegReg::Ldtr, Segment::new(0, 0x82, 0xffff, 0));
        self.set_segment(SegReg::Tr, Segment::new(0, 0x8b, 0xffff, 0));
        self.set_segment(SegReg::Gdtr, Segment::new(0, 0, 0xffff, 0));
        self.set_segment(SegReg::Idtr, Segment::new(0, 0, 0xffff, 0));
        // Not CD and NW, which a CPU has after reset: memory is cached for guests all the time.
        for reg in [
            Reg::Cr0,
            Reg::Cr2,
            Reg::Cr3,
            Reg::Cr4,
            Reg::Cr8,
            Reg::Efer,
            Reg::Rflags,
            Reg::Dr0,
            Reg::Dr1,
            Reg::Dr2,
            Reg::Dr3,
        ] {
            self.set(reg, 0);
        }
        self.set(Reg::Rip, 0xfff0);
        self.set(Reg::Dr6, DR6_RESET);
        self.set(Reg::Dr7, DR7_RESET);
        if cold {
            for reg in [
                Reg::Star,
                Reg::Lstar,
                Reg::Cstar,
                Reg::Sfmask,
                Reg::KernelGsBase,
                Reg::SysenterCs,
                Reg::SysenterEsp,
                Reg::SysenterEip,
                Reg::TscAux,
            ] {
                self.set(reg, 0);
            }
            self.set(Reg::Pat, PAT_RESET);
            self.fpu.reset();
            if self.loaded {
                self.fpu.load();
            }
        }
        self.flush_tlb();
    }

    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::dump::dump(f, self)
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
