//! grant_table_op: lists of operations, each with its own status.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gaddr, GrantRef};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::maptrack::Map;
use super::{GrantTable, Granted, Status, copy};
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Handle, Stop};
use crate::ports::MapKind;

/// Operations done before the CPU looks at its other work.
const BATCH: u64 = 32;

/// args: cmd, list, count.
pub fn call(call: &mut Call<'_>) -> Answer {
    match call.args[0] as u32 {
        abi::GNTTABOP_MAP_GRANT_REF => {
            each(call, |call, op: &mut abi::GnttabMapGrantRef| {
                match map(call, op) {
                    Ok((handle, dev_bus_addr)) => {
                        (op.status, op.handle, op.dev_bus_addr) = (0, handle, dev_bus_addr)
                    }
                    Err(status) => op.status = status as i16,
                }
            })
        }
        abi::GNTTABOP_UNMAP_GRANT_REF => each(call, |call, op: &mut abi::GnttabUnmapGrantRef| {
            op.status = code(unmap(call, op))
        }),
        abi::GNTTABOP_COPY => each(call, |call, op: &mut abi::GnttabCopy| {
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
    T: FromBytes + IntoBytes + FromZeros + Immutable,
{
    let list: Handle<T> = call.handle(1);
    let count = call.args[2];
    if count > u64::from(u32::MAX) {
        return Err(Errno::Inval.into());
    }
    for done in 0..count {
        if done == BATCH {
            call.args[1] = list.nth(done)?.raw();
            call.args[2] = count - done;
            return Err(Stop::Again);
        }
        let at = list.nth(done)?;
        let mut op = call.read(at)?;
        act(call, &mut op);
        call.write(at, &op)?;
    }
    Ok(0)
}

fn map(call: &Call<'_>, op: &abi::GnttabMapGrantRef) -> Granted<(u32, u64)> {
    let domain = call.domain();
    // Mappings by page-table entry are for PV guests.
    if op.flags & abi::GNTMAP_HOST_MAP == 0 || op.flags & abi::GNTMAP_CONTAINS_PTE != 0 {
        return Err(Status::GeneralError);
    }
    let gfn = Gaddr::new(op.host_addr).frame();
    let granter = granter(call, op.dom)?;
    let writable = op.flags & abi::GNTMAP_READONLY == 0;
    let handle = domain.grants.inner.lock().maps.reserve()?;
    let mapped = GrantTable::pin(&granter, GrantRef(op.grant_ref), domain.id, writable).and_then(
        |(pin, page)| {
            let mfn = page.mfn();
            match domain.memory.map(gfn, page, MapKind::Grant { writable }) {
                Ok(()) => Ok(Map { pin, gfn, mfn }),
                Err(_) => {
                    pin.release();
                    Err(Status::GeneralError)
                }
            }
        },
    );
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

pub(super) fn granter(call: &Call<'_>, id: u16) -> Granted<Arc<Domain>> {
    match DomainId(id) {
        DomainId::SELF => Ok(call.domain().clone()),
        id => call.machine().domain(id).ok_or(Status::BadDomain),
    }
}

fn unmap(call: &Call<'_>, op: &abi::GnttabUnmapGrantRef) -> Granted<()> {
    let domain = call.domain();
    let gfn = Gaddr::new(op.host_addr).frame();
    let map = domain
        .grants
        .inner
        .lock()
        .maps
        .take(op.handle, |map| map.gfn == gfn)?;
    // It may have been replaced at its gfn; the reference went with it then.
    let unmapped = domain.memory.unmap(
        map.gfn,
        map.mfn,
        MapKind::Grant {
            writable: map.pin.writable,
        },
    );
    map.pin.release();
    unmapped.map_err(|_| Status::GeneralError)
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
                let gfn = *domain.grants.inner.lock().table.place(index);
                call.write(list.nth(index)?, &gfn.map_or(u64::MAX, |gfn| gfn.raw()))?;
            }
            0
        }
    };
    call.write(at, &op)?;
    Ok(0)
}
