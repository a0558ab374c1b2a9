//! What the rest of the hypervisor knows of a virtual CPU: registers, exits, events, and the trait
//! that AMD-V (`svm`) and VT-x (`vmx`) implement.
//!
//! Register values are the guest's view: bits which the hardware needs and the guest must not see
//! (such as EFER.SVME) never leave the back end.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use oxen_types::{Gaddr, Maddr, Vaddr};

use crate::dev::lapic::{LapicImage, LapicPosted};
use crate::emul::ControlOp;
use crate::fpu::Fpu;
use crate::platform::PhysCpu;

/// The general registers, in the order of their encoding in instructions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Gprs {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

impl Gprs {
    /// By number; only the low four bits of it count.
    pub fn get(&self, number: u8) -> u64 {
        match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }

    pub fn set(&mut self, number: u8, value: u64) {
        let slot = match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        };
        *slot = value;
    }

    /// EDX:EAX, as MSR instructions and XSETBV pass a value.
    pub fn edx_eax(&self) -> u64 {
        (self.rdx << 32) | (self.rax & 0xffff_ffff)
    }

    pub fn set_edx_eax(&mut self, value: u64) {
        self.rax = value & 0xffff_ffff;
        self.rdx = value >> 32;
    }
}

/// A register outside the general ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reg {
    Rip,
    Rflags,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    /// The task priority as MOV CR8 sees it, 0 to 15.
    Cr8,
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    Dr6,
    Dr7,
    Xcr0,
    Efer,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Pat,
    TscAux,
    SpecCtrl,
    VirtSpecCtrl,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegReg {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
    Gdtr,
    Idtr,
}

impl SegReg {
    pub const ALL: [Self; 10] = [
        Self::Es,
        Self::Cs,
        Self::Ss,
        Self::Ds,
        Self::Fs,
        Self::Gs,
        Self::Ldtr,
        Self::Tr,
        Self::Gdtr,
        Self::Idtr,
    ];
}

/// A segment with its hidden part. `attr` is packed as in a VMCB: bits 0-7 are descriptor bits
/// 40-47 (type, S, DPL, P), bits 8-11 are descriptor bits 52-55 (AVL, L, D/B, G).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Segment {
    pub selector: u16,
    pub attr: u16,
    pub limit: u32,
    pub base: u64,
}

impl Segment {
    pub const fn new(selector: u16, attr: u16, limit: u32, base: u64) -> Self {
        Self {
            selector,
            attr,
            limit,
            base,
        }
    }
    pub const fn long(&self) -> bool {
        self.attr & (1 << 9) != 0
    }
    /// The D/B bit: 32-bit by default.
    pub const fn big(&self) -> bool {
        self.attr & (1 << 10) != 0
    }
}

/// How instructions are decoded: by the CS and EFER of the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuMode {
    /// Real or virtual-8086: segment bases are selectors * 16 at the time of loading.
    Real16,
    Prot16,
    Prot32,
    Long64,
}

impl CpuMode {
    pub const fn bits(self) -> u32 {
        match self {
            Self::Real16 | Self::Prot16 => 16,
            Self::Prot32 => 32,
            Self::Long64 => 64,
        }
    }
}

/// What is delivered to the guest at its next entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Interrupt(u8),
    Nmi,
    Exception { vector: u8, code: Option<u32> },
}

impl Event {
    pub const UD: Self = Self::Exception {
        vector: 6,
        code: None,
    };
    pub const GP: Self = Self::Exception {
        vector: 13,
        code: Some(0),
    };
    pub const MC: Self = Self::Exception {
        vector: 18,
        code: None,
    };
    pub const DB: Self = Self::Exception {
        vector: 1,
        code: None,
    };
    pub const AC: Self = Self::Exception {
        vector: 17,
        code: Some(0),
    };
    /// CR2 is the caller's to set.
    pub const fn page_fault(code: u32) -> Self {
        Self::Exception {
            vector: 14,
            code: Some(code),
        }
    }
}

/// An IN, OUT, INS or OUTS that the port bitmap did not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoExit {
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    pub input: bool,
    pub string: bool,
    pub rep: bool,
    pub next_rip: u64,
}

/// An access to guest physical memory that the nested tables do not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NestedFault {
    pub gpa: Gaddr,
    pub write: bool,
    pub fetch: bool,
    /// A translation is there: its rights were not enough.
    pub present: bool,
    /// It was the walk of the guest's own page tables that faulted, not the access.
    pub table_walk: bool,
}

/// An access to a control register that made the guest exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlExit {
    /// The CPU tells the whole operation.
    Known(ControlOp),
    /// The CPU tells the register and the direction: the instruction is read from the guest's memory, where it may
    /// have been replaced meanwhile.
    Access { control: u8, write: bool },
}

