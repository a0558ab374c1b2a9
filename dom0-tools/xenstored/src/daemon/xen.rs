//! The machine with a hypervisor: event channels, rings, and ends of domains.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use guest_pv_abi::{GNTTAB_RESERVED_XENSTORE, VIRQ_DOM_EXC};
use oxen_sys::gntdev::GrantMapping;
use oxen_sys::hypercall::DomainInfo;
use oxen_sys::{Errno, EventChannels, Gntdev, Privcmd, SharedMemory, xenbus};
use xenstored::error::StoreError;
use xenstored::notices::Notice;
use xenstored::perms::DomId;
use xenstored::ring::Fault;
use xenstored::server::{Indices, Platform, Server};
use xenstored::session::{Sent, Session};
use xenstored::turns::{SLICE, Turns};

use super::log;

/// Steps of work on requests of dom0's kernel before its replies are sent.
const DOM0_SLICE: u64 = 1024;

/// The hypervisor is not there: rings can be introduced, and nothing comes of it.
pub(crate) struct NoXen;

impl Platform for NoXen {
    fn connect(&mut self, _: DomId, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
        Ok(Indices::default())
    }

    fn disconnect(&mut self, _: DomId) {}

    fn log_to(&mut self, file: &str) -> Result<(), StoreError> {
        log::to_file(file)
    }
}

pub(crate) struct Xen {
    events: EventChannels,
    privcmd: Privcmd,
    gntdev: Option<Gntdev>,
    rings: BTreeMap<DomId, OpenRing>,
    /// Domains that sent an event, or that have more to be served. The other rings are not looked
    /// at.
    awake: BTreeSet<DomId>,
    /// The awake domains that were looked at in this turn.
    served: BTreeSet<DomId>,
    turns: Turns,
    exception_port: u32,
}

/// A ring that is open.
struct OpenRing {
    page: Page,
    /// Our end of its event channel.
    port: u32,
    session: Session,
    /// The guest's fault, if it was not logged yet.
    fault: Option<Notice>,
}

enum Page {
    Grant(GrantMapping),
    Mapped(SharedMemory),
}

impl Page {
    fn memory(&self) -> Result<&SharedMemory, Fault> {
        match self {
            Self::Grant(grant) => Ok(grant.memory()?),
            Self::Mapped(memory) => Ok(memory),
        }
    }
}

impl OpenRing {
    /// Does a step; a guest that is at fault is served no more.
    fn step<T: Default>(
        &mut self,
        step: impl FnOnce(&mut Session, &SharedMemory) -> Result<T, Fault>,
    ) -> T {
        let page = self.page.memory();
        match page.and_then(|page| step(&mut self.session, page)) {
            Ok(answer) => answer,
            Err(fault) => {
                self.fault = Some(self.session.fail(page, fault));
                T::default()
            }
        }
    }
}

