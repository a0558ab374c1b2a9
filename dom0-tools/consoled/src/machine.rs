//! The hypervisor's part: pages, ports, and whether a domain still exists.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use guest_pv_abi::GNTTAB_RESERVED_CONSOLE;
use oxen_sys::{Errno, EventChannels, Gntdev, Privcmd};

use crate::console::Page;
use crate::store::Place;

pub(crate) struct Machine {
    pub(crate) events: EventChannels,
    privcmd: Privcmd,
    gntdev: Option<Gntdev>,
}

impl Machine {
    pub(crate) fn open() -> Result<Self, Errno> {
        // Without the grant device, pages are mapped as foreign memory.
        Ok(Self {
            events: EventChannels::open()?,
            privcmd: Privcmd::open()?,
            gntdev: Gntdev::open().ok(),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// A domain's UUID; None when it is gone or going.
    pub(crate) fn uuid(&self, domain: u16) -> Option<[u8; 16]> {
        self.privcmd
            .domain_info(domain)
            .ok()
            .filter(|info| !info.dying())
            .map(|info| info.handle)
    }

    /// The domains of a list that are gone for good, so that their pages must be let go. `None` if
    /// the hypervisor does not say.
    pub(crate) fn gone(&self, mut known: BTreeSet<u16>) -> BTreeSet<u16> {
        let Ok(all) = self.privcmd.domains() else {
            return BTreeSet::new();
        };
        for alive in all.iter().filter(|info| !info.dying()) {
            known.remove(&alive.domain);
        }
        known
    }

    /// Maps a console's page, and binds its port.
    pub(crate) fn connect(&self, domain: u16, place: &Place) -> Result<(Page, u32), Errno> {
        let granted = self
            .gntdev
            .as_ref()
            .ok_or(Errno::NODEV)
            .and_then(|g| g.map(domain, GNTTAB_RESERVED_CONSOLE, true));
        let page = match granted {
            Ok(grant) => Page::Grant(grant),
            Err(_) => Page::Mapped(self.privcmd.map_foreign(domain, &[place.gfn])?),
        };
        Ok((page, self.events.bind_interdomain(domain, place.port)?))
    }
}
