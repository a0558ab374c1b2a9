//! The CPU's features: read once on the boot CPU, and switched on on each CPU.
#![allow(unsafe_code, reason = "writes control registers")]

use crate::cmdline::CommandLine;
use bitflags::bitflags;
use raw_cpuid::CpuId;
use spin::Once;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::debug::Dr7;
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

#[cfg(target_os = "none")]
use super::msr;

bitflags! {
    /// Features that the hypervisor uses or looks at, by the names of CPUID's bits.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// Pages that cannot be executed.
        const NX = 1 << 0;
        /// The hypervisor cannot execute user pages.
        const SMEP = 1 << 1;
        /// The hypervisor cannot read user pages by mistake.
        const SMAP = 1 << 2;
        /// User code cannot read descriptor tables' addresses.
        const UMIP = 1 << 3;
        /// Global pages.
        const PGE = 1 << 4;
        /// Pages of 1 GiB.
        const PAGE_1G = 1 << 5;
        /// XSAVE and XRSTOR.
        const XSAVE = 1 << 6;
        /// XSAVEOPT.
        const XSAVEOPT = 1 << 7;
        /// XSAVEC.
        const XSAVEC = 1 << 8;
        /// XSAVES and XRSTORS.
        const XSAVES = 1 << 9;
        /// AVX.
        const AVX = 1 << 10;
        /// AVX-512.
        const AVX512 = 1 << 11;
        /// The local APIC by MSRs.
        const X2APIC = 1 << 12;
        /// The local APIC timer's TSC deadline.
        const TSC_DEADLINE = 1 << 13;
        /// A TSC of constant rate.
        const TSC_INVARIANT = 1 << 14;
        /// RDTSCP.
        const RDTSCP = 1 << 15;
        /// AMD-V.
        const SVM = 1 << 16;
        /// VT-x.
        const VMX = 1 << 17;
        /// Instructions for FS and GS bases.
        const FSGSBASE = 1 << 18;
        /// Address space tags.
        const PCID = 1 << 19;
        /// INVPCID.
        const INVPCID = 1 << 20;
        /// Protection keys of user pages.
        const PKU = 1 << 21;
        /// MONITOR and MWAIT.
        const MONITOR = 1 << 22;
        /// A hypervisor runs below.
        const HYPERVISOR = 1 << 23;
        /// An APIC timer that runs in deep sleep.
        const ARAT = 1 << 24;
    }
}

/// The maker of the CPU, by CPUID's vendor string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    /// AuthenticAMD
    Amd,
    /// HygonGenuine
    Hygon,
    /// GenuineIntel
    Intel,
    /// Any other string.
    Other,
}

struct Detected {
    features: Features,
    vendor: Vendor,
    physical_bits: u8,
}

static DETECTED: Once<Detected> = Once::new();

/// Features of the boot CPU, less what the command line forbids. Empty before `detect`.
pub fn features() -> Features {
    let masked = MASKED.load(core::sync::atomic::Ordering::Relaxed);
    DETECTED.get().map_or(Features::empty(), |d| d.features) - Features::from_bits_truncate(masked)
}

static MASKED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// The boot CPU's maker.
pub fn vendor() -> Vendor {
    DETECTED.get().map_or(Vendor::Other, |d| d.vendor)
}

/// Width of physical addresses.
pub fn physical_bits() -> u8 {
    DETECTED.get().map_or(36, |d| d.physical_bits)
}

/// Reads CPUID, on the boot CPU.
pub fn detect() {
    #[cfg(target_os = "none")]
    allow_nx();
    DETECTED.call_once(read);
}

#[cfg(any(test, target_os = "none"))]
const IA32_MISC_ENABLE: u32 = 0x1a0;
#[cfg(any(test, target_os = "none"))]
const XD_DISABLED: u64 = 1 << 34;

