//! Short names for the flags that this crate tests in guests' registers, which are plain numbers
//! there. The values are those of the crate `x86_64`: a number stands here only where it has none.

pub use raw_cpuid::native_cpuid::CpuIdReaderNative;
pub use raw_cpuid::{CpuIdReader, CpuIdResult};
use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::registers::debug::Dr6Flags;
use x86_64::registers::model_specific::EferFlags;
use x86_64::registers::rflags::RFlags;

pub const CR0_PE: u64 = Cr0Flags::PROTECTED_MODE_ENABLE.bits();
pub const CR0_MP: u64 = Cr0Flags::MONITOR_COPROCESSOR.bits();
pub const CR0_EM: u64 = Cr0Flags::EMULATE_COPROCESSOR.bits();
pub const CR0_TS: u64 = Cr0Flags::TASK_SWITCHED.bits();
pub const CR0_ET: u64 = Cr0Flags::EXTENSION_TYPE.bits();
pub const CR0_NE: u64 = Cr0Flags::NUMERIC_ERROR.bits();
pub const CR0_WP: u64 = Cr0Flags::WRITE_PROTECT.bits();
pub const CR0_AM: u64 = Cr0Flags::ALIGNMENT_MASK.bits();
pub const CR0_NW: u64 = Cr0Flags::NOT_WRITE_THROUGH.bits();
pub const CR0_CD: u64 = Cr0Flags::CACHE_DISABLE.bits();
pub const CR0_PG: u64 = Cr0Flags::PAGING.bits();

pub const CR4_PSE: u64 = Cr4Flags::PAGE_SIZE_EXTENSION.bits();
pub const CR4_PAE: u64 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits();
/// Machine checks are exceptions; without it they shut the CPU down.
pub const CR4_MCE: u64 = Cr4Flags::MACHINE_CHECK_EXCEPTION.bits();
pub const CR4_PGE: u64 = Cr4Flags::PAGE_GLOBAL.bits();
pub const CR4_OSFXSR: u64 = Cr4Flags::OSFXSR.bits();
pub const CR4_OSXMMEXCPT: u64 = Cr4Flags::OSXMMEXCPT_ENABLE.bits();
/// User code may not read descriptor tables' addresses and CR0.
pub const CR4_UMIP: u64 = Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION.bits();
pub const CR4_LA57: u64 = Cr4Flags::L5_PAGING.bits();
pub const CR4_FSGSBASE: u64 = Cr4Flags::FSGSBASE.bits();
pub const CR4_PCIDE: u64 = Cr4Flags::PCID.bits();
pub const CR4_OSXSAVE: u64 = Cr4Flags::OSXSAVE.bits();
pub const CR4_SMEP: u64 = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits();
pub const CR4_SMAP: u64 = Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION.bits();
pub const CR4_PKE: u64 = Cr4Flags::PROTECTION_KEY_USER.bits();

pub const EFER_SCE: u64 = EferFlags::SYSTEM_CALL_EXTENSIONS.bits();
pub const EFER_LME: u64 = EferFlags::LONG_MODE_ENABLE.bits();
pub const EFER_LMA: u64 = EferFlags::LONG_MODE_ACTIVE.bits();
pub const EFER_NX: u64 = EferFlags::NO_EXECUTE_ENABLE.bits();
pub const EFER_SVME: u64 = EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE.bits();
pub const EFER_FFXSR: u64 = EferFlags::FAST_FXSAVE_FXRSTOR.bits();

pub const RFLAGS_FIXED: u64 = 1 << 1;
pub const RFLAGS_CF: u64 = RFlags::CARRY_FLAG.bits();
pub const RFLAGS_PF: u64 = RFlags::PARITY_FLAG.bits();
pub const RFLAGS_AF: u64 = RFlags::AUXILIARY_CARRY_FLAG.bits();
pub const RFLAGS_ZF: u64 = RFlags::ZERO_FLAG.bits();
pub const RFLAGS_SF: u64 = RFlags::SIGN_FLAG.bits();
pub const RFLAGS_TF: u64 = RFlags::TRAP_FLAG.bits();
pub const RFLAGS_IF: u64 = RFlags::INTERRUPT_FLAG.bits();
pub const RFLAGS_DF: u64 = RFlags::DIRECTION_FLAG.bits();
pub const RFLAGS_OF: u64 = RFlags::OVERFLOW_FLAG.bits();
pub const RFLAGS_RF: u64 = RFlags::RESUME_FLAG.bits();
pub const RFLAGS_VM: u64 = RFlags::VIRTUAL_8086_MODE.bits();
pub const RFLAGS_AC: u64 = RFlags::ALIGNMENT_CHECK.bits();

pub const DR6_RESET: u64 = 0xffff_0ff0;
/// Single step.
pub const DR6_BS: u64 = Dr6Flags::STEP.bits();
pub const DR7_RESET: u64 = 0x400;
/// Low bits of DR7 that enable breakpoints.
pub const DR7_ENABLES: u64 = 0xff;

/// PAT after reset: WB, WT, UC-, UC, twice.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

pub const MSR_TSC: u32 = 0x10;
pub const MSR_APIC_BASE: u32 = 0x1b;
pub const MSR_SYSENTER_CS: u32 = 0x174;
pub const MSR_SYSENTER_ESP: u32 = 0x175;
pub const MSR_SYSENTER_EIP: u32 = 0x176;
pub const MSR_PAT: u32 = 0x277;
pub const MSR_EFER: u32 = 0xc000_0080;
pub const MSR_STAR: u32 = 0xc000_0081;
pub const MSR_LSTAR: u32 = 0xc000_0082;
pub const MSR_CSTAR: u32 = 0xc000_0083;
pub const MSR_SFMASK: u32 = 0xc000_0084;
pub const MSR_FS_BASE: u32 = 0xc000_0100;
pub const MSR_GS_BASE: u32 = 0xc000_0101;
pub const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
pub const MSR_TSC_AUX: u32 = 0xc000_0103;
pub const MSR_VM_CR: u32 = 0xc001_0114;
pub const MSR_VM_HSAVE_PA: u32 = 0xc001_0117;

/// A CPUID leaf that the CPU does not have.
pub const NO_LEAF: CpuIdResult = CpuIdResult {
    eax: 0,
    ebx: 0,
    ecx: 0,
    edx: 0,
};
