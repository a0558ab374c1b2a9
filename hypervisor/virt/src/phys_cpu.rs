//! The state that one physical CPU owns for running guests.

use oxen_types::{CpuId, Maddr};

use crate::spec::{Controls, SpecCpu};
use crate::tags::TagPool;

/// A physical CPU on which virtualization is switched on. The kernel keeps one for each CPU.
///
/// Only the vendor of the machine makes values of this type, when it has switched virtualization
/// on, and virtualization is never switched off. So a back end may enter a guest wherever it is
/// given one.
pub struct PhysCpu {
    /// The CPU's ASIDs or VPIDs.
    pub(crate) tags: TagPool,
    /// Protection of the host and of guests against speculation.
    pub(crate) spec: SpecCpu,
    /// The page that holds the host's FS, GS, TR, LDTR and system call MSRs for VMLOAD behind each
    /// exit of AMD-V. Zero on VT-x, whose VMCS holds the host's state.
    pub(crate) host_state: Maddr,
}

impl PhysCpu {
    /// For a CPU with `tags` tags on which virtualization has just been switched on.
    pub(crate) fn new(cpu: CpuId, tags: u32, spec: &Controls, host_state: Maddr) -> Self {
        Self {
            tags: TagPool::new(cpu.0, tags),
            spec: SpecCpu::enable(spec),
            host_state,
        }
    }

    /// A CPU whose virtualization is not switched on, for tests: no vcpu of a vendor can run on it.
    #[cfg(not(target_os = "none"))]
    pub fn for_tests() -> Self {
        Self::new(CpuId(0), 16, &Controls::default(), Maddr::new(0))
    }
}
