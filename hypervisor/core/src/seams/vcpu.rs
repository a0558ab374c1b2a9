//! The processor side of domains and vcpus: what the crate virt keeps for each.

use alloc::boxed::Box;
use core::any::Any;

use guest_pv_abi::{CpuidLeaf, MsrEntry};
use oxen_types::{CpuId, Result, VcpuId};

/// Start-up messages that wait in a vcpu's local APIC. INIT comes before SIPI.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PostedStart {
    pub init: bool,
    pub startup: bool,
}

/// Processor state and local APIC of one vcpu. Calls come from any CPU; those marked *paused* only
/// while the vcpu does not run.
pub trait VcpuArch: Send + Sync {
    /// For the layer that made it, to find its own type again.
    fn as_any(&self) -> &dyn Any;
    /// Posts an edge-triggered vector to the local APIC. The caller then wakes the vcpu.
    fn post_vector(&self, vector: u8);
    /// It runs on `cpu`, another CPU: can that take what was posted without leaving the guest? Then it is told to.
    fn notify(&self, cpu: CpuId) -> bool {
        let _ = cpu;
        false
    }
    /// Posts an NMI.
    fn post_nmi(&self);
    /// Which start-up messages it has not taken yet.
    fn posted_start(&self) -> PostedStart;
    /// The guest's TSC is the host's plus this.
    fn tsc_offset(&self) -> u64;
    /// Does an interrupt wait that would end a HLT? (For wake-up races: checked after blocking.)
    fn has_deliverable_event(&self) -> bool;
    /// *Paused.* The hvm save record of this vcpu of one kind (public/arch-x86/hvm/save.h), in parts that
    /// `write` takes. -ENOENT if it has none.
    fn save(&self, kind: u16, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
    /// *Paused.* Loads one hvm save record.
    fn load(&self, kind: u16, record: &[u8]) -> Result<()>;
    /// *Paused.* The state of VCPUOP_initialise, a `struct vcpu_hvm_context` as bytes.
    fn load_start_context(&self, context: &[u8]) -> Result<()>;
}

/// Processor-side state of a domain.
pub trait DomainArch: Send + Sync {
    /// As [`VcpuArch::as_any`].
    fn as_any(&self) -> &dyn Any;
    fn new_vcpu(&self, id: VcpuId) -> Result<Box<dyn VcpuArch>>;
    /// Sets the CPUID and MSR policy (public/arch-x86/xen.h: `xen_cpuid_leaf_t` and `xen_msr_entry_t`
    /// arrays, as bytes).
    fn set_cpuid(&self, leaves: &[u8]) -> Result<()>;
    fn set_msrs(&self, entries: &[u8]) -> Result<()>;
    /// Shows the policy, an entry at a time.
    fn cpuid(&self, visit: &mut dyn FnMut(&CpuidLeaf) -> Result<()>) -> Result<()>;
    fn msrs(&self, visit: &mut dyn FnMut(&MsrEntry) -> Result<()>) -> Result<()>;
    /// Bytes that shadows of its page tables may take, if its vcpus run on such.
    fn shadow_pool(&self) -> Option<u64> {
        None
    }
    /// Brings them nearer to a number, by a step, and takes the memory or gives it back at once; true when they
    /// are there. More than shadows are of use for is not taken. -ENOMEM if there is not enough free memory.
    fn set_shadow_pool(&self, _bytes: u64) -> Result<bool> {
        Ok(true)
    }
}