/// The value for IA32_MISC_ENABLE, if firmware has switched NX off: the page tables have the bit,
/// which would be a reserved one then. CPUID shows NX only afterwards (Intel SDM 4, table 2-2).
#[cfg(any(test, target_os = "none"))]
pub(crate) fn with_nx(misc_enable: u64) -> Option<u64> {
    (misc_enable & XD_DISABLED != 0).then_some(misc_enable & !XD_DISABLED)
}

/// On the boot CPU; the others do it in their start-up code, before they load EFER.
#[cfg(target_os = "none")]
fn allow_nx() {
    if misc_enable_hides_nx()
        && let Some(value) = msr::rdmsr_safe(IA32_MISC_ENABLE).and_then(with_nx)
    {
        // SAFETY: takes a restriction away that the page tables do not expect.
        let _ = unsafe { msr::wrmsr_safe(IA32_MISC_ENABLE, value) };
    }
}

/// Whether this CPU has IA32_MISC_ENABLE with the bit that hides NX: Intel's with long mode do.
#[cfg(target_os = "none")]
pub(crate) fn misc_enable_hides_nx() -> bool {
    let cpuid = CpuId::new();
    cpuid
        .get_vendor_info()
        .is_some_and(|vendor| vendor.as_str() == "GenuineIntel")
}

fn read() -> Detected {
    let cpuid = CpuId::new();
    let mut found = Features::empty();
    if let Some(info) = cpuid.get_feature_info() {
        found.set(Features::PGE, info.has_pge());
        found.set(Features::XSAVE, info.has_xsave());
        found.set(Features::AVX, info.has_avx());
        found.set(Features::X2APIC, info.has_x2apic());
        found.set(Features::TSC_DEADLINE, info.has_tsc_deadline());
        found.set(Features::VMX, info.has_vmx());
        found.set(Features::PCID, info.has_pcid());
        found.set(Features::MONITOR, info.has_monitor_mwait());
        found.set(Features::HYPERVISOR, info.has_hypervisor());
    }
    if let Some(info) = cpuid.get_extended_feature_info() {
        found.set(Features::SMEP, info.has_smep());
        found.set(Features::SMAP, info.has_smap());
        found.set(Features::UMIP, info.has_umip());
        found.set(Features::AVX512, info.has_avx512f());
        found.set(Features::FSGSBASE, info.has_fsgsbase());
        found.set(Features::INVPCID, info.has_invpcid());
        found.set(Features::PKU, info.has_pku());
    }
    if let Some(info) = cpuid.get_extended_state_info() {
        found.set(Features::XSAVEOPT, info.has_xsaveopt());
        found.set(Features::XSAVEC, info.has_xsavec());
        found.set(Features::XSAVES, info.has_xsaves_xrstors());
    }
    if let Some(info) = cpuid.get_extended_processor_and_feature_identifiers() {
        found.set(Features::NX, info.has_execute_disable());
        found.set(Features::PAGE_1G, info.has_1gib_pages());
        found.set(Features::RDTSCP, info.has_rdtscp());
        found.set(Features::SVM, info.has_svm());
    }
    if let Some(info) = cpuid.get_advanced_power_mgmt_info() {
        found.set(Features::TSC_INVARIANT, info.has_invariant_tsc());
    }
    if let Some(info) = cpuid.get_thermal_power_info() {
        found.set(Features::ARAT, info.has_arat());
    }
    if !found.contains(Features::XSAVE) {
        found -= XSAVE_FAMILY;
    }
    let vendor = match cpuid.get_vendor_info().as_ref().map(|v| v.as_str()) {
        Some("AuthenticAMD") => Vendor::Amd,
        Some("HygonGenuine") => Vendor::Hygon,
        Some("GenuineIntel") => Vendor::Intel,
        _ => Vendor::Other,
    };
    let physical_bits = cpuid
        .get_processor_capacity_feature_info()
        .map_or(36, |info| info.physical_address_bits());
    Detected {
        features: found,
        vendor,
        physical_bits,
    }
}

/// Features that do not work without XSAVE.
const XSAVE_FAMILY: Features = Features::XSAVEOPT
    .union(Features::XSAVEC)
    .union(Features::XSAVES)
    .union(Features::AVX)
    .union(Features::AVX512)
    .union(Features::PKU);

