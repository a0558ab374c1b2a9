//! acquire_resource: hypervisor-made frames of a domain, mapped by its toolstack.

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Gfn};

use super::{Answer, Call};
use crate::hypercall::Handle;
use crate::ports::MapKind;

/// Frames that one call may ask for.
const MOST_FRAMES: u32 = 32;

/// A translated caller names the gfns at which the frames shall stand.
pub fn acquire(call: &mut Call<'_>) -> Answer {
    call.require_privilege()?;
    let at: Handle<abi::AcquireResource> = call.handle(1);
    let ask = call.read(at)?;
    let target = call
        .machine()
        .domain(DomainId(ask.domid))
        .ok_or(Errno::Srch)?;
    if u32::from(ask.kind) != abi::XENMEM_RESOURCE_GRANT_TABLE
        || ask.id != abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED
    {
        return Err(Errno::OpNotSupp.into());
    }
    let list: Handle<u64> = Handle::new(ask.frame_list);
    if list.is_null() {
        if ask.nr_frames != 0 {
            return Err(Errno::Inval.into());
        }
        let nr_frames = target.config.max_grant_frames;
        call.write(at, &abi::AcquireResource { nr_frames, ..ask })?;
        return Ok(0);
    }
    if ask.nr_frames > MOST_FRAMES {
        return Err(Errno::TooBig.into());
    }
    for i in 0..u64::from(ask.nr_frames) {
        let gfn = Gfn::new(call.read(list.nth(i)?)?);
        let index = ask.frame.checked_add(i).ok_or(Errno::Inval)?;
        let page = target.grants.frame(&target, index)?;
        call.domain().memory.map(gfn, page, MapKind::Foreign)?;
    }
    Ok(0)
}
