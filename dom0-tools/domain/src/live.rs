//! The real hypervisor and the real store behind the traits.

use crate::error::{Error, Result as ToolResult};
use crate::ports::{Access, Change, DomId, Hypervisor, Store};
use core::time::Duration;
use oxen_sys::hypercall::{
    AffinityKind, CreateDomain, DomainInfo, E820Entry, Extents, SchedParams, ShutdownReason,
    TscInfo,
};
use oxen_sys::{Errno, PAGE_SIZE, Privcmd, Result};
use std::time::Instant;
use xenstored::client::{self, Client, Perm, Perms, Request, Store as _, StoreError};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages of a guest that are mapped at once: the kernel parts with as many of its own meanwhile.
const MAP_PAGES: u64 = 512;
/// `XENMAPSPACE_grant_table`.
const SPACE_GRANT_TABLE: u32 = 1;

/// Xen's hypercalls through the kernel.
pub struct Xen {
    privcmd: Privcmd,
}

impl Xen {
    /// Opens the kernel's devices.
    ///
    /// # Errors
    /// Not in a privileged domain, not root, or a kernel module is missing.
    pub fn open() -> ToolResult<Self> {
        match Privcmd::open() {
            Ok(privcmd) => Ok(Self { privcmd }),
            Err(errno) => Err(explain_open(errno)),
        }
    }

    /// All the calls, for what needs no trait.
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
            .add_to_physmap(domain, SPACE_GRANT_TABLE, 0, scratch)?;
        let written = self
            .privcmd
            .map_foreign(domain, &[scratch])
            .and_then(|table| {
                let at = reference as usize * 8;
                table.store(at + 4, u32::try_from(gfn).map_err(|_| Errno::RANGE)?)?;
                table.store(at, 1 | u32::from(to) << 16)
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

impl Hypervisor for Xen {
    fn create(&self, want: &CreateDomain) -> Result<DomId> {
        self.privcmd.create_domain(0, want)
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        self.privcmd.destroy_domain(domain)
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        self.privcmd.pause_domain(domain)
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        self.privcmd.unpause_domain(domain)
    }

    fn resume(&self, domain: DomId) -> Result<()> {
        self.privcmd.resume_domain(domain)
    }

    fn info(&self, domain: DomId) -> Result<DomainInfo> {
        self.privcmd.domain_info(domain)
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        self.privcmd.domains()
    }

    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        self.privcmd.set_max_vcpus(domain, count)
    }

    fn cpus(&self) -> Result<u32> {
        Ok(self.privcmd.physinfo()?.max_cpu_id.saturating_add(1))
    }

    fn nested_paging(&self) -> Result<bool> {
        let capabilities = self.privcmd.physinfo()?.capabilities;
        Ok(capabilities & guest_pv_abi::XEN_SYSCTL_PHYSCAP_HAP != 0)
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

    fn set_time_offset(&self, domain: DomId, seconds: i64) -> Result<()> {
        self.privcmd.set_time_offset(domain, seconds)
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

    fn set_max_mem(&self, domain: DomId, kib: u64) -> Result<()> {
        self.privcmd.set_max_mem(domain, kib)
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        self.privcmd.set_paging_mempool_size(domain, bytes)
    }

    fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()> {
        self.privcmd.set_memory_map(domain, map)
    }

    fn populate(&self, domain: DomId, extents: Extents<'_>) -> Result<usize> {
        self.privcmd.populate_physmap(domain, extents)
    }

    fn write(&self, domain: DomId, addr: u64, bytes: &[u8]) -> Result<()> {
        self.pieces(domain, addr, bytes.len() as u64, |memory, at, from, len| {
            memory.write(at, bytes.get(from..from + len).ok_or(Errno::RANGE)?)
        })
    }

    fn set_param(&self, domain: DomId, index: u32, value: u64) -> Result<()> {
        self.privcmd.set_hvm_param(domain, index, value)
    }

    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<u32> {
        self.privcmd.alloc_unbound(domain, remote)
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

    fn context(&self, domain: DomId) -> Result<Vec<u8>> {
        self.privcmd.hvm_context(domain)
    }

    fn set_context(&self, domain: DomId, records: &[u8]) -> Result<()> {
        self.privcmd.set_hvm_context(domain, records)
    }

    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()> {
        self.privcmd.set_handle(domain, handle)
    }

    fn force_shutdown(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        self.privcmd.remote_shutdown(domain, reason)
    }

    fn trigger(&self, domain: DomId, trigger: u32, vcpu: u32) -> Result<()> {
        self.privcmd.send_trigger(domain, trigger, vcpu)
    }

    fn free_memory(&self) -> Result<u64> {
        let info = self.privcmd.physinfo()?;
        // What waits to be scrubbed can be given out too.
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
    /// xenstored is not there.
    pub fn open() -> ToolResult<Self> {
        let client = Client::connect_within(OPEN)
            .map_err(|error| explain_store("cannot reach the store", &error))?;
        Ok(Self {
            client: Some(client),
        })
    }

    /// One that connects when it is first used.
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

/// By the socket alone: where it is missing the kernel's own way leads nowhere, and would not return.
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
        // A connection of its own, so that no event of these watches meets another request.
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
                // It was restarted, or there is nothing to watch.
                Some(Err(_)) => watcher = None,
                None => std::thread::sleep(time),
            }
        }
    }
}

/// How soon and how seldom we look by ourselves while waiting.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_AT_LEAST: Duration = Duration::from_millis(250);

fn watch(paths: &[String]) -> client::Result<Client> {
    let mut client = Client::connect_within(Duration::ZERO)?;
    for path in paths {
        client.watch(path, "wait")?;
    }
    Ok(client)
}

/// The next event and all that have come with it; or nothing, when the time is over.
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