/// Options that forbid a feature: `no-smep`, `smap=off`, `x2apic=off` and so on.
pub const OPTIONS: &[(&str, Features)] = &[
    ("smep", Features::SMEP),
    ("smap", Features::SMAP),
    ("umip", Features::UMIP),
    ("xsave", Features::XSAVE),
    ("x2apic", Features::X2APIC),
    ("tsc_deadline", Features::TSC_DEADLINE),
];

/// Hides the features that the command line forbids.
pub fn apply_options(cmdline: CommandLine<'_>) {
    let mut masked = Features::empty();
    for (key, feature) in OPTIONS {
        masked.set(*feature, cmdline.flag(key) == Some(false));
    }
    if masked.contains(Features::XSAVE) {
        masked |= XSAVE_FAMILY;
    }
    MASKED.store(masked.bits(), core::sync::atomic::Ordering::Relaxed);
}

/// Puts this CPU into the state that the hypervisor relies on.
pub fn enable_on_this_cpu() {
    let have = features();
    let mut cr4 = Cr4Flags::DEBUGGING_EXTENSIONS
        | Cr4Flags::MACHINE_CHECK_EXCEPTION
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE;
    for (feature, flag) in [
        (
            Features::SMEP,
            Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        ),
        (Features::SMAP, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        (Features::UMIP, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        (Features::PGE, Cr4Flags::PAGE_GLOBAL),
        (Features::XSAVE, Cr4Flags::OSXSAVE),
    ] {
        cr4.set(flag, have.contains(feature));
    }
    let cr0_on = Cr0Flags::WRITE_PROTECT | Cr0Flags::NUMERIC_ERROR | Cr0Flags::MONITOR_COPROCESSOR;
    let cr0_off = Cr0Flags::EMULATE_COPROCESSOR
        | Cr0Flags::TASK_SWITCHED
        | Cr0Flags::CACHE_DISABLE
        | Cr0Flags::NOT_WRITE_THROUGH;
    // SAFETY: only flags whose CPUID feature is there; the page tables have no user pages, so SMEP
    // and SMAP take nothing away; WP and NXE are what our page tables expect. XCR0 needs OSXSAVE.
    unsafe {
        Cr0::write_raw(Cr0::read_raw() & !cr0_off.bits() | cr0_on.bits());
        Cr4::write_raw(Cr4::read_raw() | cr4.bits());
        if have.contains(Features::NX) {
            Efer::write_raw(Efer::read_raw() | EferFlags::NO_EXECUTE_ENABLE.bits());
        }
        if have.contains(Features::XSAVE) {
            // x87 and SSE always; more is enabled around each vcpu.
            XCr0::write_raw((XCr0Flags::X87 | XCr0Flags::SSE).bits());
        }
    }
    Dr7::write_raw(DR7_RESET);
}

/// No breakpoint is enabled; bit 10 is always set.
const DR7_RESET: u64 = 0x400;

#[cfg(test)]
mod tests {
    use super::*;

    /// NX-1
    #[test]
    fn nx_that_firmware_switched_off_is_switched_on() {
        assert_eq!(with_nx(0x4_0085_0089), Some(0x85_0089));
        assert_eq!(with_nx(0x85_0089), None);
        assert_eq!(with_nx(u64::MAX), Some(!XD_DISABLED));
    }

    /// NX-1: the start-up code of the other CPUs clears the same bit of the same register before it
    /// loads EFER.
    #[test]
    fn starting_cpus_switch_nx_on_before_efer() {
        let code = include_str!("../smp/trampoline.s");
        let at = |text: &str| code.find(text).unwrap_or(usize::MAX);
        let register = format!("${IA32_MISC_ENABLE:#x}, %ecx");
        let bit = format!("btrl ${}, %edx", XD_DISABLED.trailing_zeros() - 32);
        assert!(at(&register) < at(&bit) && at(&bit) < at("$0xc0000080"));
        assert_ne!(at("$0xc0000080"), usize::MAX);
    }
}
