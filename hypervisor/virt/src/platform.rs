//! The machine's virtualization hardware, found once at boot. Only this file chooses between the
//! vendors.

use alloc::boxed::Box;
use alloc::sync::Arc;

use oxen_types::{CpuId, Gfn, PAGE_SIZE};

use crate::backend::BoxedVcpu;
use crate::error::VirtError;
use crate::fpu::{self, FpuLayout};
use crate::pat;
use crate::permission_maps::DomainControls;
use crate::phys_cpu::PhysCpu;
use crate::quirks::Quirks;
use crate::spec::{self, Controls, Report};
use crate::svm::SvmCaps;
use crate::vendor::{ApicUse, NestedFormat, VcpuParts, Vendor};
use crate::vmx::VmxCaps;
use crate::x86::{CpuIdReader, CpuIdReaderNative};
use crate::zeroed::ToMaddr;

/// The vendor's virtualization, with the capabilities of this machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hardware {
    Svm(SvmCaps),
    Vmx(VmxCaps),
}

impl Hardware {
    /// Finds the vendor by CPUID. `rdmsr` reads capability MSRs.
    fn detect(
        cpuid: &impl CpuIdReader,
        rdmsr: &mut dyn FnMut(u32) -> u64,
    ) -> Result<Self, VirtError> {
        match SvmCaps::detect(cpuid) {
            Ok(caps) => Ok(Self::Svm(caps)),
            Err(VirtError::NoSvm) => match VmxCaps::detect(cpuid, rdmsr) {
                Ok(caps) => Ok(Self::Vmx(caps)),
                Err(VirtError::NoVmx) => Err(VirtError::NoHardware),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn vendor(&self) -> &dyn Vendor {
        match self {
            Self::Svm(caps) => caps,
            Self::Vmx(caps) => caps,
        }
    }

    fn vendor_mut(&mut self) -> &mut dyn Vendor {
        match self {
            Self::Svm(caps) => caps,
            Self::Vmx(caps) => caps,
        }
    }
}

/// The properties that all CPUs of the machine have in common.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    pub(crate) hardware: Hardware,
    /// The extended state that guests can have.
    pub fpu: FpuLayout,
    /// Faults of the emulator that the hypervisor runs on, if any.
    pub quirks: Quirks,
    /// The decisions on speculation.
    pub spec: Controls,
    /// A guest can stop the machine by changing the size of a page that it executes from.
    pub page_size_is_fatal: bool,
    to_maddr: ToMaddr,
}

impl Platform {
    /// Finds the hardware and its capabilities. To be called once, when the heap works. `to_maddr`
    /// gives the machine address of an object in the heap.
    ///
    /// # Errors
    /// `NoHardware` and its like if the CPU cannot run guests.
    pub fn detect(to_maddr: ToMaddr, options: &spec::Options) -> Result<Self, VirtError> {
        let cpuid = CpuIdReaderNative;
        let mut rdmsr = |msr| oxen_arch::cpu::msr::rdmsr_safe(msr).unwrap_or(0);
        let mut hardware = Hardware::detect(&cpuid, &mut rdmsr)?;
        let mut fpu = FpuLayout::detect(&cpuid);
        fpu.check();
        hardware.vendor_mut().match_fpu(&mut fpu);
        let (mut report, leaf1) = (Report::read(&cpuid, &mut rdmsr), cpuid.cpuid2(1, 0));
        report.probe(&mut spec::takes);
        Ok(Self {
            hardware,
            fpu,
            quirks: Quirks::detect(&cpuid),
            spec: Controls::decide(&report, options),
            page_size_is_fatal: spec::page_size_is_fatal(&report, leaf1.eax, leaf1.ecx),
            to_maddr,
        })
    }

    /// A machine with AMD-V that has no optional feature, for tests of this crate and of those
    /// above it.
    #[cfg(not(target_os = "none"))]
    pub fn for_tests(to_maddr: ToMaddr) -> Self {
        Self {
            hardware: Hardware::Svm(SvmCaps::for_tests()),
            fpu: FpuLayout::none(),
            quirks: Quirks::default(),
            spec: Controls::default(),
            page_size_is_fatal: false,
            to_maddr,
        }
    }

    /// Limits the hardware's virtualization of local APICs to `limit`, as the command line has it.
    /// To be called before the first vcpu is made.
    pub fn limit_apic(&mut self, limit: ApicUse) {
        self.hardware.vendor_mut().limit_apic(limit);
    }

    /// The use of the hardware's virtualization of local APICs.
    pub fn apic_use(&self) -> ApicUse {
        self.hardware.vendor().apic_use()
    }

    /// The format of the nested page tables that guests have.
    pub fn nested_format(&self) -> NestedFormat {
        self.hardware.vendor().nested_format()
    }

    /// Whether guests can have nested paging. Each guest can run without, on a shadow.
    pub fn nested_paging(&self) -> bool {
        self.hardware.vendor().nested_paging()
    }

    /// A page that each domain's memory must have, and the frame for the page: the page table of
    /// guests that do not page, on CPUs of VT-x without unrestricted guests.
    pub fn identity_table(&self) -> Option<(Gfn, Box<[u8; PAGE_SIZE]>)> {
        self.hardware.vendor().identity_table()
    }

    /// Whether RDTSCP or RDPID work in guests, with a TSC_AUX of their own.
    pub fn tsc_aux(&self) -> bool {
        self.hardware.vendor().tsc_aux()
    }

    /// Switches virtualization on for the CPU that runs this code. The CPU's GS base, TSS and
    /// system call MSRs must have their final values.
    ///
    /// # Errors
    /// `DisabledByFirmware`, `VmxDisabledByFirmware` or `VmxOnFailed` if the CPU refuses;
    /// `NoMemory` if there is no memory for the pages that the hardware needs.
    pub fn enable_cpu(&self, cpu: CpuId) -> Result<PhysCpu, VirtError> {
        pat::program();
        fpu::enable_cpu(&self.fpu);
        let vendor = self.hardware.vendor();
        vendor.enable_cpu(cpu, &self.spec, self.to_maddr)
    }

    /// The permission maps of a new domain. `trusted`: the domain is dom0.
    ///
    /// # Errors
    /// `NoMemory` if there is no memory for the maps.
    pub fn new_domain(&self, trusted: bool) -> Result<Arc<DomainControls>, VirtError> {
        // The caller has seen that there is room for objects of a page.
        const { assert!(size_of::<DomainControls>() <= PAGE_SIZE) };
        let vendor = self.hardware.vendor();
        Ok(Arc::new(vendor.new_domain(trusted, self.to_maddr)?))
    }

    /// A new vcpu for a domain with the maps of `new_domain`.
    ///
    /// # Errors
    /// `NoMemory` if there is no memory for the vcpu's state.
    pub fn new_vcpu(&self, domain: &Arc<DomainControls>) -> Result<BoxedVcpu, VirtError> {
        self.hardware.vendor().new_vcpu(VcpuParts {
            fpu: self.fpu,
            quirks: self.quirks,
            domain: domain.clone(),
            to_maddr: self.to_maddr,
        })
    }
}
