//! The machine with a hypervisor: event channels, rings, and the fate of domains.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use oxen_sys::gntdev::GrantMapping;
use oxen_sys::{Errno, EventChannels, Gntdev, Privcmd, SharedMemory, xenbus};
use xenstored::error::StoreError;
use xenstored::perms::DomId;
use xenstored::ring;
use xenstored::server::{ConnId, Indices, Platform, Server};

/// The virtual interrupt that tells of domains' ends (VIRQ_DOM_EXC).
const VIRQ_DOM_EXC: u32 = 3;
/// The grant by which every guest gives its store's page (GNTTAB_RESERVED_XENSTORE).
const STORE_GRANT: u32 = 1;

/// The hypervisor is not there: rings can be introduced, and nothing comes of it.
pub(crate) struct NoXen;

impl Platform for NoXen {
    fn connect(&mut self, _: DomId, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
        Ok(Indices::default())
    }

    fn disconnect(&mut self, _: DomId) {}
}

pub(crate) struct Xen {
    events: EventChannels,
    privcmd: Privcmd,
    gntdev: Option<Gntdev>,
    rings: BTreeMap<DomId, OpenRing>,
    exception_port: u32,
}

/// A ring that is open.
pub(crate) struct OpenRing {
    page: Page,
    /// Our end of its event channel.
    port: u32,
    /// The end of what was put into the ring.
    produced: u32,
    /// Requests up to here are to be taken out, once the records are written.
    pub(crate) take: Option<u32>,
    /// The guest is at fault: its ring is not looked at any more.
    pub(crate) broken: bool,
}

enum Page {
    Grant(GrantMapping),
    Mapped(SharedMemory),
}

impl OpenRing {
    pub(crate) fn page(&self) -> Result<&SharedMemory, ring::Fault> {
        match &self.page {
            Page::Grant(grant) => Ok(grant.memory()?),
            Page::Mapped(memory) => Ok(memory),
        }
    }

    /// Takes requests out, puts answers in. True if the guest is to be told.
    fn send(&mut self, server: &mut Server, domain: DomId) -> Result<bool, ring::Fault> {
        let mut told = false;
        if let Some(consumed) = self.take.take() {
            ring::take(self.page()?, consumed)?;
            told = true;
        }
        let Some(outbox) = server.outbox(ConnId::Domain(domain)) else {
            return Ok(told);
        };
        while !outbox.is_empty() {
            let count = ring::put(self.page()?, self.produced, outbox.next())?;
            if count == 0 {
                break;
            }
            self.produced = self.produced.wrapping_add(count);
            outbox.advance(count as usize);
            told = true;
        }
        Ok(told)
    }

    pub(crate) fn fail(&mut self, domain: DomId, fault: ring::Fault) {
        eprintln!("xenstored: domain {domain} is not served any more: {fault}");
        self.broken = true;
        // If the page cannot be written, there is nobody to tell.
        let _ = self.page().and_then(|page| ring::fail(page, fault));
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
            exception_port,
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    pub(crate) fn ring(&mut self, domain: DomId) -> Option<&mut OpenRing> {
        self.rings.get_mut(&domain)
    }

    /// Opens dom0's own ring if it is not open since before a restart. The event tells dom0's kernel
    /// that the store is there.
    pub(crate) fn connect_dom0(&mut self, server: &mut Server) -> Result<(), StoreError> {
        if server.ring(0).is_none() {
            server.connect(0, 0, 0, self)?;
        }
        if let Some(ring) = self.rings.get(&0) {
            self.events.notify(ring.port).map_err(|_| StoreError::Io)?;
        }
        Ok(())
    }

    /// Catches up with what happened while no daemon was there.
    pub(crate) fn resume(&mut self, server: &mut Server) {
        for (domain, open) in &mut self.rings {
            // The journal knows what was taken; the page may not, if we died in between.
            open.take = server.ring(*domain).map(|r| r.indices.consumed);
        }
        self.look_after_domains(server);
    }

    /// Events only wake us: all rings are looked at in each turn, which costs one load each.
    pub(crate) fn take_events(&mut self, server: &mut Server) {
        let (ports, lost) = match self.events.read() {
            Ok(ports) => (ports, false),
            Err(_) => (Vec::new(), true),
        };
        if lost || ports.contains(&self.exception_port) {
            self.look_after_domains(server);
        }
        if let Err(error) = self.events.unmask(&ports) {
            eprintln!("xenstored: event channels: {error}");
        }
    }

    /// Who died or shut down?
    pub(crate) fn look_after_domains(&mut self, server: &mut Server) {
        for domain in server.domains().into_iter().filter(|d| *d != 0) {
            match self.privcmd.domain_info(domain) {
                Ok(info) if info.dying() => server.forget_domain(domain, self),
                Err(Errno::SRCH) => server.forget_domain(domain, self),
                Ok(info) if info.shutdown().is_some() => server.domain_shut_down(domain),
                Ok(_) => {}
                Err(error) => eprintln!("xenstored: domain {domain}: {error}"),
            }
        }
    }

    /// Lets the answers go. What finds no room goes when the guest has made some and says so.
    pub(crate) fn send(&mut self, server: &mut Server) {
        for (domain, open) in &mut self.rings {
            if open.broken {
                continue;
            }
            match open.send(server, *domain) {
                Ok(false) => {}
                Ok(true) => {
                    // A notification that fails has nobody to hear it: the domain is on its way out.
                    let _ = self.events.notify(open.port);
                }
                Err(fault) => open.fail(*domain, fault),
            }
        }
    }

    fn map(&self, domain: DomId, gfn: u64) -> Result<Page, Errno> {
        let granted = self
            .gntdev
            .as_ref()
            .ok_or(Errno::NODEV)
            .and_then(|g| g.map(domain, STORE_GRANT, true));
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
        let mut open = OpenRing {
            page,
            port,
            produced: 0,
            take: None,
            broken: false,
        };
        let ready = || -> Result<_, ring::Fault> {
            let page = open.page()?;
            if fresh {
                ring::clear(page)?;
            }
            let waiting = ring::open(page)?;
            Ok((ring::own_indices(page)?, waiting))
        };
        let ((consumed, produced), waiting) = ready().map_err(|_| StoreError::Io)?;
        open.produced = produced;
        if waiting {
            // Who cannot be told is not there.
            let _ = self.events.notify(port);
        }
        self.rings.insert(domain, open);
        Ok(Indices { consumed, produced })
    }

    fn disconnect(&mut self, domain: DomId) {
        if let Some(ring) = self.rings.remove(&domain) {
            // Closing fails only for a port that is not ours any more.
            let _ = self.events.unbind(ring.port);
        }
    }
}
