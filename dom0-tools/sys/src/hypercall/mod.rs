//! One typed method a hypercall, all on [`Privcmd`]: the numbers and structures are
//! those of xen/{domctl,sysctl,memory,event_channel,sched,version}.h and xen/hvm/*.h, Xen 4.17, as
//! the ABI crate declares them.
//!
//! Invariant of the modules below, on which the soundness of [`raw`](Privcmd::raw) rests: an
//! address inside a structure is always that of a [`HypercallBuffer`] which lives across the call
//! and whose size stands in the same structure.

mod context;
mod domain;
mod events;
mod memory;
mod policy;
mod sysctl;
mod vcpu;
mod version;

pub use context::Dirty;
pub use guest_pv_abi::{
    ArchDomainConfig, CpuidLeaf, DomctlCreateDomain as CreateDomain,
    DomctlGetDomainInfo as DomainInfo, DomctlGetVcpuInfo as VcpuInfo,
    DomctlSchedCredit2 as SchedParams, DomctlTscInfo as TscInfo, E820Entry, MsrEntry,
    ShutdownReason, SysctlCpuTopo as CpuTopology, SysctlPhysInfo as PhysInfo,
};
pub use memory::Extents;
pub use policy::PolicyError;
pub use vcpu::AffinityKind;
pub use version::CompileInfo;

use bytemuck::Pod;
use guest_pv_abi::{self as abi, UnionBytes};

use crate::{Arg, HypercallBuffer, Privcmd, Result};

/// Hypercall numbers as they go into the register.
mod nr {
    use guest_pv_abi as abi;

    pub(super) const MEMORY_OP: u64 = abi::HYPERVISOR_MEMORY_OP as u64;
    pub(super) const XEN_VERSION: u64 = abi::HYPERVISOR_XEN_VERSION as u64;
    pub(super) const SCHED_OP: u64 = abi::HYPERVISOR_SCHED_OP as u64;
    pub(super) const EVENT_CHANNEL_OP: u64 = abi::HYPERVISOR_EVENT_CHANNEL_OP as u64;
    pub(super) const HVM_OP: u64 = abi::HYPERVISOR_HVM_OP as u64;
    pub(super) const SYSCTL: u64 = abi::HYPERVISOR_SYSCTL as u64;
    pub(super) const DOMCTL: u64 = abi::HYPERVISOR_DOMCTL as u64;
}

/// A structure of the ABI: plain bytes without padding.
trait Plain: Pod {}
impl<T: Pod> Plain for T {}

impl Privcmd {
    /// A call that follows no address but those of its buffers.
    #[expect(
        unsafe_code,
        reason = "the one place that makes calls; the module's invariant is its proof"
    )]
    fn raw(&self, op: u64, args: &[Arg<'_>]) -> Result<i64> {
        // SAFETY: the invariant of this module.
        unsafe { self.hypercall(op, args) }
    }

    /// A call of the shape (command, structure), which the hypervisor may write back.
    fn structured<T: Plain>(&self, op: u64, cmd: u64, arg: &T) -> Result<(i64, T)> {
        let buffer = self.buffer(size_of::<T>())?;
        buffer.put(0, arg)?;
        let result = self.raw(op, &[Arg::Value(cmd), Arg::Buffer(&buffer)])?;
        Ok((result, buffer.get(0)?))
    }

    /// A domctl; returns the domain (createdomain's result is there) and the structure.
    fn domctl<T: Plain>(&self, cmd: u32, domain: u16, arg: &T) -> Result<(u16, T)> {
        let (result, answer) = self.domctl_any(cmd, domain, arg)?;
        result?;
        Ok((answer.domain, answer.u.view()))
    }

    /// A domctl whose structure says more about a failure.
    fn domctl_always<T: Plain>(&self, cmd: u32, domain: u16, arg: &T) -> Result<(Result<i64>, T)> {
        let (result, answer) = self.domctl_any(cmd, domain, arg)?;
        Ok((result, answer.u.view()))
    }

    fn domctl_any<T: Plain>(
        &self,
        cmd: u32,
        domain: u16,
        arg: &T,
    ) -> Result<(Result<i64>, abi::Domctl)> {
        let buffer = self.buffer(size_of::<abi::Domctl>())?;
        buffer.put(0, &abi::Domctl::with(cmd, domain, arg))?;
        let result = self.raw(nr::DOMCTL, &[Arg::Buffer(&buffer)]);
        Ok((result, buffer.get(0)?))
    }

    fn sysctl<T: Plain>(&self, cmd: u32, arg: &T) -> Result<T> {
        let buffer = self.buffer(size_of::<abi::Sysctl>())?;
        buffer.put(
            0,
            &abi::Sysctl {
                cmd,
                interface_version: abi::SYSCTL_INTERFACE_VERSION,
                u: UnionBytes::holding(arg),
            },
        )?;
        self.raw(nr::SYSCTL, &[Arg::Buffer(&buffer)])?;
        let answer: abi::Sysctl = buffer.get(0)?;
        Ok(answer.u.view())
    }

    /// A buffer that holds `items`.
    fn buffer_of<T: Pod>(&self, items: &[T]) -> Result<HypercallBuffer<'_>> {
        let buffer = self.buffer(size_of_val(items))?;
        buffer.write(0, bytemuck::cast_slice(items))?;
        Ok(buffer)
    }
}

/// The first `count` items of a buffer.
fn items<T: Plain>(buffer: &HypercallBuffer<'_>, count: usize) -> Result<Vec<T>> {
    (0..count).map(|i| buffer.get(i * size_of::<T>())).collect()
}

/// The text before the first nul.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
