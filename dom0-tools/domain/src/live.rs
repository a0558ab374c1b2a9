//! The hypervisor and the store of this machine, behind the traits of [`crate::world`].

use crate::world::{Access, Change, DomId, Hypervisor, Store};
use crate::{Error, Result as ToolResult};
use core::mem::offset_of;
use core::time::Duration;
use guest_pv_abi::{
    GTF_PERMIT_ACCESS, GrantEntryV1, XEN_SYSCTL_PHYSCAP_HAP, XENMAPSPACE_GRANT_TABLE,
};
use oxen_sys::hypercall::{
    AffinityKind, CreateDomain, DomainInfo, E820Entry, Extents, SchedParams, ShutdownReason,
    TscInfo,
};
use oxen_sys::{Errno, PAGE_SIZE, Privcmd, Result};
use std::time::Instant;
use xenstored::client::{self, Client, Operations as _, Perm, Perms, Request, StoreError};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages of a guest that are mapped at once: dom0's kernel gives up one of its own for each.
const MAP_PAGES: u64 = 512;

/// Xen's hypercalls through the kernel.
pub struct Xen {
    privcmd: Privcmd,
}

impl Xen {
    /// Opens the kernel's devices.
    ///
    /// # Errors
    /// `Error` with its remedy if this is no privileged domain, the user is not root, or a kernel
    /// module is missing.
    pub fn open() -> ToolResult<Self> {
        match Privcmd::open() {
            Ok(privcmd) => Ok(Self { privcmd }),
            Err(errno) => Err(explain_open(errno)),
        }
    }

    /// All the calls, for users that need no trait.
    #[must_use]
    pub fn calls(&self) -> &Privcmd {
        &self.privcmd
    }

    /// Calls `work` with each mapped piece of a range: the mapping, the offset in it, the piece's
    /// offset in the range and its length.
    fn pieces(
        &self,
        domain: DomId,
        addr: u64,
        len: u64,
        mut work: impl FnMut(&oxen_sys::SharedMemory, usize, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let end = addr.checked_add(len).ok_or(Errno::RANGE)?;
        let mut at = addr;
        while at < end {
            let first = at / PAGE;
            let last = end.div_ceil(PAGE).min(first + MAP_PAGES);
            let frames: Vec<u64> = (first..last).collect();
            let memory = self.privcmd.map_foreign(domain, &frames)?;
            let stop = end.min(last * PAGE);
            work(
                &memory,
                (at % PAGE) as usize,
                (at - addr) as usize,
                (stop - at) as usize,
            )?;
            at = stop;
        }
        Ok(())
    }

    /// Writes a grant entry through a frame of the table put into the domain's own memory, for
    /// kernels or hypervisors that cannot map the table itself.
    fn seed_by_physmap(
        &self,
        domain: DomId,
        reference: u32,
        to: DomId,
        gfn: u64,
        scratch: u64,
    ) -> Result<()> {
        self.privcmd
            .add_to_physmap(domain, XENMAPSPACE_GRANT_TABLE, 0, scratch)?;
        let written = self
            .privcmd
            .map_foreign(domain, &[scratch])
            .and_then(|table| {
                let at = reference as usize * size_of::<GrantEntryV1>();
                let frame = at + offset_of!(GrantEntryV1, frame);
                table.store(frame, u32::try_from(gfn).map_err(|_| Errno::RANGE)?)?;
                // Flags and domain are one word, so that the entry becomes valid at once.
                table.store(at, u32::from(GTF_PERMIT_ACCESS) | u32::from(to) << 16)
            });
        written.and(self.privcmd.remove_from_physmap(domain, scratch))
    }
}

fn explain_open(errno: Errno) -> Error {
    let what = "cannot reach the hypervisor";
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            let cause = "/dev/xen/privcmd is not there";
            Error::new(what, cause).remedy(
                "run this in the privileged domain (dom0), with the module xen-privcmd loaded",
            )
        }
        Errno::ACCESS | Errno::PERM => Error::new(what, "no permission").remedy("run this as root"),
        other => Error::new(what, other),
    }
}

/// Methods of [`Hypervisor`] that are one call of [`Privcmd`] each: `trait's name = call's
/// name(arguments)`.
macro_rules! forward {
    ($($name:ident = $call:ident($($arg:ident: $kind:ty),*) -> $result:ty;)*) => {$(
        fn $name(&self, $($arg: $kind),*) -> Result<$result> {
            self.privcmd.$call($($arg),*)
        }
    )*};
}

