//! grant_table_op: lists of operations, each with its own status.

use alloc::sync::Arc;

use bytemuck::{Pod, Zeroable};
use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gaddr, Gfn, GrantRef};

use super::maptrack::Map;
use super::{GrantTable, Granted, Pin, Status, copy};
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Handle, Stop, Work};
use crate::seams::{MapKind, PageRef};

/// Operations that are copied from and to the caller together, and whose unmapping is flushed together.
const CHUNK: usize = 16;

/// args: cmd, list, count.
pub fn call(call: &mut Call<'_>) -> Answer {
    match call.args[0] as u32 {
        abi::GNTTABOP_MAP_GRANT_REF => {
            each(call, |call, op: &mut abi::GnttabMapGrantRef| {
                // What stood at the gfn may have to be flushed, page by page.
                call.spend(Work::Operation, 1);
                match map(call, op) {
                    Ok((handle, dev_bus_addr)) => {
                        (op.status, op.handle, op.dev_bus_addr) = (0, handle, dev_bus_addr)
                    }
                    Err(status) => op.status = status as i16,
                }
            })
        }
        abi::GNTTABOP_UNMAP_GRANT_REF => chunks(call, unmap),
        abi::GNTTABOP_COPY => each(call, |call, op: &mut abi::GnttabCopy| {
            // Two frames are pinned, and up to a page is copied.
            call.spend(Work::Operation, 1);
            op.status = code(copy::copy(call, op))
        }),
        abi::GNTTABOP_SWAP_GRANT_REF => each(call, |call, op: &mut abi::GnttabSwapGrantRef| {
            let (a, b) = (GrantRef(op.ref_a), GrantRef(op.ref_b));
            op.status = code(call.domain().grants.inner.lock().table.swap(a, b));
        }),
        abi::GNTTABOP_QUERY_SIZE => each(call, |call, op: &mut abi::GnttabQuerySize| {
            match call.target(op.dom) {
                Ok(domain) => {
                    (op.nr_frames, op.max_nr_frames) = domain.grants.size();
                    op.status = 0;
                }
                Err(errno) => op.status = bad_target(errno) as i16,
            }
        }),
        abi::GNTTABOP_SETUP_TABLE => setup_table(call),
        abi::GNTTABOP_SET_VERSION => {
            let at: Handle<abi::GnttabSetVersion> = call.handle(1);
            let ask = call.read(at)?;
            call.write(at, &abi::GnttabSetVersion { version: 1 })?;
            // Version 2 is optional, and we leave it out.
            if ask.version == 1 {
                Ok(0)
            } else {
                Err(Errno::NoSys.into())
            }
        }
        abi::GNTTABOP_GET_VERSION => {
            let at: Handle<abi::GnttabGetVersion> = call.handle(1);
            let ask = call.read(at)?;
            call.target(ask.dom)?;
            call.write(at, &abi::GnttabGetVersion { version: 1, ..ask })?;
            Ok(0)
        }
        _ => Err(Errno::NoSys.into()),
    }
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

/// Runs `act` on a private copy of each operation, and writes it back with its status.
fn each<T>(call: &mut Call<'_>, act: impl Fn(&Call<'_>, &mut T)) -> Answer
where
    T: Pod,
{
    chunks(call, |call, ops| {
        ops.iter_mut().for_each(|op| act(call, op))
    })
}

/// The same for operations that are done together.
fn chunks<T>(call: &mut Call<'_>, act: impl Fn(&Call<'_>, &mut [T])) -> Answer
where
    T: Pod,
{
    let list: Handle<T> = call.handle(1);
    let count = call.args[2];
    if count > u64::from(u32::MAX) {
        return Err(Errno::Inval.into());
    }
    let mut room: [T; CHUNK] = Zeroable::zeroed();
    let mut done = 0;
    while done < count {
        if call.is_spent() {
            call.args[1] = list.nth(done)?.raw();
            call.args[2] = count - done;
            return Err(Stop::Again);
        }
        let at = list.nth(done)?.raw();
        let len = (count - done).min(CHUNK as u64);
        let ops = room.get_mut(..len as usize).unwrap_or_default();
        call.spend(Work::Operation, len);
        call.read_bytes(at, bytemuck::cast_slice_mut(ops))?;
        act(call, ops);
        call.write_bytes(at, bytemuck::cast_slice(ops))?;
        done += len;
    }
    Ok(0)
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

/// Who granted the pages hears that they are given back after no CPU can reach them any more.
fn unmap(call: &Call<'_>, ops: &mut [abi::GnttabUnmapGrantRef]) {
    let domain = call.domain();
    let mut taken: [Option<Map>; CHUNK] = [const { None }; CHUNK];
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

fn setup_table(call: &mut Call<'_>) -> Answer {
    if call.args[2] != 1 {
        return Err(Errno::Inval.into());
    }
    let at: Handle<abi::GnttabSetupTable> = call.handle(1);
    let mut op = call.read(at)?;
    op.status = match call.target(op.dom) {
        Err(errno) => bad_target(errno) as i16,
        Ok(domain) if op.nr_frames > domain.config.max_grant_frames => Status::GeneralError as i16,
        Ok(domain) => {
            let list: Handle<u64> = Handle::new(op.frame_list);
            for index in 0..u64::from(op.nr_frames) {
                let _made = domain.grants.frame(&domain, index)?;
                let gfn = domain.grants.inner.lock().table.place(index);
                call.write(list.nth(index)?, &gfn.map_or(u64::MAX, |gfn| gfn.raw()))?;
            }
            0
        }
    };
    call.write(at, &op)?;
    Ok(0)
}
