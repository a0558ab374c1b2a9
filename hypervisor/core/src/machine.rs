//! The hypervisor as a whole: its domains, scheduler and timers over one machine.
//!
//! The order of its locks, and of all others, is in docs/lock-order.md.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU16, Ordering};

use oxen_types::{DomainId, Errno, Result, RwLock};

use crate::domain::Domain;
use crate::domains::Domains;
use crate::evtchn;
use crate::sched::Sched;
use crate::seams::{FrameSource, Platform};
use crate::timer::Timers;

pub struct Machine {
    pub platform: &'static dyn Platform,
    pub frames: &'static dyn FrameSource,
    pub sched: Sched,
    pub timers: Timers,
    domains: RwLock<Domains>,
    next_id: AtomicU16,
}

impl Machine {
    pub fn new(
        platform: &'static dyn Platform,
        frames: &'static dyn FrameSource,
        cpus: usize,
    ) -> Self {
        Self {
            platform,
            frames,
            sched: Sched::new(cpus),
            timers: Timers::new(cpus),
            domains: RwLock::new(Domains::new()),
            next_id: AtomicU16::new(1),
        }
    }

    pub fn now(&self) -> u64 {
        self.platform.clock().now()
    }

    /// The domain of that number, unless it is gone. Dying domains are still found, and dead ones as long as
    /// others hold frames of them.
    pub fn domain(&self, id: DomainId) -> Option<Arc<Domain>> {
        self.domains.read().get(id).cloned()
    }

    /// The domain with the lowest number from `first` on.
    pub fn next_domain(&self, first: DomainId) -> Option<Arc<Domain>> {
        self.domains.read().next(first).cloned()
    }

    /// All domains in the order of their numbers. No lock is held between two of them.
    pub fn all_domains(&self) -> impl Iterator<Item = Arc<Domain>> + '_ {
        let mut next = Some(DomainId::DOM0);
        core::iter::from_fn(move || {
            let domain = self.next_domain(next?)?;
            next = domain.id.0.checked_add(1).map(DomainId);
            Some(domain)
        })
    }

    pub fn domain_count(&self) -> usize {
        self.domains.read().count
    }

    pub fn dom0(&self) -> Option<Arc<Domain>> {
        self.domain(DomainId::DOM0)
    }

    /// A number for a new domain: the wish if it is free, else the next free one.
    pub fn free_domain_id(&self, wish: Option<DomainId>) -> Result<DomainId> {
        let domains = self.domains.read();
        if let Some(id) = wish {
            return if domains.get(id).is_some() {
                Err(Errno::Exist)
            } else {
                Ok(id)
            };
        }
        for _ in 0..DomainId::FIRST_RESERVED.0 {
            let id =
                DomainId(self.next_id.fetch_add(1, Ordering::Relaxed) % DomainId::FIRST_RESERVED.0);
            if id != DomainId::DOM0 && domains.get(id).is_none() {
                return Ok(id);
            }
        }
        Err(Errno::NoMem)
    }

    pub fn insert(&self, domain: Arc<Domain>) -> Result<()> {
        self.domains.write().insert(domain)
    }

    /// Takes a domain off the list. Another one of the same number stays.
    pub fn remove(&self, domain: &Domain) {
        self.domains.write().remove(domain);
    }

    /// Takes domains off the list that are dead, and that nobody holds frames of any more.
    pub fn reap(&self) {
        for domain in self.all_domains().filter(|domain| domain.is_gone()) {
            self.remove(&domain);
            self.raise_global_virq(guest_pv_abi::VIRQ_DOM_EXC);
        }
    }

    /// Raises a virq that belongs to the machine as a whole: it goes to dom0.
    pub fn raise_global_virq(&self, virq: u32) {
        if let Some(dom0) = self.dom0() {
            evtchn::raise_virq(&dom0, 0, virq);
        }
    }
}
