//! Grant tables, version 1: pages that a domain lets others map or copy (xen/grant_table.h).
//!
//! A domain's lock guards its table and its own mappings of others' grants. No call holds two
//! domains' locks. A mapping holds a reference to the frame: what the granter does with its table
//! or with itself afterwards cannot take the frame away from under it.

mod copy;
mod maptrack;
pub(crate) mod ops;
mod table;

use alloc::sync::Arc;

use oxen_types::{DomainId, Errno, Gfn, GrantRef, Result};
use spin::Mutex;

use crate::domain::Domain;
use crate::fallible::Account;
use crate::seams::{FrameSource, MapKind, PageRef};

use maptrack::Maptrack;
use table::Table;

/// Why one grant operation failed, as its `status` says (GNTST_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub enum Status {
    /// Anything that has no status of its own.
    GeneralError = -1,
    /// No such domain.
    BadDomain = -2,
    /// No such grant, or none for the caller.
    BadRef = -3,
    /// No mapping of that handle.
    BadHandle = -4,
    /// A mapping at another address.
    BadVirtAddr = -5,
    /// The caller may not act on that domain.
    PermissionDenied = -8,
    /// No page at that gfn.
    BadPage = -9,
    /// A copy that would pass the end of a page.
    BadCopyArg = -10,
    /// A page number beyond the address space.
    TooBig = -11,
    /// The entry is in use: the guest may try again.
    Again = -12,
    /// The caller has no handle or memory left for the mapping.
    NoSpace = -13,
}

/// The result of one grant operation.
pub type Granted<T> = Result<T, Status>;

/// A domain's grants, and its mappings of other domains' grants.
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
    /// Empty tables. Both limits are in frames.
    ///
    /// # Errors
    /// `NoMem` if there is no memory for the first frame.
    pub fn new(
        frames: &'static dyn FrameSource,
        account: &Account,
        owner: DomainId,
        max_frames: u32,
        max_maptrack_frames: u32,
    ) -> Result<Self> {
        let table = Table::new(frames, account, owner, max_frames)?;
        Ok(Self {
            owner,
            inner: Mutex::new(Inner {
                table,
                maps: Maptrack::new(max_maptrack_frames),
            }),
        })
    }

    /// Pages of the heap that a table of so many frames takes, with so many frames of mappings.
    pub fn pages(max_frames: usize, max_maptrack_frames: usize) -> usize {
        Table::pages(max_frames) + max_maptrack_frames
    }

    /// Frames that the table has, and may have.
    pub fn size(&self) -> (u32, u32) {
        self.inner.lock().table.size()
    }

    /// Live mappings that this domain holds of others' grants, and pins that others hold of its
    /// own.
    pub fn usage(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.maps.used(), inner.table.pinned())
    }

    /// One frame of the table, made if it is not there yet.
    pub fn frame(&self, domain: &Domain, index: u64) -> Result<PageRef> {
        if domain.is_dying() {
            return Err(Errno::Inval);
        }
        self.inner.lock().table.frame(&domain.heap, index)
    }

    /// Shows one frame of the table to its owner at `gfn`.
    pub fn map_frame(&self, domain: &Domain, index: u64, gfn: Gfn) -> Result<()> {
        let page = self.frame(domain, index)?;
        let mfn = page.mfn();
        domain.memory.map(gfn, page, MapKind::Xen)?;
        let old = self.inner.lock().table.set_place(index, gfn);
        if let Some(old) = old.filter(|old| *old != gfn) {
            // The guest may have put something else there meanwhile: then there is nothing to take
            // away.
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

    /// Marks the pages that others may write just now, by grants of one frame of the table, as
    /// written. False if the table has no frame of that number.
    pub fn mark_writable(&self, domain: &Domain, frame: u32) -> bool {
        let inner = self.inner.lock();
        let Some(pages) = inner.table.writable_pages(frame) else {
            return false;
        };
        for gfn in pages {
            // The guest may have given the page away since.
            if let Ok(page) = domain.memory.page(gfn, true) {
                page.mark_written();
            }
        }
        true
    }

    /// Gives back every mapping, `budget` handles at a time, and then the table. True when done.
    pub fn teardown(&self, domain: &Arc<Domain>, budget: usize) -> bool {
        for _ in 0..budget {
            let taken = self.inner.lock().maps.take_last(&domain.heap);
            let Ok(map) = taken else {
                self.inner.lock().table.clear(&domain.heap);
                return true;
            };
            if let Some(map) = map {
                if let Some(mapped) = map.mapped() {
                    // The domain's own p2m goes as a whole right after this; a failure here means
                    // that it is gone.
                    let _ = domain.memory.unmap(mapped.gfn, mapped.mfn, mapped.kind);
                }
                map.end(domain.machine.frames);
            }
        }
        false
    }

    /// The domain whose tables these are.
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
