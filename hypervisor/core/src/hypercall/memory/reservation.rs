//! RAM given to a domain and taken from it, in lists of extents.

use guest_pv_abi as abi;
use oxen_types::{Errno, Gfn};

use super::{Answer, Call, progress, set_progress};
use crate::hypercall::{Handle, Stop};
use crate::ports::GuestMemory;

/// The largest extent is 2 MiB, for a toolstack too: clearing one of 1 GiB would take too long in one
/// go. Toolstacks ask for smaller ones then.
const MOST_ORDER: u32 = 9;
/// 4 KiB pages worth of work in one go; one extent is always done.
const BUDGET: u64 = 512;

struct Extents {
    domain: alloc::sync::Arc<crate::domain::Domain>,
    list: Handle<u64>,
    count: u64,
    order: u32,
}

fn decode(call: &Call<'_>) -> Result<Extents, Stop> {
    let ask: abi::MemoryReservation = call.read(call.handle(1))?;
    let domain = call.target(ask.domid)?;
    if domain.is_dying() {
        return Err(Errno::Inval.into());
    }
    // A list too long or an extent too large: nothing is done, and the count says so.
    let fits =
        ask.extent_order <= MOST_ORDER && ask.nr_extents <= u64::MAX >> (super::PROGRESS_SHIFT + 1);
    let count = if fits { ask.nr_extents } else { progress(call) };
    Ok(Extents {
        domain,
        list: Handle::new(ask.extent_start),
        count,
        order: ask.extent_order,
    })
}

/// Answers with the number of extents done, all or the first few.
pub fn populate(call: &mut Call<'_>) -> Answer {
    let extents = decode(call)?;
    each(call, &extents, |gfn| {
        extents.domain.memory.populate(gfn, extents.order)
    })
}

pub fn decrease(call: &mut Call<'_>) -> Answer {
    let extents = decode(call)?;
    each(call, &extents, |gfn| {
        for i in 0..1u64 << extents.order {
            extents
                .domain
                .memory
                .release(gfn.checked_add(i).ok_or(Errno::Inval)?)?;
        }
        Ok(())
    })
}

fn each(call: &mut Call<'_>, extents: &Extents, act: impl Fn(Gfn) -> Result<(), Errno>) -> Answer {
    let mut spent = 0;
    for i in progress(call)..extents.count {
        if spent >= BUDGET {
            set_progress(call, i);
            return Err(Stop::Again);
        }
        let gfn = match extents.list.nth(i).and_then(|at| call.read(at)) {
            Ok(gfn) => Gfn::new(gfn),
            Err(_) => return Ok(i),
        };
        if act(gfn).is_err() {
            return Ok(i);
        }
        spent += 1u64 << extents.order;
    }
    Ok(extents.count)
}

/// One number about the memory of the domain that the argument names.
pub fn ask(call: &Call<'_>, what: impl Fn(&dyn GuestMemory) -> u64) -> Answer {
    let domid: u16 = call.read(call.handle(1))?;
    Ok(what(&*call.target(domid)?.memory))
}

/// Claims stake out memory before a build. We allocate as the build goes on and fail it cleanly; a claim
/// only tells whether there is enough now.
pub fn claim(call: &Call<'_>) -> Answer {
    call.require_privilege()?;
    let ask: abi::MemoryReservation = call.read(call.handle(1))?;
    call.target(ask.domid)?;
    if ask.nr_extents > call.machine().frames.stats().free_frames {
        return Err(Errno::NoMem.into());
    }
    Ok(0)
}