impl Hypervisor for Xen {
    forward! {
        destroy = destroy_domain(domain: DomId) -> ();
        pause = pause_domain(domain: DomId) -> ();
        unpause = unpause_domain(domain: DomId) -> ();
        resume = resume_domain(domain: DomId) -> ();
        info = domain_info(domain: DomId) -> DomainInfo;
        domains = domains() -> Vec<DomainInfo>;
        set_max_vcpus = set_max_vcpus(domain: DomId, count: u32) -> ();
        set_time_offset = set_time_offset(domain: DomId, seconds: i64) -> ();
        set_max_mem = set_max_mem(domain: DomId, kib: u64) -> ();
        set_paging_pool = set_paging_mempool_size(domain: DomId, bytes: u64) -> ();
        set_memory_map = set_memory_map(domain: DomId, map: &[E820Entry]) -> ();
        populate = populate_physmap(domain: DomId, extents: Extents<'_>) -> usize;
        set_param = set_hvm_param(domain: DomId, index: u32, value: u64) -> ();
        alloc_unbound = alloc_unbound(domain: DomId, remote: DomId) -> u32;
        context = hvm_context(domain: DomId) -> Vec<u8>;
        set_context = set_hvm_context(domain: DomId, records: &[u8]) -> ();
        set_handle = set_handle(domain: DomId, handle: [u8; 16]) -> ();
        force_shutdown = remote_shutdown(domain: DomId, reason: ShutdownReason) -> ();
        trigger = send_trigger(domain: DomId, trigger: u32, vcpu: u32) -> ();
    }

    fn create(&self, want: &CreateDomain) -> Result<DomId> {
        // Number 0 lets the hypervisor choose.
        self.privcmd.create_domain(0, want)
    }

    fn cpus(&self) -> Result<u32> {
        Ok(self.privcmd.physinfo()?.max_cpu_id.saturating_add(1))
    }

    fn nested_paging(&self) -> Result<bool> {
        let capabilities = self.privcmd.physinfo()?.capabilities;
        Ok(capabilities & XEN_SYSCTL_PHYSCAP_HAP != 0)
    }

    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        kind: AffinityKind,
        cpus: &[u8],
    ) -> Result<()> {
        let set = self.privcmd.set_vcpu_affinity(domain, vcpu, kind, cpus);
        set.map(drop)
    }

    fn set_sched(&self, domain: DomId, weight: Option<u16>, cap: Option<u16>) -> Result<()> {
        let scheduler = self.privcmd.scheduler()?;
        let now = self.privcmd.sched_params(domain, scheduler)?;
        let params = SchedParams {
            weight: weight.unwrap_or(now.weight),
            cap: cap.unwrap_or(now.cap),
        };
        self.privcmd.set_sched_params(domain, scheduler, params)
    }

    fn sched(&self, domain: DomId) -> Result<SchedParams> {
        self.privcmd.sched_params(domain, self.privcmd.scheduler()?)
    }

    fn set_tsc_mode(&self, domain: DomId, mode: u32) -> Result<()> {
        let info = TscInfo {
            tsc_mode: mode,
            gtsc_khz: 0,
            incarnation: 0,
            pad: 0,
            elapsed_nsec: 0,
        };
        self.privcmd.set_tsc_info(domain, info)
    }

    fn write(&self, domain: DomId, addr: u64, bytes: &[u8]) -> Result<()> {
        self.pieces(domain, addr, bytes.len() as u64, |memory, at, from, len| {
            memory.write(at, bytes.get(from..from + len).ok_or(Errno::RANGE)?)
        })
    }

    fn seed_grant(
        &self,
        domain: DomId,
        reference: u32,
        to: DomId,
        gfn: u64,
        scratch: u64,
    ) -> Result<()> {
        match self.privcmd.seed_grant(domain, reference, to, gfn) {
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => {
                self.seed_by_physmap(domain, reference, to, gfn, scratch)
            }
            other => other,
        }
    }

    fn free_memory(&self) -> Result<u64> {
        let info = self.privcmd.physinfo()?;
        // Pages that wait to be scrubbed can be given out too.
        Ok((info.free_pages + info.scrub_pages).saturating_sub(info.outstanding_pages) * PAGE)
    }
}

/// xenstored through its socket; connects again when it was restarted.
pub struct XenStore {
    client: Option<Client>,
}

impl XenStore {
    /// Connects.
    ///
    /// # Errors
    /// `Error` that names xenstored if nobody answers on its socket.
    pub fn open() -> ToolResult<Self> {
        let client = Client::connect_within(OPEN)
            .map_err(|error| explain_store("cannot reach the store", &error))?;
        Ok(Self {
            client: Some(client),
        })
    }

    /// A store that connects at its first request.
    #[must_use]
    pub fn lazy() -> Self {
        Self { client: None }
    }

    /// Runs `work`; after a lost connection once more, on a new one.
    fn with<T>(
        &mut self,
        what: &str,
        mut work: impl FnMut(&mut Client) -> client::Result<T>,
    ) -> ToolResult<T> {
        let mut again = true;
        loop {
            let mut client = match self.client.take() {
                Some(client) => client,
                None => Client::connect_within(RECONNECT)
                    .map_err(|error| explain_store(what, &error))?,
            };
            match work(&mut client) {
                Err(error) if error.is_disconnect() && again => again = false,
                result => {
                    if !matches!(&result, Err(error) if error.is_disconnect()) {
                        self.client = Some(client);
                    }
                    return result.map_err(|error| explain_store(what, &error));
                }
            }
        }
    }
}

