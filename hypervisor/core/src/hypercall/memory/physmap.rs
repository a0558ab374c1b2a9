//! add_to_physmap and remove_from_physmap: what stands at a gfn of the caller's choice.

use alloc::sync::Arc;
use core::cell::Cell;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn, Result};

use super::{Answer, Call, Target, go_on, progress};
use crate::domain::Domain;
use crate::hypercall::{List, Work};
use crate::seams::{FLUSHED_TOGETHER, MapKind};

/// Puts one page, or the pages of a range, where the caller wants them.
pub(super) fn add(call: &mut Call<'_>, domain: &Target, ask: &abi::AddToPhysmap) -> Answer {
    match ask.space {
        // Foreign frames need the batch form, which names the other domain.
        abi::XENMAPSPACE_GMFN_FOREIGN => Err(Errno::NoSys.into()),
        abi::XENMAPSPACE_GMFN_RANGE => add_range(call, domain, ask),
        space => {
            call.spend(Work::Flush, 1);
            put(domain, space, ask.idx, Gfn::new(ask.gpfn))?;
            Ok(0)
        }
    }
}

/// Moves pages that lie one behind the other, up to the first that cannot be moved.
fn add_range(call: &mut Call<'_>, domain: &Domain, ask: &abi::AddToPhysmap) -> Answer {
    let count = u64::from(ask.size);
    let mut done = progress(call);
    while done < count {
        if call.is_spent() {
            return Err(go_on(call, done));
        }
        let part = (count - done).min(FLUSHED_TOGETHER as u64);
        let result = Cell::new(Ok(()));
        let mut list = (done..done + part).map_while(|i| {
            let from = ask.idx.checked_add(i).map(Gfn::new);
            let to = Gfn::new(ask.gpfn).checked_add(i);
            result.get().ok()?;
            from.zip(to).or_else(|| {
                result.set(Err(Errno::Inval));
                None
            })
        });
        domain
            .memory
            .move_all(&mut list, &mut |moved| result.set(result.get().and(moved)));
        call.spend(Work::Operation, part);
        call.spend(Work::Flush, 1);
        result.get()?;
        done += part;
    }
    Ok(0)
}

/// Each entry has its own errno; the call succeeds if the lists could be read and written.
pub(super) fn add_batch(
    call: &mut Call<'_>,
    domain: &Target,
    ask: &abi::AddToPhysmapBatch,
) -> Answer {
    let other = match u32::from(ask.space) {
        abi::XENMAPSPACE_GMFN_FOREIGN => {
            let dom0 = call.privileged()?;
            let other = dom0.over(call, DomainId(ask.foreign_domid))?;
            if Arc::ptr_eq(&other, domain) {
                return Err(Errno::Inval.into());
            }
            Some(other)
        }
        _ => None,
    };
    let count = u64::from(ask.size);
    let mut done = progress(call);
    while done < count {
        if call.is_spent() {
            return Err(go_on(call, done));
        }
        let mut part = Part::read(call, ask, done, count)?;
        match (&other, u32::from(ask.space)) {
            (Some(other), _) => part.map_foreign(domain, other),
            (None, abi::XENMAPSPACE_GMFN | abi::XENMAPSPACE_GMFN_RANGE) => part.move_ram(domain),
            (None, space) => {
                // Each of these is flushed by itself.
                call.spend(Work::Flush, part.len as u64);
                part.each(|index, gfn| put(domain, space, index, gfn));
            }
        }
        call.spend(Work::Operation, part.len as u64);
        call.spend(Work::Flush, 1);
        part.write_errors(call, ask, done)?;
        done += part.len as u64;
    }
    Ok(0)
}

/// Entries of a batch that are done together.
struct Part {
    entries: [(u64, Gfn, Result<()>); FLUSHED_TOGETHER],
    len: usize,
}

impl Part {
    /// The next entries. Where a list cannot be read the part ends; at its beginning that is an
    /// error.
    fn read(call: &Call<'_>, ask: &abi::AddToPhysmapBatch, from: u64, count: u64) -> Result<Self> {
        let indexes: List<'_, u64> = call.list(ask.idxs);
        let gfns: List<'_, u64> = call.list(ask.gpfns);
        let read = |i| Ok((indexes.get(i)?, Gfn::new(gfns.get(i)?)));
        let mut part = Self {
            entries: [(0, Gfn::new(0), Ok(())); FLUSHED_TOGETHER],
            len: 0,
        };
        for (place, i) in part.entries.iter_mut().zip(from..count) {
            match read(i) {
                Ok((index, gfn)) => *place = (index, gfn, Ok(())),
                Err(errno) if part.len == 0 => return Err(errno),
                Err(_) => break,
            }
            part.len += 1;
        }
        Ok(part)
    }

