//! The reasons for which a guest is left, the same for both vendors.

use oxen_types::Vaddr;
use oxen_types::paging::NestedFault;

use super::control::ControlOp;

/// An IN, OUT, INS or OUTS that the I/O permission map does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoExit {
    /// The first port of the access.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    /// IN or INS; else OUT or OUTS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub rep: bool,
    /// RIP behind the instruction.
    pub next_rip: u64,
}

/// An access to a control register that caused an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlExit {
    /// The CPU reports the whole operation.
    Known(ControlOp),
    /// The CPU reports the register and the direction only. The instruction is read from the
    /// guest's memory, where another vcpu may have replaced it meanwhile.
    Access {
        /// The number of the control register.
        control: u8,
        /// The access is a write.
        write: bool,
    },
}

/// The reason for which the guest was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The back end has handled the exit completely: it reflected an exception, or gave the guest
    /// its debug registers. It does not enter again by itself, so that the CPU's loop sees
    /// interrupts of the host before the next entry: an exception whose delivery raises the same
    /// exception again exits for ever and never lets an interrupt in (CVE-2015-5307,
    /// CVE-2015-8104).
    Settled,
    /// A host interrupt is pending; it is taken when the caller enables interrupts.
    ExternalInterrupt,
    /// A host interrupt that the exit has acknowledged at the local APIC: the caller runs the
    /// handler of this vector.
    TakenInterrupt(u8),
    /// A host interrupt or NMI ended the run within an interrupt shadow (behind STI or MOV SS) that
    /// the next entry will not restore: a fault of QEMU's TCG. If the next instruction is HLT, the
    /// caller must carry it out before anything is injected, or the guest sleeps through an
    /// interrupt.
    ShadowLost,
    /// The host's NMI handler has run, or runs as soon as `run` returns.
    HostNmi,
    /// A machine check: the caller runs the host's handler.
    HostMachineCheck,
    /// The guest can take an interrupt now; the answer to a requested interrupt window.
    InterruptWindow,
    /// The guest ended a level-triggered interrupt of this vector at a lent local APIC.
    LevelEoi(u8),
    /// The guest sent itself an IPI through a lent local APIC with a vector below 16, which the
    /// hardware does not deliver.
    SelfIpi(u8),
    /// The guest leaves its NMI handler.
    NmiWindow,
    /// HLT.
    Hlt,
    /// PAUSE, or a loop of PAUSEs.
    Pause,
    /// CPUID.
    Cpuid,
    /// RDMSR that the MSR permission map does not allow.
    Rdmsr,
    /// WRMSR that the MSR permission map does not allow.
    Wrmsr,
    /// XSETBV.
    Xsetbv,
    /// MOV to CR4; without nested paging also MOV from or to CR0, CR3 or CR4, CLTS, LMSW, SMSW.
    ControlRegister(ControlExit),
    /// INVLPG, without nested paging.
    Invlpg,
    /// A page fault, without nested paging: the guest's own, or one that the shadow settles.
    PageFault {
        /// The error code.
        code: u32,
        /// The linear address of the access.
        address: Vaddr,
    },
    /// A privileged instruction of real mode, on a CPU where real mode runs as virtual-8086 mode.
    /// The caller emulates the instruction with `emul::real_mode`.
    RealMode,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// Port I/O.
    Io(IoExit),
    /// A nested page fault (NPT) or EPT violation.
    NestedFault(NestedFault),
    /// RDPMC.
    Rdpmc,
    /// INVD.
    Invd,
    /// WBINVD.
    Wbinvd,
    /// MONITOR.
    Monitor,
    /// MWAIT.
    Mwait,
    /// An instruction of a virtualization extension (VMRUN, VMXON, SKINIT, INVLPGA and so on).
    /// Guests have none of these extensions: #UD.
    VirtInstruction,
    /// RDPRU, which guests do not have: #UD.
    Rdpru,
    /// INT1: the caller steps over the instruction and injects #DB.
    Icebp,
    /// A hardware task switch, which guests cannot do: VT-x does not support it.
    TaskSwitch,
    /// A guest without nested paging ran with this CR3 instead of the shadow's root. The domain
    /// cannot go on.
    ForeignRoot(u64),
    /// An exception that is intercepted and has no variant of its own.
    Exception {
        /// The vector.
        vector: u8,
        /// The error code, 0 if the vector has none.
        code: u64,
        /// The address that the hardware reports with the exception.
        addr: u64,
    },
    /// A triple fault.
    Shutdown,
    /// The hardware refused the guest state: a fault of the hypervisor's, or a state that a
    /// toolstack set. The domain cannot go on.
    InvalidState,
    /// An exit code that the hypervisor does not know, with what the hardware reports beside it.
    Unknown {
        /// The exit code of the VMCB, or the exit reason of the VMCS.
        code: u64,
        /// EXITINFO1, or the exit qualification.
        info1: u64,
        /// EXITINFO2, or the guest physical address.
        info2: u64,
    },
}
