//! A hypervisor and a store in memory, for tests: they keep the same state as the originals, and
//! fail at a given call if a test wants it.

mod kernel;

use crate::world::{Access, Change, Clock, DomId, Hypervisor, Store};
use crate::{Error, Result as ToolResult};
pub use kernel::{elf64, sample_kernel};

use bytemuck::Zeroable;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use oxen_sys::hypercall::{
    AffinityKind, CreateDomain, DomainInfo, E820Entry, Extents, SchedParams, ShutdownReason,
};
use oxen_sys::{Errno, Result};
use std::collections::BTreeMap;
use std::rc::Rc;

const PAGE: u64 = 4096;

/// One domain as the fake hypervisor sees it.
#[derive(Debug, Clone)]
pub struct FakeDomain {
    pub created: CreateDomain,
    pub paused: bool,
    pub dying: bool,
    pub shutdown: Option<ShutdownReason>,
    pub max_vcpus: u32,
    pub max_kib: u64,
    /// Pages set aside for its page tables.
    pub pool: u64,
    /// Populated frames; those written to have bytes.
    pub frames: BTreeMap<u64, Option<Vec<u8>>>,
    pub map: Vec<(u64, u64, u32)>,
    pub params: BTreeMap<u32, u64>,
    pub ports: Vec<DomId>,
    pub grants: BTreeMap<u32, (DomId, u64)>,
    pub contexts: Vec<Vec<u8>>,
    pub affinity: BTreeMap<(u32, AffinityKind), Vec<u8>>,
    pub sched: (u16, u16),
}

/// Everything the two fakes share.
#[derive(Debug, Default)]
pub struct State {
    pub domains: BTreeMap<DomId, FakeDomain>,
    pub nodes: BTreeMap<String, (String, Access)>,
    pub introduced: BTreeMap<DomId, (u64, u32)>,
    next: DomId,
    pub free_pages: u64,
}

/// Both fakes on one state; clones share it.
#[derive(Clone, Default)]
pub struct Fake {
    pub state: Rc<RefCell<State>>,
    calls: Rc<Cell<u64>>,
    fail_at: Rc<Cell<Option<u64>>>,
    /// Superpages are refused.
    pub small_pages_only: Rc<Cell<bool>>,
    /// Destroyed domains stay, dying, as if someone held pages of them.
    pub linger: Rc<Cell<bool>>,
    /// The behaviour of both sides' drivers while a test waits for them.
    pub drivers: Drivers,
}

/// Changes the store as drivers would.
pub type Drivers = Rc<RefCell<Option<Box<dyn FnMut(&mut State)>>>>;

impl Fake {
    /// With so many MiB of free memory.
    #[must_use]
    pub fn new(free_mib: u64) -> Self {
        let fake = Self::default();
        fake.state.borrow_mut().free_pages = free_mib * 256;
        fake.state.borrow_mut().next = 1;
        fake
    }

    /// The call of that number from now on (0 is the next) fails, once.
    pub fn fail_at(&self, call: u64) {
        self.calls.set(0);
        self.fail_at.set(Some(call));
    }

    /// Whether the requested failure has happened.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.fail_at.get().is_none()
    }

    /// Nothing fails from now on. True if the requested failure has happened.
    pub fn fail_no_more(&self) -> bool {
        self.fail_at.take().is_none()
    }

    fn call(&self) -> Result<()> {
        let number = self.calls.replace(self.calls.get() + 1);
        if self.fail_at.get() == Some(number) {
            self.fail_at.set(None);
            return Err(Errno::IO);
        }
        Ok(())
    }

    fn with<T>(&self, domain: DomId, work: impl FnOnce(&mut FakeDomain) -> Result<T>) -> Result<T> {
        self.call()?;
        work(
            self.state
                .borrow_mut()
                .domains
                .get_mut(&domain)
                .ok_or(Errno::SRCH)?,
        )
    }

    /// Bytes of a domain's memory.
    #[must_use]
    pub fn memory(&self, domain: DomId, addr: u64, len: usize) -> Vec<u8> {
        let state = self.state.borrow();
        let frames = &state.domains[&domain].frames;
        (addr..addr + len as u64)
            .map(|at| {
                frames[&(at / PAGE)]
                    .as_ref()
                    .map_or(0, |page| page[(at % PAGE) as usize])
            })
            .collect()
    }

    /// A node's value.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<String> {
        self.state
            .borrow()
            .nodes
            .get(path)
            .map(|(value, _)| value.clone())
    }

    /// The domain ends by itself.
    pub fn ends(&self, domain: DomId, reason: ShutdownReason) {
        if let Some(domain) = self.state.borrow_mut().domains.get_mut(&domain) {
            domain.shutdown = Some(reason);
        }
    }

    fn edit(
        &self,
        domain: DomId,
        addr: u64,
        len: u64,
        mut byte: impl FnMut(u64) -> u8,
    ) -> Result<()> {
        self.with(domain, |domain| {
            for at in addr..addr + len {
                let frame = domain.frames.get_mut(&(at / PAGE)).ok_or(Errno::FAULT)?;
                let page = frame.get_or_insert_with(|| vec![0; PAGE as usize]);
                page[(at % PAGE) as usize] = byte(at - addr);
            }
            Ok(())
        })
    }
}

