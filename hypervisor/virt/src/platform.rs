//! The machine's virtualization hardware, found once at boot: the only place that names vendors.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use oxen_types::{CpuId, Gfn, Maddr, PAGE_SIZE};

use crate::backend::BoxedVcpu;
use crate::controls::DomainControls;
use crate::fpu::{self, FpuLayout};
use crate::pat;
use crate::spec::{self, Controls, Report, SpecCpu};
use crate::svm::{self, SvmCaps, SvmCpu, SvmFeatures, SvmVcpu};
use crate::vmx::{VmxCaps, VmxCpu, VmxVcpu};
use crate::x86::{CpuIdReader, CpuIdReaderNative};

/// The machine address of something in the hypervisor's heap, by its linear address.
pub type ToMaddr = fn(usize) -> Maddr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtError {
    NoHardware,
    NoSvm,
    NoAsids,
    /// VM_CR.SVMDIS is set.
    DisabledByFirmware,
    NoVmx,
    /// Control bits (of the named kind) that we need cannot have the value that we need.
    NoControl(&'static str, u32),
    /// IA32_FEATURE_CONTROL is locked without VMX.
    VmxDisabledByFirmware,
    VmxOnFailed,
    NoMemory,
}

impl fmt::Display for VirtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHardware if !cfg!(feature = "amd") => {
                "the CPU has no VT-x (VMX), and this image is for Intel's CPUs alone"
            }
            Self::NoHardware if !cfg!(feature = "intel") => {
                "the CPU has no AMD-V (SVM), and this image is for AMD's CPUs alone"
            }
            Self::NoHardware => "the CPU has neither AMD-V (SVM) nor VT-x (VMX)",
            Self::NoSvm => "the CPU has no AMD-V (SVM)",
            Self::NoAsids => "the CPU's AMD-V offers no address space identifiers",
            Self::DisabledByFirmware => {
                "AMD-V is disabled by the firmware: enable SVM in the BIOS setup"
            }
            Self::NoVmx => "the CPU has no VT-x (VMX)",
            Self::NoControl(name, bits) => {
                return write!(f, "the CPU's VT-x cannot do {name} (bits {bits:#x})");
            }
            Self::VmxDisabledByFirmware => {
                "VT-x is disabled by the firmware: enable Intel virtualization in the BIOS setup"
            }
            Self::VmxOnFailed => "VT-x could not be switched on (VMXON failed)",
            Self::NoMemory => "out of memory",
        })
    }
}

/// Faults of particular emulators, found by CPUID.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Quirks {
    /// QEMU's TCG: the type of an interrupted event is recorded as exception for all of them.
    pub event_type_lost: bool,
    /// QEMU's TCG before 9: XSETBV in a guest is executed although it is intercepted. (The
    /// self-test shows it.) So the register is the truth about a loaded guest's XCR0.
    pub xsetbv_runs: bool,
    /// QEMU's TCG: an interrupt injected by VMRUN stays noted as the CPU's exception, and is delivered a
    /// second time if another of the emulator's threads asks for this one before the next exit: at the
    /// first instruction of the handler, say, on the guest's user GS. (docs/testing.md tells
    /// what was seen; it has no test of its own.) An exit at once forgets the note.
    pub injects_twice: bool,
    /// QEMU's TCG: VMRUN does not load the interrupt shadow that the last exit stored. So an interrupt could be
    /// delivered between STI and HLT, and the HLT would sleep through it. (The test guest `halts` shows it.)
    pub shadow_lost: bool,
    /// QEMU's TCG: CMPXCHG16B leaves flags of its own making, bits of RAX among them, and the next IRET faults. (The
    /// test guest `cmpxchg16b` shows it.) So CPUID hides it from dom0 and guests.
    pub cx16_broken: bool,
    /// QEMU's TCG: MOV to CR8 that lets a virtual interrupt in ends the emulator (`tcg_handle_interrupt: assertion
    /// failed`, in 7.2). So none is asked for that CR8 holds back; the test guest `cr8` is not for that machine.
    pub cr8_aborts: bool,
}

impl Quirks {
    fn detect(cpuid: &impl CpuIdReader) -> Self {
        let leaf = cpuid.cpuid2(0x4000_0000, 0);
        let tcg = cpuid.cpuid2(1, 0).ecx & (1 << 31) != 0
            && [leaf.ebx, leaf.ecx, leaf.edx]
                .map(u32::to_le_bytes)
                .concat()
                == b"TCGTCGTCGTCG";
        Self {
            event_type_lost: tcg,
            xsetbv_runs: tcg,
            injects_twice: tcg,
            shadow_lost: tcg,
            cx16_broken: tcg,
            cr8_aborts: tcg,
        }
    }
}

/// The kind of virtualization, with what the CPUs can do.
#[derive(Clone, Copy, Debug)]
pub enum Hardware {
    Svm(SvmCaps),
    Vmx(VmxCaps),
}

impl Hardware {
    /// By what CPUID offers. `rdmsr` reads capability MSRs.
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
}

/// The format of the nested page tables whose root goes into `VcpuBackend::set_nested_root`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NestedFormat {
    /// AMD's, as the host's own tables.
    Npt,
    /// Intel's.
    Ept,
}

/// What all CPUs of the machine have in common.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    pub hardware: Hardware,
    pub fpu: FpuLayout,
    pub quirks: Quirks,
    pub spec: Controls,
    /// A guest can stop the machine by changing the size of a page that it executes from.
    pub page_size_is_fatal: bool,
    to_maddr: ToMaddr,
}

