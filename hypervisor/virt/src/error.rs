//! The reasons for which a machine cannot run guests.

use core::fmt;

/// Why virtualization cannot be used, or a vcpu cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtError {
    /// The CPU has neither AMD-V nor VT-x, or the hypervisor was built without the one that it has.
    NoHardware,
    /// The CPU has no AMD-V.
    NoSvm,
    /// The CPU's AMD-V has no address space identifiers for guests.
    NoAsids,
    /// The firmware has switched AMD-V off (VM_CR.SVMDIS).
    DisabledByFirmware,
    /// The CPU has no VT-x.
    NoVmx,
    /// Control bits of the named kind cannot have the values that the hypervisor needs.
    NoControl(&'static str, u32),
    /// The firmware has switched VT-x off: IA32_FEATURE_CONTROL is locked without VMX.
    VmxDisabledByFirmware,
    /// VMXON failed.
    VmxOnFailed,
    /// Out of memory.
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
