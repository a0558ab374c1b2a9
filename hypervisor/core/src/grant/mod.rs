//! Grant tables, version 1: pages that a domain lets others map or copy (xen/grant_table.h).
//!
//! A domain's lock guards its table and its own mappings of others' grants. No call holds two
//! domains' locks. A mapping holds a reference to the frame: what the granter does with its table
//! or with itself afterwards cannot take the frame away from under it.

mod copy;
mod maptrack;
mod ops;
mod table;

use alloc::sync::Arc;
use alloc::vec::Vec;

use oxen_types::{DomainId, Errno, Gfn, GrantRef, Result};
use spin::Mutex;

use crate::domain::Domain;
use crate::ports::{FrameSource, MapKind, Mapped, PageRef};

use maptrack::Maptrack;
pub use ops::call;
use table::Table;

/// Why one grant operation failed, as its `status` says (GNTST_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub enum Status {
    GeneralError = -1,
    BadDomain = -2,
    BadRef = -3,
    BadHandle = -4,
    BadVirtAddr = -5,
    NoDeviceSpace = -7,
    PermissionDenied = -8,
    BadPage = -9,
    BadCopyArg = -10,
    TooBig = -11,
}

pub type Granted<T> = Result<T, Status>;

pub struct GrantTable {
    owner: DomainId,
    inner: Mutex<Inner>,
}

struct Inner {
    table: Table,
    maps: Maptrack,
}

/// A grant in use: counted in the granter's table until it is given back.
pub(crate) struct Pin {
    pub granter: Arc<Domain>,
    pub grant: GrantRef,
    pub writable: bool,
}

impl GrantTable {
    pub fn new(
        frames: &'static dyn FrameSource,
        owner: DomainId,
        max_frames: u32,
        max_maptrack_frames: u32,
    ) -> Result<Self> {
        let table = Table::new(frames, owner, max_frames)?;
        Ok(Self {
            owner,
            inner: Mutex::new(Inner {
                table,
                maps: Maptrack::new(max_maptrack_frames),
            }),
        })
    }

    /// Frames that the table has, and may have.
    pub fn size(&self) -> (u32, u32) {
        self.inner.lock().table.size()
    }

    /// Live mappings that this domain holds of others' grants, and pins that others hold of its own.
    pub fn usage(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.maps.used(), inner.table.pinned())
    }

    /// One frame of the table, made if it is not there yet.
    pub fn frame(&self, domain: &Domain, index: u64) -> Result<PageRef> {
        if domain.is_dying() {
            return Err(Errno::Inval);
        }
        self.inner.lock().table.frame(index)
    }

    /// Shows one frame of the table to its owner at `gfn`.
    pub fn map_frame(&self, domain: &Domain, index: u64, gfn: Gfn) -> Result<()> {
        let page = self.frame(domain, index)?;
        let mfn = page.mfn();
        domain.memory.map(gfn, page, MapKind::Xen)?;
        let old = self.inner.lock().table.place(index).replace(gfn);
        if let Some(old) = old.filter(|old| *old != gfn) {
            // The guest may have put something else there meanwhile: then there is nothing to take away.
            let _ = domain.memory.unmap(old, mfn, MapKind::Xen);
        }
        Ok(())
    }

    /// Takes a grant into use for `user`.
    fn pin(
        granter: &Arc<Domain>,
        grant: GrantRef,
        user: DomainId,
        writable: bool,
    ) -> Granted<(Pin, PageRef)> {
        if granter.is_dying() {
            return Err(Status::BadDomain);
        }
        let gfn = granter
            .grants
            .inner
            .lock()
            .table
            .pin(grant, user, writable)?;
        let pin = Pin {
            granter: granter.clone(),
            grant,
            writable,
        };
        match granter.memory.page(gfn, true) {
            Ok(page) => Ok((pin, page)),
            Err(_) => {
                pin.release();
                Err(Status::BadPage)
            }
        }
    }

    /// Marks the frames that others may write just now as written.
    pub fn mark_writable(&self, domain: &Domain) {
        let gfns: Vec<Gfn> = self.inner.lock().table.writable_frames().collect();
        for gfn in gfns {
            // The guest may have given the page away since.
            if let Ok(page) = domain.memory.page(gfn, true) {
                page.mark_written();
            }
        }
    }

    /// Gives back every mapping, `budget` at a time, and then the table. True when done.
    pub fn teardown(&self, domain: &Arc<Domain>, budget: usize) -> bool {
        for _ in 0..budget {
            let Some(map) = self.inner.lock().maps.take_any() else {
                self.inner.lock().table.clear();
                return true;
            };
            // The domain's own p2m goes as a whole right after this; a failure here means it is gone.
            let Mapped { gfn, mfn, kind } = map.mapped();
            let _ = domain.memory.unmap(gfn, mfn, kind);
            map.pin.release();
        }
        false
    }

    pub fn owner(&self) -> DomainId {
        self.owner
    }
}

impl Pin {
    pub(crate) fn release(self) {
        self.granter
            .grants
            .inner
            .lock()
            .table
            .unpin(self.grant, self.writable);
    }
}

#[cfg(test)]
mod tests;