impl Platform {
    /// Once, when the heap works.
    pub fn detect(to_maddr: ToMaddr, options: &spec::Options) -> Result<Self, VirtError> {
        let cpuid = CpuIdReaderNative;
        let mut rdmsr = |msr| oxen_arch::cpu::msr::rdmsr_safe(msr).unwrap_or(0);
        let mut hardware = Hardware::detect(&cpuid, &mut rdmsr)?;
        let mut fpu = FpuLayout::detect(&cpuid);
        fpu.check();
        if let Hardware::Vmx(caps) = &mut hardware {
            fpu.xsaves = caps.match_xsaves(fpu.xsaves);
            caps.match_keys(fpu.xcr0 & fpu::XCR0_PKRU != 0);
        }
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

    /// A machine without any optional feature, for tests of this crate and of those above it.
    #[cfg(not(target_os = "none"))]
    pub fn for_tests(to_maddr: ToMaddr) -> Self {
        Self {
            hardware: Hardware::Svm(SvmCaps {
                features: SvmFeatures::NESTED_PAGING,
                asids: 16,
                tsc_aux: true,
                invlpgb: false,
                _built: oxen_types::Part::BUILT.expect("the feature amd"),
            }),
            fpu: FpuLayout::none(),
            quirks: Quirks::default(),
            spec: Controls::default(),
            page_size_is_fatal: false,
            to_maddr,
        }
    }

    /// As the command line wants it, before the first vcpu: may the hardware keep local APICs, and take posted
    /// interrupts?
    pub fn limit_apic(&mut self, apic: bool, posted: bool) {
        if let Hardware::Vmx(caps) = &mut self.hardware {
            caps.limit_apic(apic, posted);
        }
    }

    /// Does it keep them, and take those?
    pub fn apic_use(&self) -> (bool, bool) {
        match &self.hardware {
            Hardware::Vmx(caps) => caps.apic_use(),
            Hardware::Svm(_) => (false, false),
        }
    }

    pub fn nested_format(&self) -> NestedFormat {
        match self.hardware {
            Hardware::Svm(_) => NestedFormat::Npt,
            Hardware::Vmx(_) => NestedFormat::Ept,
        }
    }

    /// Can guests have nested paging? All can do without, on a shadow.
    pub fn nested_paging(&self) -> bool {
        match self.hardware {
            Hardware::Svm(caps) => caps.has(SvmFeatures::NESTED_PAGING),
            Hardware::Vmx(caps) => caps.nested_paging(),
        }
    }

    /// Where a domain's memory must have a page of the hypervisor's, and what is in it: the tables of guests
    /// without paging, on CPUs that know no such guests.
    pub fn identity_table(&self) -> Option<(Gfn, Box<[u8; PAGE_SIZE]>)> {
        match &self.hardware {
            Hardware::Vmx(caps) => caps.identity_table(),
            Hardware::Svm(_) => None,
        }
    }

    /// RDTSCP or RDPID work in guests, with a TSC_AUX of their own.
    pub fn tsc_aux(&self) -> bool {
        match self.hardware {
            Hardware::Svm(caps) => caps.tsc_aux,
            Hardware::Vmx(caps) => caps.tsc_aux,
        }
    }

    /// Switches virtualization on for the CPU that runs this. Its GS base, TSS and system call
    /// MSRs must be final.
    pub fn enable_cpu(&self, cpu: CpuId) -> Result<PhysCpu, VirtError> {
        pat::program();
        fpu::enable_cpu(&self.fpu);
        Ok(match &self.hardware {
            Hardware::Svm(caps) => {
                PhysCpu::Svm(SvmCpu::enable(cpu, caps, &self.spec, self.to_maddr)?)
            }
            Hardware::Vmx(caps) => {
                PhysCpu::Vmx(VmxCpu::enable(cpu, caps, &self.spec, self.to_maddr)?)
            }
        })
    }

    /// `trusted`: dom0.
    pub fn new_domain(&self, trusted: bool) -> Result<Arc<DomainControls>, VirtError> {
        let controls = match self.hardware {
            Hardware::Svm(_) => DomainControls::new(svm::maps::msr_bits, self.to_maddr),
            Hardware::Vmx(_) => DomainControls::for_vmx(self.to_maddr),
        };
        let mut controls = controls?;
        controls.trusted = trusted;
        Ok(Arc::new(controls))
    }

    /// For a domain with controls of `new_domain`.
    pub fn new_vcpu(&self, domain: &Arc<DomainControls>) -> Result<BoxedVcpu, VirtError> {
        // The caller vouches that there is room for objects of a page.
        const {
            assert!(size_of::<DomainControls>() <= PAGE_SIZE);
            assert!(size_of::<SvmVcpu>() <= PAGE_SIZE && size_of::<VmxVcpu>() <= PAGE_SIZE);
        }
        let (domain, to_maddr) = (domain.clone(), self.to_maddr);
        Ok(match self.hardware {
            Hardware::Svm(caps) => Box::new(SvmVcpu::new(self, caps, domain, to_maddr)?),
            Hardware::Vmx(caps) => Box::new(VmxVcpu::new(self, caps, domain, to_maddr)?),
        })
    }
}

/// What a physical CPU owns; kept by the kernel in its per-CPU data.
pub enum PhysCpu {
    Svm(SvmCpu),
    Vmx(VmxCpu),
}

impl PhysCpu {
    /// A CPU whose virtualization is not switched on, for tests: no vcpu can run on it.
    #[cfg(not(target_os = "none"))]
    pub fn for_tests() -> Self {
        Self::Svm(SvmCpu::for_tests())
    }

    pub(crate) fn spec(&mut self) -> &mut SpecCpu {
        match self {
            Self::Svm(cpu) => &mut cpu.spec,
            Self::Vmx(cpu) => &mut cpu.spec,
        }
    }
}