impl Clock for Fake {
    fn sleep(&self, _: Duration) {}
}

impl Hypervisor for Fake {
    fn create(&self, want: &CreateDomain) -> Result<DomId> {
        self.call()?;
        let mut state = self.state.borrow_mut();
        let number = state.next;
        state.next += 1;
        let domain = FakeDomain {
            created: *want,
            paused: true,
            dying: false,
            shutdown: None,
            max_vcpus: 0,
            max_kib: 0,
            pool: 0,
            frames: BTreeMap::new(),
            map: Vec::new(),
            params: BTreeMap::new(),
            ports: Vec::new(),
            grants: BTreeMap::new(),
            contexts: Vec::new(),
            affinity: BTreeMap::new(),
            sched: (256, 0),
        };
        state.domains.insert(number, domain);
        Ok(number)
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        self.call()?;
        let mut state = self.state.borrow_mut();
        let mut gone = state.domains.remove(&domain).ok_or(Errno::SRCH)?;
        state.free_pages += gone.frames.len() as u64 + gone.pool;
        gone.frames.clear();
        if self.linger.get() {
            gone.dying = true;
            state.domains.insert(domain, gone);
        }
        state.introduced.remove(&domain);
        Ok(())
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        self.with(domain, |domain| {
            domain.paused = true;
            Ok(())
        })
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        self.with(domain, |domain| {
            domain.paused = false;
            Ok(())
        })
    }

    fn resume(&self, domain: DomId) -> Result<()> {
        self.with(domain, |domain| {
            domain.shutdown = None;
            Ok(())
        })
    }

    fn info(&self, domain: DomId) -> Result<DomainInfo> {
        self.call()?;
        let state = self.state.borrow();
        let found = state.domains.get(&domain).ok_or(Errno::SRCH)?;
        let mut info = DomainInfo::zeroed();
        info.domain = domain;
        info.handle = found.created.handle;
        info.tot_pages = found.frames.len() as u64;
        info.max_pages = found.max_kib / 4;
        info.max_vcpu_id = found.max_vcpus.saturating_sub(1);
        info.flags = u32::from(found.dying) | u32::from(found.paused) << 3;
        if let Some(reason) = found.shutdown {
            info.flags |= 1 << 2 | u32::from(reason.code()) << 16;
        }
        Ok(info)
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        let numbers: Vec<DomId> = self.state.borrow().domains.keys().copied().collect();
        numbers
            .into_iter()
            .map(|number| self.info(number))
            .collect()
    }

    fn set_max_vcpus(&self, domain: DomId, count: u32) -> Result<()> {
        self.with(domain, |domain| {
            domain.max_vcpus = count;
            Ok(())
        })
    }