/// How long the first connection may take. Only the socket is tried: without xenstored, a request
/// through the kernel's device would never return.
const OPEN: Duration = Duration::from_millis(300);
/// How long a restart of xenstored may take.
const RECONNECT: Duration = Duration::from_secs(5);

fn explain_store(what: &str, error: &client::Error) -> Error {
    if error.is_disconnect() {
        return Error::new(what, "xenstored does not answer")
            .remedy("is xenstored running? (ps, /run/xenstored/socket)");
    }
    Error::new(what, error)
}

impl Store for XenStore {
    fn read(&mut self, path: &str) -> ToolResult<Option<String>> {
        self.with(&format!("cannot read {path} in the store"), |client| {
            client.try_read(path)
        })
    }

    fn read_all(&mut self, paths: &[String]) -> ToolResult<Vec<Option<String>>> {
        self.with("cannot read the store", |client| {
            client.try_read_all(paths.iter().map(String::as_str))
        })
    }

    fn list(&mut self, path: &str) -> ToolResult<Vec<String>> {
        self.with(
            &format!("cannot list {path} in the store"),
            |client| match client.directory(path) {
                Err(client::Error::Store(StoreError::NoEnt)) => Ok(Vec::new()),
                other => other,
            },
        )
    }

    fn apply(&mut self, changes: &[Change]) -> ToolResult<()> {
        self.with("cannot change the store", |client| {
            client.transact(|transaction| apply_all(transaction, changes))
        })
    }

    fn introduce(&mut self, domain: DomId, gfn: u64, port: u32) -> ToolResult<()> {
        let what = format!("cannot introduce domain {domain} to the store");
        self.with(&what, |client| client.introduce(domain, gfn, port))
    }

    fn release(&mut self, domain: DomId) -> ToolResult<()> {
        let what = format!("cannot release domain {domain} from the store");
        self.with(&what, |client| client.release(domain))
    }

    fn resume(&mut self, domain: DomId) -> ToolResult<()> {
        let what = format!("cannot resume domain {domain} in the store");
        self.with(&what, |client| client.resume(domain))
    }

    fn wait(
        &mut self,
        paths: &[String],
        limit: Duration,
        done: &mut dyn FnMut(&mut dyn Store) -> ToolResult<bool>,
    ) -> ToolResult<bool> {
        let deadline = Instant::now() + limit;
        // A separate connection, so that no event of these watches arrives between request and
        // reply.
        let mut watcher = None;
        let mut pause = LOOK_FIRST;
        loop {
            if watcher.is_none() && !paths.is_empty() {
                watcher = watch(paths).ok();
            }
            if done(self)? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let time = left.min(pause);
            pause = (pause * 2).min(LOOK_AT_LEAST);
            match watcher.as_mut().map(|client| next(client, time)) {
                Some(Ok(())) => {}
                // xenstored was restarted: the watches are set again.
                Some(Err(_)) => watcher = None,
                None => std::thread::sleep(time),
            }
        }
    }
}

/// The first and the longest pause between two looks without an event.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_AT_LEAST: Duration = Duration::from_millis(250);

fn watch(paths: &[String]) -> client::Result<Client> {
    let mut client = Client::connect_within(Duration::ZERO)?;
    for path in paths {
        client.watch(path, "wait")?;
    }
    Ok(client)
}

/// Takes the next event and all others that have arrived with it; returns after `time` without any.
fn next(client: &mut Client, time: Duration) -> client::Result<()> {
    if client.next_event(Some(time))?.is_some() {
        client.drain()?;
        while client.queued_event().is_some() {}
    }
    Ok(())
}

fn apply_all(transaction: &mut client::Transaction<'_>, changes: &[Change]) -> client::Result<()> {
    let mut requests = Vec::new();
    let mut may_be_missing = Vec::new();
    for change in changes {
        match change {
            Change::Set {
                path,
                value,
                access,
            } => {
                requests.push(Request::write(path, value));
                requests.push(Request::set_perms(path, &perms(*access)?));
            }
            Change::Write { path, value } => requests.push(Request::write(path, value)),
            Change::Remove { path } => {
                may_be_missing.push(requests.len());
                requests.push(Request::rm(path));
            }
        }
    }
    for (index, answer) in transaction.all(&requests)?.into_iter().enumerate() {
        match answer {
            Err(StoreError::NoEnt) if may_be_missing.contains(&index) => {}
            other => drop(other.map_err(client::Error::Store)?),
        }
    }
    Ok(())
}

fn perms(access: Access) -> client::Result<Perms> {
    let none = |domain| Perm::new(client::Access::None, domain);
    match access {
        Access::Private => Ok(Perms::private(0)),
        Access::Owned(domain) => Ok(Perms::private(domain)),
        Access::Readable(domain) => {
            Perms::from_list(&[none(0), Perm::new(client::Access::Read, domain)])
                .map_err(client::Error::Store)
        }
    }
}
