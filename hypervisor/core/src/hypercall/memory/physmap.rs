//! add_to_physmap and remove_from_physmap: what stands at a gfn of the caller's choice.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn, Result};

use super::{Answer, Call, progress, set_progress};
use crate::domain::Domain;
use crate::hypercall::{Handle, Stop};
use crate::ports::MapKind;

/// Entries of a batch done in one go.
const BATCH: u64 = 64;

pub fn add(call: &mut Call<'_>) -> Answer {
    let ask: abi::AddToPhysmap = call.read(call.handle(1))?;
    let domain = call.target(ask.domid)?;
    // Foreign frames need the batch form, which names the other domain.
    if ask.space == abi::XENMAPSPACE_GMFN_FOREIGN {
        return Err(Errno::NoSys.into());
    }
    let count = if ask.space == abi::XENMAPSPACE_GMFN_RANGE {
        u64::from(ask.size)
    } else {
        1
    };
    for i in progress(call)..count {
        if i >= progress(call) + BATCH {
            set_progress(call, i);
            return Err(Stop::Again);
        }
        let index = ask.idx.checked_add(i).ok_or(Errno::Inval)?;
        let gfn = Gfn::new(ask.gpfn).checked_add(i).ok_or(Errno::Inval)?;
        put(&domain, ask.space, index, gfn)?;
    }
    Ok(0)
}

/// Each entry has its own errno; the call succeeds if the lists could be read and written.
pub fn add_batch(call: &mut Call<'_>) -> Answer {
    let ask: abi::AddToPhysmapBatch = call.read(call.handle(1))?;
    let domain = call.target(ask.domid)?;
    let other = match u32::from(ask.space) {
        abi::XENMAPSPACE_GMFN_FOREIGN => {
            call.require_privilege()?;
            let other = call
                .machine()
                .domain(DomainId(ask.foreign_domid))
                .ok_or(Errno::Srch)?;
            if Arc::ptr_eq(&other, &domain) {
                return Err(Errno::Inval.into());
            }
            Some(other)
        }
        _ => None,
    };
    let (indexes, gfns) = (Handle::<u64>::new(ask.idxs), Handle::<u64>::new(ask.gpfns));
    let errors = Handle::<i32>::new(ask.errs);
    let start = progress(call);
    for i in start..u64::from(ask.size) {
        if i >= start + BATCH {
            set_progress(call, i);
            return Err(Stop::Again);
        }
        let index = call.read(indexes.nth(i)?)?;
        let gfn = Gfn::new(call.read(gfns.nth(i)?)?);
        let done = match &other {
            Some(other) => put_foreign(&domain, other, Gfn::new(index), gfn),
            None => put(&domain, ask.space.into(), index, gfn),
        };
        let errno = done.map_or_else(|errno| errno.to_abi() as i32, |()| 0);
        call.write(errors.nth(i)?, &errno)?;
    }
    Ok(0)
}

pub fn remove(call: &mut Call<'_>) -> Answer {
    let ask: abi::RemoveFromPhysmap = call.read(call.handle(1))?;
    let domain = call.target(ask.domid)?;
    let gfn = Gfn::new(ask.gpfn);
    let entry = domain.memory.lookup(gfn).ok_or(Errno::NoEnt)?;
    match entry.kind {
        MapKind::Ram => domain.memory.release(gfn)?,
        MapKind::Foreign | MapKind::Xen => domain.memory.unmap(gfn, entry.mfn, entry.kind)?,
        // A grant is given back through the grant table, and devices are not the guest's to take away.
        MapKind::Grant { .. } | MapKind::Mmio => return Err(Errno::Inval.into()),
    }
    Ok(0)
}

fn put(domain: &Arc<Domain>, space: u32, index: u64, gfn: Gfn) -> Result<()> {
    match space {
        abi::XENMAPSPACE_SHARED_INFO => {
            if index != 0 {
                return Err(Errno::Inval);
            }
            let mut place = domain.shared_info_gfn.lock();
            let page = domain.shared_info.try_clone().ok_or(Errno::NoMem)?;
            let mfn = page.mfn();
            domain.memory.map(gfn, page, MapKind::Xen)?;
            if let Some(old) = place.replace(gfn).filter(|old| *old != gfn) {
                // The guest may have put something else there meanwhile: then there is nothing to take away.
                let _ = domain.memory.unmap(old, mfn, MapKind::Xen);
            }
            Ok(())
        }
        abi::XENMAPSPACE_GRANT_TABLE => domain.grants.map_frame(domain, index, gfn),
        abi::XENMAPSPACE_GMFN | abi::XENMAPSPACE_GMFN_RANGE => {
            domain.memory.move_ram(Gfn::new(index), gfn)
        }
        _ => Err(Errno::NoSys),
    }
}

fn put_foreign(domain: &Domain, other: &Domain, from: Gfn, gfn: Gfn) -> Result<()> {
    // A dying domain's memory must not gain references.
    let life = other.life.lock();
    if life.dying != crate::domain::Dying::Alive {
        return Err(Errno::Inval);
    }
    let page = other.memory.page(from, true)?;
    domain.memory.map(gfn, page, MapKind::Foreign)
}