    fn cpus(&self) -> Result<u32> {
        self.call()?;
        Ok(4)
    }

    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        kind: AffinityKind,
        cpus: &[u8],
    ) -> Result<()> {
        self.with(domain, |domain| {
            domain.affinity.insert((vcpu, kind), cpus.to_vec());
            Ok(())
        })
    }

    fn set_sched(&self, domain: DomId, weight: Option<u16>, cap: Option<u16>) -> Result<()> {
        self.with(domain, |domain| {
            domain.sched = (
                weight.unwrap_or(domain.sched.0),
                cap.unwrap_or(domain.sched.1),
            );
            Ok(())
        })
    }

    fn sched(&self, domain: DomId) -> Result<SchedParams> {
        self.with(domain, |domain| {
            Ok(SchedParams {
                weight: domain.sched.0,
                cap: domain.sched.1,
            })
        })
    }

    fn set_time_offset(&self, domain: DomId, _: i64) -> Result<()> {
        self.with(domain, |_| Ok(()))
    }

    fn set_tsc_mode(&self, domain: DomId, _: u32) -> Result<()> {
        self.with(domain, |_| Ok(()))
    }

    fn set_max_mem(&self, domain: DomId, kib: u64) -> Result<()> {
        self.with(domain, |domain| {
            domain.max_kib = kib;
            Ok(())
        })
    }

    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()> {
        let old = self.with(domain, |domain| {
            Ok(std::mem::replace(&mut domain.pool, bytes / PAGE))
        })?;
        let mut state = self.state.borrow_mut();
        state.free_pages = (state.free_pages + old)
            .checked_sub(bytes / PAGE)
            .ok_or(Errno::NOMEM)?;
        Ok(())
    }

    fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()> {
        self.with(domain, |domain| {
            domain.map = map
                .iter()
                .map(|entry| (entry.addr, entry.size, entry.kind))
                .collect();
            Ok(())
        })
    }

    fn populate(&self, domain: DomId, extents: Extents<'_>) -> Result<usize> {
        self.call()?;
        if extents.order > 0 && self.small_pages_only.get() {
            return Ok(0);
        }
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let found = state.domains.get_mut(&domain).ok_or(Errno::SRCH)?;
        let size = 1u64 << extents.order;
        let mut done = 0;
        for frame in extents.frames {
            let full = (found.frames.len() as u64 + size) * 4 > found.max_kib;
            if state.free_pages < size || full {
                break;
            }
            state.free_pages -= size;
            for gfn in *frame..frame + size {
                if found.frames.insert(gfn, None).is_some() {
                    return Err(Errno::EXIST);
                }
            }
            done += 1;
        }
        Ok(done)
    }

    fn write(&self, domain: DomId, addr: u64, bytes: &[u8]) -> Result<()> {
        self.edit(domain, addr, bytes.len() as u64, |at| bytes[at as usize])
    }

    fn set_param(&self, domain: DomId, index: u32, value: u64) -> Result<()> {
        self.with(domain, |domain| {
            domain.params.insert(index, value);
            Ok(())
        })
    }

    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<u32> {
        self.with(domain, |domain| {
            domain.ports.push(remote);
            Ok(domain.ports.len() as u32)
        })
    }

    fn seed_grant(&self, domain: DomId, reference: u32, to: DomId, gfn: u64, _: u64) -> Result<()> {
        self.with(domain, |domain| {
            domain.grants.insert(reference, (to, gfn));
            Ok(())
        })
    }

    fn context(&self, domain: DomId) -> Result<Vec<u8>> {
        // A header of eight bytes, and the end.
        self.with(domain, |_| {
            Ok([&[1, 0, 0, 0, 8, 0, 0, 0][..], &[0; 16]].concat())
        })
    }

    fn set_context(&self, domain: DomId, records: &[u8]) -> Result<()> {
        self.with(domain, |domain| {
            domain.contexts.push(records.to_vec());
            Ok(())
        })
    }

    fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()> {
        self.with(domain, |domain| {
            domain.created.handle = handle;
            Ok(())
        })
    }

    fn force_shutdown(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        self.with(domain, |domain| {
            domain.shutdown = Some(reason);
            Ok(())
        })
    }

    fn trigger(&self, domain: DomId, _: u32, _: u32) -> Result<()> {
        self.with(domain, |_| Ok(()))
    }

    fn free_memory(&self) -> Result<u64> {
        self.call()?;
        Ok(self.state.borrow().free_pages * PAGE)
    }
}

impl Fake {
    fn ask(&self) -> ToolResult<()> {
        self.call()
            .map_err(|errno| Error::new("the fake store fails as asked", errno))
    }
}

impl Store for Fake {
    fn read(&mut self, path: &str) -> ToolResult<Option<String>> {
        self.ask()?;
        Ok(self.node(path))
    }

    fn list(&mut self, path: &str) -> ToolResult<Vec<String>> {
        self.ask()?;
        let prefix = format!("{path}/");
        let state = self.state.borrow();
        let below = state
            .nodes
            .keys()
            .filter_map(|node| node.strip_prefix(&prefix));
        let mut names: Vec<String> = below
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        names.dedup();
        Ok(names)
    }

    fn apply(&mut self, changes: &[Change]) -> ToolResult<()> {
        self.ask()?;
        let nodes = &mut self.state.borrow_mut().nodes;
        for change in changes {
            match change {
                Change::Set {
                    path,
                    value,
                    access,
                } => {
                    nodes.insert(path.clone(), (value.clone(), *access));
                }
                Change::Write { path, value } => {
                    let parent = path
                        .rsplit_once('/')
                        .and_then(|(parent, _)| nodes.get(parent));
                    let inherited = parent.map_or(Access::Private, |(_, access)| *access);
                    nodes
                        .entry(path.clone())
                        .or_insert((String::new(), inherited))
                        .0
                        .clone_from(value);
                }
                Change::Remove { path } => {
                    let below = format!("{path}/");
                    nodes.retain(|node, _| node != path && !node.starts_with(&below));
                }
            }
        }
        Ok(())
    }

    fn introduce(&mut self, domain: DomId, gfn: u64, port: u32) -> ToolResult<()> {
        self.ask()?;
        self.state
            .borrow_mut()
            .introduced
            .insert(domain, (gfn, port));
        Ok(())
    }

    fn release(&mut self, domain: DomId) -> ToolResult<()> {
        self.ask()?;
        self.state.borrow_mut().introduced.remove(&domain);
        Ok(())
    }

    fn resume(&mut self, _: DomId) -> ToolResult<()> {
        self.ask()
    }

    fn wait(
        &mut self,
        _: &[String],
        _: Duration,
        done: &mut dyn FnMut(&mut dyn Store) -> ToolResult<bool>,
    ) -> ToolResult<bool> {
        for _ in 0..WAIT_STEPS {
            if done(self)? {
                return Ok(true);
            }
            let drivers = Rc::clone(&self.drivers);
            if let Some(drivers) = drivers.borrow_mut().as_mut() {
                drivers(&mut self.state.borrow_mut());
            }
        }
        Ok(false)
    }
}

/// So often the drivers get their turn before a wait's time is over.
const WAIT_STEPS: u32 = 20;