/// Why the guest stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The back end has done all that there was to do: it reflected an exception, or let the guest have its debug
    /// registers. The CPU's loop comes round all the same before the next entry: an exception whose delivery raises it
    /// again never lets an interrupt in (CVE-2015-5307, CVE-2015-8104).
    Settled,
    /// An interrupt for the host is pending; it is taken when the caller opens interrupts.
    ExternalInterrupt,
    /// It came with its vector, taken from the local APIC: the caller runs its handler.
    TakenInterrupt(u8),
    /// The host's NMI or machine check handler has run, or runs as soon as we leave `run`.
    HostNmi,
    HostMachineCheck,
    /// The guest can take an interrupt now (after `request_interrupt_window`).
    InterruptWindow,
    /// The hardware completed a level-triggered vector of the local APIC that it was given.
    LevelEoi(u8),
    /// A self-IPI that it does not do: of a vector below 16.
    SelfIpi(u8),
    /// The guest leaves its NMI handler.
    NmiWindow,
    Hlt,
    Pause,
    Cpuid,
    Rdmsr,
    Wrmsr,
    Xsetbv,
    /// MOV to CR4; without nested paging also MOV from or to CR0, CR3 or CR4, CLTS, LMSW, SMSW.
    ControlRegister(ControlExit),
    /// Without nested paging: INVLPG.
    Invlpg,
    /// Without nested paging: a page fault, to be made the guest's or the shadow's.
    PageFault {
        code: u32,
        address: Vaddr,
    },
    /// A privileged instruction of real mode, where that is only made believe: `emul::real_mode` does it.
    RealMode,
    Hypercall,
    Io(IoExit),
    NestedFault(NestedFault),
    Rdpmc,
    Invd,
    Wbinvd,
    Monitor,
    Mwait,
    /// VMRUN and its kin, SKINIT, INVLPGA: not offered, #UD.
    VirtInstruction,
    /// RDPRU: not offered, #UD.
    Rdpru,
    /// INT1: #DB behind it.
    Icebp,
    /// A hardware task switch: not offered, as VT-x cannot do it.
    TaskSwitch,
    /// A guest without nested paging ran with another CR3 than the shadow's: it cannot go on.
    ForeignRoot(u64),
    /// Reserved for exceptions that a caller asks to see.
    Exception {
        vector: u8,
        code: u64,
        addr: u64,
    },
    /// Triple fault.
    Shutdown,
    /// The hardware refused the state that we entered with: a bug of ours, or a state set by a
    /// toolstack. The domain cannot go on.
    InvalidState,
    Unknown {
        code: u64,
        info1: u64,
        info2: u64,
    },
}

/// The roots of a shadow: what the CPU's CR3 holds while the guest is in long mode, and while it is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShadowRoots {
    pub long: Maddr,
    pub pae: Maddr,
}

/// What rules how the vcpu's next instruction is found, decoded and translated: read at once, as every
/// exit that looks at an instruction needs most of it.
#[derive(Clone, Copy, Debug)]
pub struct Execution {
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
}

impl Execution {
    pub fn mode(&self) -> CpuMode {
        use crate::x86::{CR0_PE, EFER_LMA, RFLAGS_VM};
        if self.cr0 & CR0_PE == 0 || self.rflags & RFLAGS_VM != 0 {
            CpuMode::Real16
        } else if self.efer & EFER_LMA != 0 && self.cs.long() {
            CpuMode::Long64
        } else if self.cs.big() {
            CpuMode::Prot32
        } else {
            CpuMode::Prot16
        }
    }

    /// The linear address of the instruction at the exit.
    pub fn linear_rip(&self) -> u64 {
        match self.mode() {
            CpuMode::Long64 => self.rip,
            _ => self.cs.base.wrapping_add(self.rip) & 0xffff_ffff,
        }
    }
}

/// An interrupt that waits for the guest to be able to take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// None waits.
    Unwanted,
    /// RFLAGS.IF or an interrupt shadow holds it back.
    Interrupts,
    /// The task priority does, and perhaps the others too. CR8 has to fall below this class, which is the
    /// vector's upper four bits.
    Priority(u8),
}

/// One virtual CPU of some vendor's hardware.
///
/// Life: `reset` (or a start function of `crate::start`), `set_nested_root`, `set_tsc_offset`;
/// then on a physical CPU `load`, any number of `run`s, `unload`. Registers may be read and set
/// while it is loaded, between runs, or while it is not.
pub trait VcpuBackend: Send {
    fn gprs(&self) -> &Gprs;
    fn gprs_mut(&mut self) -> &mut Gprs;
    fn get(&self, reg: Reg) -> u64;
    /// Sets a register without the checks an instruction would make: `crate::policy` has those.
    fn set(&mut self, reg: Reg, value: u64);
    fn segment(&self, reg: SegReg) -> Segment;
    fn set_segment(&mut self, reg: SegReg, segment: Segment);
    fn cpl(&self) -> u8;
    fn execution(&self) -> Execution {
        Execution {
            rip: self.get(Reg::Rip),
            rflags: self.get(Reg::Rflags),
            cr0: self.get(Reg::Cr0),
            cr3: self.get(Reg::Cr3),
            cr4: self.get(Reg::Cr4),
            efer: self.get(Reg::Efer),
            cs: self.segment(SegReg::Cs),
        }
    }
    fn fpu(&self) -> &Fpu;
    /// While loaded, the registers of the CPU are the truth and this is a stale copy.
    fn fpu_mut(&mut self) -> &mut Fpu;