    fn each(&mut self, mut act: impl FnMut(u64, Gfn) -> Result<()>) {
        for (index, gfn, result) in self.entries.iter_mut().take(self.len) {
            *result = act(*index, *gfn);
        }
    }

    fn move_ram(&mut self, domain: &Domain) {
        let asked = self.entries;
        let asked = asked.iter().take(self.len);
        let mut list = asked.map(|(index, gfn, _)| (Gfn::new(*index), *gfn));
        let mut results = self.entries.iter_mut().map(|(.., result)| result);
        domain.memory.move_all(&mut list, &mut |moved| {
            if let Some(result) = results.next() {
                *result = moved;
            }
        });
    }

    /// Maps pages of another domain. A dying domain's memory must not gain references.
    fn map_foreign(&mut self, domain: &Domain, other: &Domain) {
        let mapped = other.while_alive(|| self.map_pages_of(domain, other));
        if mapped.is_none() {
            self.each(|_, _| Err(Errno::Inval));
        }
    }

    fn map_pages_of(&mut self, domain: &Domain, other: &Domain) {
        let asked = self.entries;
        let entries = Cell::from_mut(&mut self.entries[..]).as_slice_of_cells();
        let set = |n: usize, result| {
            if let Some(entry) = entries.get(n) {
                let (index, gfn, _) = entry.get();
                entry.set((index, gfn, result));
            }
        };
        // What is no page of theirs is not in the list that is mapped.
        let found = Cell::new(0);
        let asked = asked.iter().take(self.len).enumerate();
        let mut list = asked.filter_map(|(n, (index, gfn, _))| {
            let page = other.memory.page(Gfn::new(*index), true);
            set(n, page.as_ref().map(|_| ()).map_err(|errno| *errno));
            found.set(n);
            Some((*gfn, page.ok()?))
        });
        let kind = MapKind::Foreign;
        domain
            .memory
            .map_all(kind, &mut list, &mut |mapped| set(found.get(), mapped));
    }

    fn write_errors(&self, call: &Call<'_>, ask: &abi::AddToPhysmapBatch, from: u64) -> Result<()> {
        let errors: List<'_, i32> = call.list(ask.errs);
        for (i, (.., result)) in (from..).zip(self.entries.iter().take(self.len)) {
            let errno = result.map_or_else(|errno| errno.to_abi() as i32, |()| 0);
            errors.set(i, &errno)?;
        }
        Ok(())
    }
}

/// Takes away what stands at a gfn, but for grants and devices.
///
/// # Errors
/// `NoEnt` if nothing stands there, `Inval` for a grant or a device.
pub(super) fn remove(call: &Call<'_>, domain: &Target, ask: &abi::RemoveFromPhysmap) -> Result<()> {
    let gfn = Gfn::new(ask.gpfn);
    let entry = domain.memory.lookup(gfn).ok_or(Errno::NoEnt)?;
    call.spend(Work::Flush, 1);
    match entry.kind {
        MapKind::Ram => domain.memory.release(gfn)?,
        MapKind::Foreign | MapKind::Xen => domain.memory.unmap(gfn, entry.mfn, entry.kind)?,
        // A grant is given back through the grant table, and devices are not the guest's to take
        // away.
        MapKind::Grant { .. } | MapKind::Mmio => return Err(Errno::Inval),
    }
    Ok(())
}

fn put(domain: &Arc<Domain>, space: u32, index: u64, gfn: Gfn) -> Result<()> {
    match space {
        abi::XENMAPSPACE_SHARED_INFO => {
            if index != 0 {
                return Err(Errno::Inval);
            }
            domain.map_shared_info(gfn)
        }
        abi::XENMAPSPACE_GRANT_TABLE => domain.grants.map_frame(domain, index, gfn),
        abi::XENMAPSPACE_GMFN => domain.memory.move_ram(Gfn::new(index), gfn),
        _ => Err(Errno::NoSys),
    }
}
