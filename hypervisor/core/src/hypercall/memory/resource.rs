//! acquire_resource: hypervisor-made frames of a domain, mapped by its toolstack.

use core::cell::Cell;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn, Result};

use super::{Answer, Call, go_on, progress};
use crate::hypercall::{List, Privileged, Work};
use crate::seams::{FLUSHED_TOGETHER, MapKind, PageRef};

/// A translated caller names the gfns at which the frames shall stand.
pub(super) fn acquire(
    call: &mut Call<'_>,
    dom0: Privileged,
    ask: &mut abi::AcquireResource,
) -> Answer {
    let target = dom0.over(call, DomainId(ask.domid))?;
    if u32::from(ask.kind) != abi::XENMEM_RESOURCE_GRANT_TABLE
        || ask.id != abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED
    {
        return Err(Errno::OpNotSupp.into());
    }
    let list: List<'_, u64> = call.list(ask.frame_list);
    if list.is_null() {
        if ask.nr_frames != 0 {
            return Err(Errno::Inval.into());
        }
        ask.nr_frames = target.config.max_grant_frames;
        return Ok(0);
    }
    let count = u64::from(ask.nr_frames);
    let mut done = progress(call);
    while done < count {
        if call.is_spent() {
            return Err(go_on(call, done));
        }
        let part = done..count.min(done + FLUSHED_TOGETHER as u64);
        done = part.end;
        call.spend(Work::Operation, part.end - part.start);
        call.spend(Work::Flush, 1);
        let result = Cell::new(Ok(()));
        let frame = |i| -> Result<(Gfn, PageRef)> {
            let gfn = Gfn::new(list.get(i)?);
            let index = ask.frame.checked_add(i).ok_or(Errno::Inval)?;
            Ok((gfn, target.grants.frame(&target, index)?))
        };
        let mut frames = part.map_while(|i| {
            result.get().ok()?;
            frame(i).map_err(|errno| result.set(Err(errno))).ok()
        });
        let memory = &call.domain().memory;
        memory.map_all(MapKind::Foreign, &mut frames, &mut |mapped| {
            result.set(result.get().and(mapped))
        });
        result.get()?;
    }
    Ok(0)
}
