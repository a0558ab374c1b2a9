//! One typed method a hypercall, all on [`Privcmd`]: the numbers and structures are
//! those of xen/{domctl,sysctl,memory,event_channel,sched,version}.h and xen/hvm/*.h, Xen 4.17.
//!
//! Invariant of the modules below, on which the soundness of [`raw`](Privcmd::raw) rests: an address
//! inside a structure is always that of a [`HypercallBuffer`] which lives across the call and whose
//! size stands in the same structure.

mod context;
mod domain;
mod events;
#[cfg(test)]
mod layout;
mod memory;
mod policy;
mod sysctl;
mod vcpu;
mod version;

pub use context::Dirty;
pub use domain::{CreateDomain, DomainInfo, ShutdownReason, cdf};
pub use memory::{E820Entry, Extents};
pub use policy::{CpuidLeaf, MsrEntry, PolicyError, TscInfo};
pub use sysctl::{CpuTopology, PhysInfo};
pub use vcpu::{AffinityKind, SchedParams, VcpuInfo};
pub use version::CompileInfo;

use guest_pv_abi as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

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

/// Both calls end in a union of this size.
const UNION: usize = 128;

/// A structure of the ABI: plain bytes without padding.
trait Plain: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Plain for T {}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct DomctlHeader {
    cmd: u32,
    version: u32,
    domain: u16,
    pad: [u16; 3],
}

const DOMCTL_HEADER: usize = size_of::<DomctlHeader>();

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SysctlHeader {
    cmd: u32,
    version: u32,
}

impl Privcmd {
    /// A call that follows no address but those of its buffers.
    #[allow(unsafe_code)] // Reason: the one place that makes calls; the module's invariant is its proof.
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

    /// A domctl; gives back the domain (createdomain answers there) and the structure.
    fn domctl<T: Plain>(&self, cmd: u32, domain: u16, arg: &T) -> Result<(u16, T)> {
        let buffer = self.domctl_buffer(cmd, domain, arg)?;
        self.raw(nr::DOMCTL, &[Arg::Buffer(&buffer)])?;
        let header: DomctlHeader = buffer.get(0)?;
        Ok((header.domain, buffer.get(DOMCTL_HEADER)?))
    }

    /// A domctl whose structure tells more when it fails.
    fn domctl_always<T: Plain>(&self, cmd: u32, domain: u16, arg: &T) -> Result<(Result<i64>, T)> {
        let buffer = self.domctl_buffer(cmd, domain, arg)?;
        let result = self.raw(nr::DOMCTL, &[Arg::Buffer(&buffer)]);
        Ok((result, buffer.get(DOMCTL_HEADER)?))
    }

    fn domctl_buffer<T: Plain>(&self, cmd: u32, domain: u16, arg: &T) -> Result<HypercallBuffer> {
        const { assert!(size_of::<T>() <= UNION) };
        let buffer = self.buffer(DOMCTL_HEADER + UNION)?;
        buffer.put(
            0,
            &DomctlHeader {
                cmd,
                version: abi::DOMCTL_INTERFACE_VERSION,
                domain,
                pad: [0; 3],
            },
        )?;
        buffer.put(DOMCTL_HEADER, arg)?;
        Ok(buffer)
    }

    fn sysctl<T: Plain>(&self, cmd: u32, arg: &T) -> Result<T> {
        const HEADER: usize = size_of::<SysctlHeader>();
        const { assert!(size_of::<T>() <= UNION) };
        let buffer = self.buffer(HEADER + UNION)?;
        buffer.put(
            0,
            &SysctlHeader {
                cmd,
                version: abi::SYSCTL_INTERFACE_VERSION,
            },
        )?;
        buffer.put(HEADER, arg)?;
        self.raw(nr::SYSCTL, &[Arg::Buffer(&buffer)])?;
        buffer.get(HEADER)
    }

    /// A buffer that holds `items`.
    fn buffer_of<T: IntoBytes + Immutable>(&self, items: &[T]) -> Result<HypercallBuffer> {
        let buffer = self.buffer(size_of_val(items))?;
        buffer.write(0, items.as_bytes())?;
        Ok(buffer)
    }
}

/// The first `count` items of a buffer.
fn items<T: Plain>(buffer: &HypercallBuffer, count: usize) -> Result<Vec<T>> {
    (0..count).map(|i| buffer.get(i * size_of::<T>())).collect()
}

/// The text before the first nul.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
