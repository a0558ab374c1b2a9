//! The hypervisor as a whole: its domains, scheduler and timers over one machine.
//!
//! The order of its locks, and of all others, is in docs/lock-order.md.

mod domains;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU16, Ordering};

use oxen_types::{DomainId, Errno, Result, RwLock};

use crate::domain::{Domain, DomainBuilder};
use crate::evtchn;
use crate::sched::Scheduler;
use crate::seams::{FrameSource, Platform};
use crate::timer::Timers;
use crate::vcpu::Vcpu;
use domains::Domains;

/// The one machine: every domain and vcpu leads to it.
pub struct Machine {
    /// Clock, console, CPUs and power.
    pub platform: &'static dyn Platform,
    /// The frame table.
    pub frames: &'static dyn FrameSource,
    /// Makes new domains.
    pub builder: &'static dyn DomainBuilder,
    /// The scheduler; [`Machine::pick_vcpu`] calls it for a CPU.
    pub sched: Scheduler<Arc<Vcpu>>,
    /// The timer queues of all CPUs.
    pub timers: Timers<Arc<Vcpu>>,
    domains: RwLock<Domains>,
    next_id: AtomicU16,
}

impl Machine {
    /// A machine of so many CPUs without domains. Allocates: only while the machine boots.
    pub fn new(
        platform: &'static dyn Platform,
        frames: &'static dyn FrameSource,
        builder: &'static dyn DomainBuilder,
        cpus: usize,
    ) -> Self {
        Self {
            platform,
            frames,
            builder,
            sched: Scheduler::new(cpus),
            timers: Timers::new(cpus),
            domains: RwLock::new(Domains::new()),
            next_id: AtomicU16::new(1),
        }
    }

    /// Nanoseconds since boot.
    pub fn now(&self) -> u64 {
        self.platform.clock().now()
    }

    /// The domain of a number, unless it is gone. Dying domains are still found, and dead ones as
    /// long as others hold frames of them.
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

    /// How many domains are listed.
    pub fn domain_count(&self) -> usize {
        self.domains.read().count()
    }

    /// The privileged domain, if it has been built.
    pub fn dom0(&self) -> Option<Arc<Domain>> {
        self.domain(DomainId::DOM0)
    }

    /// A number for a new domain: the one that is wanted, or the next free one.
    ///
    /// # Errors
    /// `Exist` if the wanted number is taken; `NoMem` if all are.
    pub fn free_domain_id(&self, wanted: Option<DomainId>) -> Result<DomainId> {
        let domains = self.domains.read();
        if let Some(id) = wanted {
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

    /// Lists a domain.
    ///
    /// # Errors
    /// `Exist` if its number is taken; `NoMem` if there is no memory for the entry.
    pub fn insert(&self, domain: Arc<Domain>) -> Result<()> {
        self.domains.write().insert(domain)
    }

    /// Takes a domain off the list. Another one of the same number stays.
    pub fn remove(&self, domain: &Domain) {
        self.domains.write().remove(domain);
    }

    /// Takes the domains off the list that are dead and of which others hold no frame any more.
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
