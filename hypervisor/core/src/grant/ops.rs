//! grant_table_op: lists of operations, each with its own status.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gaddr, Gfn, GrantRef, Result};

use super::maptrack::Map;
use super::{GrantTable, Granted, Pin, Status, copy};
use crate::domain::Domain;
use crate::hypercall::op::{BATCH, operations};
use crate::hypercall::{Answer, Call, List, Target, Work};
use crate::seams::{MapKind, PageRef};

operations! {
    /// args: cmd, list, count.
    pub(crate) fn call(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[1];
    accepted {
        GNTTABOP_MAP_GRANT_REF: each(abi::GnttabMapGrantRef) by anyone => map_one, full;
        GNTTABOP_UNMAP_GRANT_REF: batch(abi::GnttabUnmapGrantRef) by anyone => unmap, full;
        GNTTABOP_COPY: each(abi::GnttabCopy) by anyone => copy_one, full;
        GNTTABOP_SWAP_GRANT_REF: each(abi::GnttabSwapGrantRef) by anyone => swap, full;
        GNTTABOP_QUERY_SIZE: each(abi::GnttabQuerySize) by anyone => query_size, full;
        GNTTABOP_SETUP_TABLE: updates(abi::GnttabSetupTable) by anyone => setup_table, full;
        GNTTABOP_SET_VERSION: reports(abi::GnttabSetVersion) by anyone => set_version,
            part("version 1 only");
        GNTTABOP_GET_VERSION: updates(abi::GnttabGetVersion) by target(dom) => version,
            full("version 1");
    }
    refused {
        GNTTABOP_DUMP_TABLE: NoSys;
        GNTTABOP_TRANSFER: NoSys;
        GNTTABOP_UNMAP_AND_REPLACE: NoSys;
        GNTTABOP_GET_STATUS_FRAMES: NoSys, "version 2 only";
        GNTTABOP_CACHE_FLUSH: NoSys, "for Arm";
    }
    else Err(Errno::NoSys.into());
}

fn code(done: Granted<()>) -> i16 {
    done.map_or_else(|status| status as i16, |()| 0)
}

fn bad_target(errno: Errno) -> Status {
    if errno == Errno::Perm {
        Status::PermissionDenied
    } else {
        Status::BadDomain
    }
}

fn map_one(call: &Call<'_>, op: &mut abi::GnttabMapGrantRef) {
    // What stood at the gfn may have to be flushed, page by page.
    call.spend(Work::Operation, 1);
    match map(call, op) {
        Ok((handle, dev_bus_addr)) => {
            (op.status, op.handle, op.dev_bus_addr) = (0, handle, dev_bus_addr);
        }
        Err(status) => op.status = status as i16,
    }
}

fn copy_one(call: &Call<'_>, op: &mut abi::GnttabCopy) {
    // Two frames are pinned, and up to a page is copied.
    call.spend(Work::Operation, 1);
    op.status = code(copy::copy(call, op));
}

fn swap(call: &Call<'_>, op: &mut abi::GnttabSwapGrantRef) {
    let (a, b) = (GrantRef(op.ref_a), GrantRef(op.ref_b));
    op.status = code(call.domain().grants.inner.lock().table.swap(a, b));
}

fn query_size(call: &Call<'_>, op: &mut abi::GnttabQuerySize) {
    match call.target(op.dom) {
        Ok(domain) => {
            (op.nr_frames, op.max_nr_frames) = domain.grants.size();
            op.status = 0;
        }
        Err(errno) => op.status = bad_target(errno) as i16,
    }
}

/// Version 2 is optional, and left out: the guest gets version 1, whichever it asks for.
fn set_version(_call: &Call<'_>, op: &mut abi::GnttabSetVersion) -> Result<()> {
    match core::mem::replace(&mut op.version, 1) {
        1 => Ok(()),
        _ => Err(Errno::NoSys),
    }
}

fn version(_call: &Call<'_>, _target: &Target, op: &mut abi::GnttabGetVersion) {
    op.version = 1;
}

fn map(call: &Call<'_>, op: &abi::GnttabMapGrantRef) -> Granted<(u32, u64)> {
    let domain = call.domain();
    // Mappings by page-table entry are for PV guests.
    if op.flags & abi::GNTMAP_CONTAINS_PTE != 0 {
        return Err(Status::GeneralError);
    }
    if op.flags & (abi::GNTMAP_HOST_MAP | abi::GNTMAP_DEVICE_MAP) == 0 {
        return Err(Status::BadRef);
    }
    let to = (op.flags & abi::GNTMAP_HOST_MAP != 0).then(|| Gaddr::new(op.host_addr).frame());
    let granter = granter(call, op.dom)?;
    let writable = op.flags & abi::GNTMAP_READONLY == 0;
    let handle = domain.grants.inner.lock().maps.reserve(&domain.heap)?;
    let mapped = GrantTable::pin(&granter, GrantRef(op.grant_ref), domain.id, writable)
        .and_then(|(pin, page)| place(domain, pin, page, to));
    let mut inner = domain.grants.inner.lock();
    match mapped {
        Ok(map) => {
            let bus = map.mfn.base().raw();
            inner.maps.fill(handle, map);
            Ok((handle, bus))
        }
        Err(status) => {
            inner.maps.release(handle);
            Err(status)
        }
    }
}

/// Puts a granted page where the mapper wants it; without a place the page is held for it alone.
fn place(domain: &Domain, pin: Pin, page: PageRef, to: Option<Gfn>) -> Granted<Map> {
    let Some(gfn) = to else {
        return Ok(Map::held(pin, page));
    };
    let (mfn, writable) = (page.mfn(), pin.writable);
    match domain.memory.map(gfn, page, MapKind::Grant { writable }) {
        Ok(()) => Ok(Map::at(pin, gfn, mfn)),
        Err(_) => {
            pin.release();
            Err(Status::GeneralError)
        }
    }
}

pub(super) fn granter(call: &Call<'_>, id: u16) -> Granted<Arc<Domain>> {
    match DomainId(id) {
        DomainId::SELF => Ok(call.domain().clone()),
        id => call.machine().domain(id).ok_or(Status::BadDomain),
    }
}

/// Unmaps pages. The granter learns that they are given back after no CPU can reach them any more.
fn unmap(call: &Call<'_>, ops: &mut [abi::GnttabUnmapGrantRef]) {
    let domain = call.domain();
    let mut taken: [Option<Map>; BATCH] = [const { None }; BATCH];
    let mut inner = domain.grants.inner.lock();
    for (op, place) in ops.iter_mut().zip(&mut taken) {
        let gfn = Gaddr::new(op.host_addr).frame();
        match inner.maps.take(op.handle, |map| map.is_named_by(gfn)) {
            Ok(map) => (op.status, *place) = (0, Some(map)),
            Err(status) => op.status = status as i16,
        }
    }
    drop(inner);
    call.spend(Work::Flush, 1);
    let mut list = taken.iter().flatten().filter_map(Map::mapped);
    let asked = ops.iter_mut().zip(&taken);
    let is_mapped = |map: &Option<Map>| map.as_ref().is_some_and(|map| map.mapped().is_some());
    let mut asked = asked.filter(|(_, map)| is_mapped(map));
    domain.memory.unmap_all(&mut list, &mut |done| {
        // It may have been replaced at its gfn; the reference went with it then.
        if let (Some((op, _)), Err(_)) = (asked.next(), done) {
            op.status = Status::GeneralError as i16;
        }
    });
    for map in taken.into_iter().flatten() {
        map.end(domain.machine.frames);
    }
}

fn setup_table(call: &Call<'_>, op: &mut abi::GnttabSetupTable) -> Answer {
    if call.args[2] != 1 {
        return Err(Errno::Inval.into());
    }
    op.status = match call.target(op.dom) {
        Err(errno) => bad_target(errno) as i16,
        Ok(domain) if op.nr_frames > domain.config.max_grant_frames => Status::GeneralError as i16,
        Ok(domain) => {
            let list: List<'_, u64> = call.list(op.frame_list);
            for index in 0..u64::from(op.nr_frames) {
                let _made = domain.grants.frame(&domain, index)?;
                let gfn = domain.grants.inner.lock().table.place(index);
                list.set(index, &gfn.map_or(u64::MAX, |gfn| gfn.raw()))?;
            }
            0
        }
    };
    Ok(0)
}