impl Xen {
    pub(crate) fn open() -> Result<Self, Errno> {
        let events = EventChannels::open()?;
        let exception_port = events.bind_virq(VIRQ_DOM_EXC)?;
        // Without the grant device, pages are mapped as foreign memory.
        let gntdev = Gntdev::open().ok();
        Ok(Self {
            events,
            privcmd: Privcmd::open()?,
            gntdev,
            rings: BTreeMap::new(),
            awake: BTreeSet::new(),
            served: BTreeSet::new(),
            turns: Turns::default(),
            exception_port,
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Opens dom0's own ring if it is not open since before a restart. The event tells dom0's
    /// kernel that the store is there.
    pub(crate) fn connect_dom0(&mut self, server: &mut Server) -> Result<(), StoreError> {
        if server.ring(0).is_none() {
            server.connect(0, 0, 0, self)?;
        }
        if let Some(ring) = self.rings.get(&0) {
            self.events.notify(ring.port).map_err(|_| StoreError::Io)?;
        }
        Ok(())
    }

    /// Catches up with events that happened while no daemon ran.
    pub(crate) fn resume(&mut self, server: &mut Server) {
        for open in self.rings.values_mut() {
            open.session.resume(server);
        }
        self.wake_all();
        self.look_after_domains(server);
    }

    fn wake_all(&mut self) {
        self.awake.extend(self.rings.keys());
    }

    /// Notes the domains whose rings are to be looked at. A guest sends an event when it has put
    /// requests in or taken answers out.
    pub(crate) fn take_events(&mut self, server: &mut Server) {
        let (ports, lost) = match self.events.read() {
            Ok(ports) => (ports, false),
            Err(_) => (Vec::new(), true),
        };
        if lost {
            self.wake_all();
        } else if !ports.is_empty() {
            let rings = self.rings.iter();
            let called = rings.filter(|(_, ring)| ports.contains(&ring.port));
            self.awake.extend(called.map(|(domain, _)| *domain));
        }
        if lost || ports.contains(&self.exception_port) {
            self.look_after_domains(server);
        }
        if let Err(error) = self.events.unmask(&ports) {
            eprintln!("xenstored: event channels: {error}");
        }
    }

    /// Looks for domains that died or shut down.
    pub(crate) fn look_after_domains(&mut self, server: &mut Server) {
        let all = match self.privcmd.domains() {
            Ok(all) => all,
            Err(error) => {
                eprintln!("xenstored: cannot list the domains: {error}");
                return;
            }
        };
        let infos: BTreeMap<DomId, DomainInfo> =
            all.into_iter().map(|info| (info.domain, info)).collect();
        for domain in server.domains().into_iter().filter(|d| *d != 0) {
            match infos.get(&domain) {
                Some(info) if info.dying() => server.forget_domain(domain, self),
                None => server.forget_domain(domain, self),
                Some(info) if info.shutdown().is_some() => server.domain_shut_down(domain),
                Some(_) => {}
            }
        }
    }

    /// Handles requests of dom0's kernel.
    pub(crate) fn serve_dom0(&mut self, server: &mut Server) {
        if self.is_dom0_awake() {
            self.serve_ring(0, server, DOM0_SLICE);
        }
    }

    /// Whether dom0's kernel has requests.
    pub(crate) fn is_dom0_awake(&self) -> bool {
        self.awake.contains(&0)
    }

    /// Whether a guest has requests, or may have made room for replies.
    pub(crate) fn has_awake_guests(&self) -> bool {
        self.awake.iter().any(|domain| *domain != 0)
    }

    /// Handles a turn of guests' requests. The steps that it took.
    pub(crate) fn serve_guests(&mut self, server: &mut Server) -> u64 {
        let mut asking = self.awake.clone();
        asking.remove(&0);
        let mut turns = core::mem::take(&mut self.turns);
        let used = turns.serve(&asking, server, |domain, server| {
            self.serve_ring(domain, server, SLICE)
        });
        self.turns = turns;
        used
    }

    fn serve_ring(&mut self, domain: DomId, server: &mut Server, slice: u64) -> bool {
        self.served.insert(domain);
        // Out of the table, since requests of dom0 may change it. They cannot concern dom0's own
        // ring, and guests' requests cannot concern any.
        let Some(mut open) = self.rings.remove(&domain) else {
            return false;
        };
        let more = open.step(|session, page| session.serve(page, server, self, slice));
        self.rings.insert(domain, open);
        more
    }

    /// Sends the replies. Those that find no room are sent when the guest has made some and
    /// notifies. Notices of guests at fault.
    pub(crate) fn send(&mut self, server: &mut Server) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut looked_at = core::mem::take(&mut self.served);
        looked_at.append(&mut server.take_told());
        for domain in looked_at {
            let Some(open) = self.rings.get_mut(&domain) else {
                self.awake.remove(&domain);
                continue;
            };
            let Sent { notify, more } = open.step(|session, page| session.send(page, server));
            if more {
                self.awake.insert(domain);
            } else {
                self.awake.remove(&domain);
            }
            if notify {
                // A notification fails only if the domain is about to end.
                let _ = self.events.notify(open.port);
            }
            notices.extend(open.fault.take());
        }
        notices
    }

    fn map(&self, domain: DomId, gfn: u64) -> Result<Page, Errno> {
        let granted = self
            .gntdev
            .as_ref()
            .ok_or(Errno::NODEV)
            .and_then(|g| g.map(domain, GNTTAB_RESERVED_XENSTORE, true));
        match granted {
            Ok(grant) => Ok(Page::Grant(grant)),
            Err(_) => self.privcmd.map_foreign(domain, &[gfn]).map(Page::Mapped),
        }
    }
}

impl Platform for Xen {
    fn connect(
        &mut self,
        domain: DomId,
        gfn: u64,
        port: u32,
        fresh: bool,
    ) -> Result<Indices, StoreError> {
        self.disconnect(domain);
        let fail = |what: &'static str| {
            move |error: Errno| {
                eprintln!("xenstored: domain {domain}: {what}: {error}");
                StoreError::Inval
            }
        };
        let (page, port) = if domain == 0 {
            let own = xenbus::own_ring().map_err(fail("dom0's ring"))?;
            (Page::Mapped(own.memory), own.remote_port)
        } else {
            (
                self.map(domain, gfn).map_err(fail("mapping its ring"))?,
                port,
            )
        };
        let port = self
            .events
            .bind_interdomain(domain, port)
            .map_err(fail("its event channel"))?;
        let opened = page
            .memory()
            .and_then(|page| Session::open(page, domain, fresh));
        let (session, indices, waiting) = opened.map_err(|_| StoreError::Io)?;
        if waiting {
            // A guest that cannot be notified is gone.
            let _ = self.events.notify(port);
        }
        self.rings.insert(
            domain,
            OpenRing {
                page,
                port,
                session,
                fault: None,
            },
        );
        // The guest may have sent requests already.
        self.awake.insert(domain);
        Ok(indices)
    }

    fn log_to(&mut self, file: &str) -> Result<(), StoreError> {
        log::to_file(file)
    }

    fn disconnect(&mut self, domain: DomId) {
        self.turns.forget(domain);
        if let Some(ring) = self.rings.remove(&domain) {
            // Closing fails only for a port that is not ours any more.
            let _ = self.events.unbind(ring.port);
        }
    }
}
