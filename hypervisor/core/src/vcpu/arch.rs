//! The processor side of domains and vcpus, which the crate vmm keeps for each.
//!
//! These traits are no seams: they name a vcpu, so they stand on the floor of the objects.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use guest_pv_abi::{CpuidLeaf, MsrEntry};
use oxen_types::{CpuId, Result, VcpuId};

use super::Vcpu;

/// The start-up messages that wait in a vcpu's local APIC. INIT comes before SIPI.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PostedStart {
    /// An INIT waits.
    pub init: bool,
    /// A SIPI waits.
    pub startup: bool,
}

/// Processor state and local APIC of one vcpu. Calls come from any CPU; those marked *paused* only
/// while the vcpu does not run.
pub trait VcpuArch: Send + Sync {
    /// Runs `vcpu`, which is this one, on the calling CPU: until its slice ends, it cannot go on,
    /// or the scheduler is to be asked. The scheduler has given it to this CPU; the caller gives it
    /// up afterwards ([`Vcpu::set_cpu`]).
    fn run(&self, vcpu: &Arc<Vcpu>, slice_end: u64);
    /// Posts an edge-triggered vector to the local APIC. The caller then wakes the vcpu.
    fn post_vector(&self, vector: u8);
    /// The vcpu runs on `cpu`, another CPU. Notifies that CPU of posted vectors if it can take them
    /// without a VM exit; returns whether it can.
    fn notify(&self, cpu: CpuId) -> bool {
        let _ = cpu;
        false
    }
    /// Posts an NMI.
    fn post_nmi(&self);
    /// The start-up messages that the vcpu has not taken yet.
    fn posted_start(&self) -> PostedStart;
    /// The difference of the guest's TSC to the host's.
    fn tsc_offset(&self) -> u64;
    /// Whether an interrupt waits that would end a HLT; checked after blocking, against lost
    /// wake-ups.
    fn has_deliverable_event(&self) -> bool;
    /// *Paused.* Writes the hvm save record of one kind (public/arch-x86/hvm/save.h) in parts.
    ///
    /// # Errors
    /// `NoEnt` if the vcpu has no such record, and what `write` returns.
    fn save(&self, kind: u16, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
    /// *Paused.* Loads one hvm save record.
    ///
    /// # Errors
    /// `NoEnt` for an unknown kind, `NoData` for a record of another length, `Inval` for a state
    /// that cannot be.
    fn load(&self, kind: u16, record: &[u8]) -> Result<()>;
    /// *Paused.* Loads the state of VCPUOP_initialise, a `struct vcpu_hvm_context` as bytes.
    ///
    /// # Errors
    /// `Inval` for a state that cannot be.
    fn load_start_context(&self, context: &[u8]) -> Result<()>;
    /// *Paused.* Loads the state of a PVH kernel's entry. `start_info` is the guest-physical
    /// address of its boot information.
    ///
    /// # Errors
    /// `Busy` if the vcpu is not paused.
    fn start_pvh(&self, entry: u32, start_info: u32) -> Result<()>;
    /// The double that the tests made it of.
    #[cfg(test)]
    fn as_fake(&self) -> &crate::testing::FakeVcpu;
}

/// Processor-side state of a domain.
pub trait DomainArch: Send + Sync {
    /// Makes the processor side of a vcpu.
    ///
    /// # Errors
    /// `NoMem` if the hypervisor has no memory for it.
    fn new_vcpu(&self, id: VcpuId) -> Result<Box<dyn VcpuArch>>;
    /// Sets the CPUID policy: an array of `xen_cpuid_leaf_t` (public/arch-x86/xen.h) as bytes.
    ///
    /// # Errors
    /// `Inval` for a policy that the machine cannot offer.
    fn set_cpuid(&self, leaves: &[u8]) -> Result<()>;
    /// Sets the MSR policy: an array of `xen_msr_entry_t` as bytes.
    ///
    /// # Errors
    /// As [`DomainArch::set_cpuid`].
    fn set_msrs(&self, entries: &[u8]) -> Result<()>;
    /// Visits the CPUID policy, an entry at a time.
    ///
    /// # Errors
    /// What `visit` returns.
    fn cpuid(&self, visit: &mut dyn FnMut(&CpuidLeaf) -> Result<()>) -> Result<()>;
    /// Visits the MSR policy, an entry at a time.
    ///
    /// # Errors
    /// What `visit` returns.
    fn msrs(&self, visit: &mut dyn FnMut(&MsrEntry) -> Result<()>) -> Result<()>;
    /// The bytes that shadow page tables may take; `None` for a domain with nested paging.
    fn shadow_pool(&self) -> Option<u64> {
        None
    }
    /// Brings the pool of shadow page tables nearer to a size, by a step, and takes the memory or
    /// gives it back at once. Returns whether the size is reached. A pool takes no more than
    /// shadows can use.
    ///
    /// # Errors
    /// `NoMem` if free memory does not suffice.
    fn set_shadow_pool(&self, _bytes: u64) -> Result<bool> {
        Ok(true)
    }
    /// Writes lines for the debug key that lists domains, if there is something to say.
    ///
    /// # Errors
    /// `fmt::Error` if `out` has no room.
    fn dump(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}
