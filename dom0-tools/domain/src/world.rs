//! The traits through which this crate reaches the hypervisor, the store and the time.
//! [`crate::live`] implements them on a machine, `testing` in memory.

use crate::Result as ToolResult;
use core::time::Duration;
use oxen_sys::hypercall::{
    AffinityKind, CreateDomain, DomainInfo, E820Entry, Extents, SchedParams, ShutdownReason,
};
use oxen_sys::{Errno, Result};

/// A domain's number.
pub type DomId = u16;

/// A hypervisor and a store in which domains are built, driven and ended.
pub struct World<'a> {
    pub hypervisor: &'a dyn Hypervisor,
    pub store: &'a mut dyn Store,
    pub clock: &'a dyn Clock,
}

/// The hypercalls that build, drive and end domains.
pub trait Hypervisor {
    /// Creates a domain, paused, and lets the hypervisor choose its number.
    fn create(&self, want: &CreateDomain) -> Result<DomId>;
    /// Destroys a domain; returns when the hypervisor has freed all that nobody else maps.
    fn destroy(&self, domain: DomId) -> Result<()>;
    fn pause(&self, domain: DomId) -> Result<()>;
    fn unpause(&self, domain: DomId) -> Result<()>;
    /// Lets a domain that shut down for suspend go on where it is.
    fn resume(&self, domain: DomId) -> Result<()>;
    /// One domain; ESRCH if it does not exist.
    fn info(&self, domain: DomId) -> Result<DomainInfo>;
    fn domains(&self) -> Result<Vec<DomainInfo>>;

    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()>;
    /// How many CPUs the machine has.
    fn cpus(&self) -> Result<u32>;
    /// Whether the machine has nested paging.
    fn nested_paging(&self) -> Result<bool> {
        Ok(true)
    }
    /// Sets the hard or soft affinity of a vcpu: one bit for each CPU.
    fn set_affinity(&self, domain: DomId, vcpu: u32, kind: AffinityKind, cpus: &[u8])
    -> Result<()>;
    /// Sets weight and cap; `None` leaves that one as it is.
    fn set_sched(&self, domain: DomId, weight: Option<u16>, cap: Option<u16>) -> Result<()>;
    fn sched(&self, domain: DomId) -> Result<SchedParams>;
    fn set_time_offset(&self, domain: DomId, seconds: i64) -> Result<()>;
    fn set_tsc_mode(&self, domain: DomId, mode: u32) -> Result<()>;

    fn set_max_mem(&self, domain: DomId, kib: u64) -> Result<()>;
    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()>;
    fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()>;
    /// Populates frames with zeroed memory. Returns how many of the extents were populated: fewer
    /// than asked for if the machine's memory is used up.
    fn populate(&self, domain: DomId, extents: Extents<'_>) -> Result<usize>;
    /// Writes into the domain's memory, across pages.
    fn write(&self, domain: DomId, addr: u64, bytes: &[u8]) -> Result<()>;
    fn set_param(&self, domain: DomId, index: u32, value: u64) -> Result<()>;
    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<u32>;
    /// Grants frame `gfn` of `domain` to `to` by `reference`, before the domain runs. `scratch` is
    /// a frame number at which the domain has no memory.
    fn seed_grant(
        &self,
        domain: DomId,
        reference: u32,
        to: DomId,
        gfn: u64,
        scratch: u64,
    ) -> Result<()>;
    fn context(&self, domain: DomId) -> Result<Vec<u8>>;
    fn set_context(&self, domain: DomId, records: &[u8]) -> Result<()>;

    /// Changes the domain's UUID.
    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()>;
    /// Marks a domain as shut down, without its cooperation.
    fn force_shutdown(&self, domain: DomId, reason: ShutdownReason) -> Result<()>;
    fn trigger(&self, domain: DomId, trigger: u32, vcpu: u32) -> Result<()>;
    /// Free bytes of the machine's memory.
    fn free_memory(&self) -> Result<u64>;
}

/// The permissions of a node. Its owner has every right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// dom0 owns the node; no other domain has access.
    Private,
    /// dom0 owns the node; the domain may read.
    Readable(DomId),
    /// The domain owns the node.
    Owned(DomId),
}

/// One change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates the node or changes its value, and sets its permissions.
    Set {
        path: String,
        value: String,
        access: Access,
    },
    /// Changes a value; a node that is created by this has its parent's permissions.
    Write { path: String, value: String },
    /// Removes the node and all below; no error if there is no such node.
    Remove { path: String },
}

/// The requests to xenstored that this crate and its users make.
pub trait Store {
    /// The value of a node; `None` if there is no such node.
    fn read(&mut self, path: &str) -> ToolResult<Option<String>>;
    /// The values of several nodes.
    fn read_all(&mut self, paths: &[String]) -> ToolResult<Vec<Option<String>>> {
        paths.iter().map(|path| self.read(path)).collect()
    }
    /// The names of a node's children; empty if there is no such node.
    fn list(&mut self, path: &str) -> ToolResult<Vec<String>>;
    /// Makes all of the changes in one transaction, or none of them.
    fn apply(&mut self, changes: &[Change]) -> ToolResult<()>;
    /// Connects a domain's ring to xenstored.
    fn introduce(&mut self, domain: DomId, gfn: u64, port: u32) -> ToolResult<()>;
    /// Disconnects a domain's ring. The domain may be gone already.
    fn release(&mut self, domain: DomId) -> ToolResult<()>;
    /// Notes that the domain continues after a suspend, so that its next shutdown fires
    /// `@releaseDomain` again.
    fn resume(&mut self, domain: DomId) -> ToolResult<()>;
    /// Calls `done` until it returns true: now, after each change at or below `paths`, and from
    /// time to time for conditions that no watch reports. Returns false if `limit` passes first.
    fn wait(
        &mut self,
        paths: &[String],
        limit: Duration,
        done: &mut dyn FnMut(&mut dyn Store) -> ToolResult<bool>,
    ) -> ToolResult<bool>;
}

/// A clock that can be waited for; tests have one that never waits.
pub trait Clock {
    fn sleep(&self, time: Duration);
}

/// The real time.
pub struct WallClock;

impl Clock for WallClock {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Turns an errno of the hypervisor into the failure of `what`, with its meaning and a remedy.
pub(crate) fn explain(what: impl Into<String>, errno: Errno) -> crate::Error {
    let error = crate::Error::new(what, describe(errno));
    match errno {
        Errno::NOMEM => error.remedy("free memory (xm list, xm info) or give the guest less"),
        Errno::PERM | Errno::ACCESS => {
            error.remedy("only root in the privileged domain may do this")
        }
        Errno::NOSYS | Errno::OPNOTSUPP => {
            error.remedy("toolset and hypervisor may be of different versions")
        }
        _ => error,
    }
}

fn describe(errno: Errno) -> String {
    match errno {
        Errno::NOMEM => "the machine has not enough free memory".to_owned(),
        Errno::SRCH => "there is no such domain".to_owned(),
        Errno::NOSYS => "the hypervisor does not have this call".to_owned(),
        Errno::INVAL => "the hypervisor refuses the values (EINVAL)".to_owned(),
        Errno::PERM => "the hypervisor refuses: no permission".to_owned(),
        other => format!("{other} (error {})", other.raw_os_error()),
    }
}
