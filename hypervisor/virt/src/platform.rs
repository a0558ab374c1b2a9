//! The machine's virtualization hardware, found once at boot: the only place that names vendors.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use oxen_types::{CpuId, Maddr};

use crate::backend::BoxedVcpu;
use crate::fpu::{self, FpuLayout};
use crate::svm::{SvmCaps, SvmCpu, SvmDomain, SvmVcpu};
use crate::x86::{CpuidSource, HostCpuid};

/// The machine address of something in the hypervisor's heap, by its linear address.
pub type ToMaddr = fn(usize) -> Maddr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtError {
    NoSvm,
    NoNestedPaging,
    NoAsids,
    /// VM_CR.SVMDIS is set.
    DisabledByFirmware,
    NoMemory,
}

impl fmt::Display for VirtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSvm => "the CPU has no AMD-V (SVM)",
            Self::NoNestedPaging => "the CPU's AMD-V lacks nested paging (NPT)",
            Self::NoAsids => "the CPU's AMD-V offers no address space identifiers",
            Self::DisabledByFirmware => {
                "AMD-V is disabled by the firmware: enable SVM in the BIOS setup"
            }
            Self::NoMemory => "out of memory",
        })
    }
}

/// Faults of particular emulators, found by CPUID. Each has a test case that shows it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Quirks {
    /// QEMU's TCG: the type of an interrupted event is recorded as exception for all of them.
    pub event_type_lost: bool,
    /// QEMU's TCG before 9: XSETBV in a guest is executed although it is intercepted. (The
    /// self-test shows it.) So the register is the truth about a loaded guest's XCR0.
    pub xsetbv_runs: bool,
}

impl Quirks {
    fn detect(cpuid: &impl CpuidSource) -> Self {
        let leaf = cpuid.cpuid(0x4000_0000, 0);
        let tcg = cpuid.cpuid(1, 0).ecx & (1 << 31) != 0
            && [leaf.ebx, leaf.ecx, leaf.edx]
                .map(u32::to_le_bytes)
                .concat()
                == b"TCGTCGTCGTCG";
        Self {
            event_type_lost: tcg,
            xsetbv_runs: tcg,
        }
    }
}

/// What all CPUs of the machine have in common.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    pub svm: SvmCaps,
    pub fpu: FpuLayout,
    pub quirks: Quirks,
    to_maddr: ToMaddr,
}

impl Platform {
    /// Once, when the heap works.
    pub fn detect(to_maddr: ToMaddr) -> Result<Self, VirtError> {
        crate::emul::build_tables();
        let cpuid = HostCpuid;
        Ok(Self {
            svm: SvmCaps::detect(&cpuid)?,
            fpu: FpuLayout::detect(&cpuid),
            quirks: Quirks::detect(&cpuid),
            to_maddr,
        })
    }

    /// A machine without any optional feature.
    #[cfg(test)]
    pub(crate) fn for_tests(to_maddr: ToMaddr) -> Self {
        use crate::svm::SvmFeatures;
        Self {
            svm: SvmCaps {
                features: SvmFeatures::NESTED_PAGING,
                asids: 16,
                tsc_aux: true,
                invlpgb: false,
            },
            fpu: FpuLayout::none(),
            quirks: Quirks::default(),
            to_maddr,
        }
    }

    /// Switches virtualization on for the CPU that runs this. Its GS base, TSS and system call
    /// MSRs must be final.
    pub fn enable_cpu(&self, cpu: CpuId) -> Result<PhysCpu, VirtError> {
        fpu::enable_cpu(&self.fpu);
        Ok(PhysCpu::Svm(SvmCpu::enable(cpu, &self.svm, self.to_maddr)?))
    }

    #[cfg(feature = "selftest")]
    pub(crate) fn translator(&self) -> ToMaddr {
        self.to_maddr
    }

    pub fn new_domain(&self) -> Result<DomainControls, VirtError> {
        Ok(DomainControls::Svm(Arc::new(SvmDomain::new(
            self.to_maddr,
        )?)))
    }

    pub fn new_vcpu(&self, domain: &DomainControls) -> Result<BoxedVcpu, VirtError> {
        match domain {
            DomainControls::Svm(domain) => {
                Ok(Box::new(SvmVcpu::new(self, domain.clone(), self.to_maddr)?))
            }
        }
    }
}

/// What a physical CPU owns; kept by the kernel in its per-CPU data.
pub enum PhysCpu {
    Svm(SvmCpu),
}

/// Port and MSR permissions that the hardware checks, shared by the vcpus of a domain. Everything
/// exits at first, but for MSRs that the hardware switches itself.
#[derive(Clone)]
pub enum DomainControls {
    Svm(Arc<SvmDomain>),
}

impl DomainControls {
    pub fn set_ports_direct(&self, first: u16, last: u16, direct: bool) {
        match self {
            Self::Svm(d) => d.set_ports_direct(first, last, direct),
        }
    }

    pub fn set_msr_direct(&self, msr: u32, read: bool, write: bool) {
        match self {
            Self::Svm(d) => d.set_msr_direct(msr, read, write),
        }
    }
}