    /// Takes the physical CPU: FPU, debug registers, TSC_AUX.
    fn load(&mut self, cpu: &mut PhysCpu);
    /// Gives it up; afterwards the vcpu can be loaded anywhere.
    fn unload(&mut self, cpu: &mut PhysCpu);
    /// Enters the guest once, with interrupts off on entry and on return. A pending host interrupt
    /// ends the entry and stays pending.
    fn run(&mut self, cpu: &mut PhysCpu) -> Exit;

    /// Can runs end by themselves (`set_deadline`)?
    fn has_deadline(&self) -> bool {
        false
    }
    /// Runs end, as for a host interrupt, once the host's TSC has come so far; `None`: they do not.
    fn set_deadline(&mut self, _tsc: Option<u64>) {}

    /// The event for the next entry; replaces one that is not delivered yet.
    fn inject(&mut self, event: Event);
    /// What waits to be delivered at the next entry.
    fn pending_event(&self) -> Option<Event>;
    fn event_pending(&self) -> bool {
        self.pending_event().is_some()
    }
    /// The next entry is to end at once by an interrupt of the host: a quirk.
    fn wants_exit_at_once(&self) -> bool {
        false
    }
    /// The next instruction lies in an interrupt shadow that the next entry would not keep: a quirk.
    fn forgets_shadow(&self) -> bool {
        false
    }
    fn can_take_interrupt(&self) -> bool;
    fn can_take_nmi(&self) -> bool;
    /// Asks for `Exit::InterruptWindow` as soon as the guest can take what waits.
    fn request_interrupt_window(&mut self, window: Window);

    /// Can the hardware keep a local APIC in x2APIC mode: deliver its interrupts and complete them without exits?
    fn keeps_apic(&self) -> bool {
        false
    }
    /// While loaded: the hardware keeps it from the next entry on.
    fn give_apic(&mut self, image: &LapicImage) {
        let _ = image;
    }
    /// While loaded: what became of what the hardware changes of it, if it was given; it is not from here on.
    fn take_apic(&mut self) -> Option<LapicImage> {
        None
    }
    /// Where vectors for it are posted. Before it is first loaded.
    fn set_posted(&mut self, posted: &Arc<LapicPosted>) {
        let _ = posted;
    }
    /// Does a CPU that runs it take over what is posted, when it is notified? If it was given the APIC; else it
    /// leaves the guest.
    fn takes_posted(&self) -> bool {
        false
    }

    /// Bytes of the instruction that caused the exit, if the hardware tells.
    fn insn_len(&self) -> Option<u8>;
    /// The bytes of the instruction at the exit, if the hardware fetched them.
    fn insn_bytes(&self) -> &[u8];
    /// Steps over an instruction that was emulated: also ends an interrupt shadow, clears RFLAGS.RF, and raises
    /// #DB where RFLAGS.TF is set.
    fn advance_rip(&mut self, len: u8);

    /// Guest TSC = host TSC + offset.
    fn set_tsc_offset(&mut self, offset: u64);
    fn tsc_offset(&self) -> u64;
    fn set_nested_root(&mut self, root: Maddr);
    /// Instead of [`VcpuBackend::set_nested_root`]: the guest runs on a shadow of its page tables. False if
    /// this back end cannot.
    fn set_shadow_roots(&mut self, roots: ShadowRoots) -> bool {
        let _ = roots;
        false
    }
    /// The guest that runs on a shadow goes on with other roots; its TLB is flushed by the caller.
    fn move_shadow_roots(&mut self, roots: ShadowRoots) {
        let _ = roots;
    }
    /// Forget this vcpu's translations before its next entry.
    fn flush_tlb(&mut self);
    /// The state after INIT, interrupts and events dropped. FPU, MSRs and debug state as after a
    /// reset if `cold`.
    fn reset(&mut self, cold: bool);
    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Conveniences over the trait's primitive accessors.
impl dyn VcpuBackend + '_ {
    pub fn rip(&self) -> u64 {
        self.get(Reg::Rip)
    }
    pub fn cs(&self) -> Segment {
        self.segment(SegReg::Cs)
    }
    pub fn paging(&self) -> bool {
        self.get(Reg::Cr0) & crate::x86::CR0_PG != 0
    }
    /// Long mode is active (64-bit or compatibility).
    pub fn long_mode(&self) -> bool {
        self.get(Reg::Efer) & crate::x86::EFER_LMA != 0
    }
    pub fn mode(&self) -> CpuMode {
        self.execution().mode()
    }
}

impl fmt::Debug for dyn VcpuBackend + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dump(f)
    }
}

pub type BoxedVcpu = Box<dyn VcpuBackend>;
