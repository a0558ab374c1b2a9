//! RAM given to a domain and taken from it, in lists of extents.

use core::cell::Cell;

use guest_pv_abi as abi;
use oxen_types::{Errno, Gfn, Result};

use super::{Answer, Call, Target, go_on, progress};
use crate::hypercall::{List, Privileged, Stop, Work};
use crate::seams::FLUSHED_TOGETHER;

/// The largest extent is 2 MiB, for a toolstack too: clearing one of 1 GiB would take too long in
/// one go. Toolstacks ask for smaller ones then.
const MOST_ORDER: u32 = 9;

struct Extents<'a> {
    domain: &'a Target,
    list: List<'a, u64>,
    count: u64,
    order: u32,
}

fn decode<'a>(
    call: &Call<'a>,
    domain: &'a Target,
    ask: &abi::MemoryReservation,
) -> Result<Extents<'a>, Stop> {
    if domain.is_dying() {
        return Err(Errno::Inval.into());
    }
    // A list too long or an extent too large: nothing is done, and the count says so.
    let fits =
        ask.extent_order <= MOST_ORDER && ask.nr_extents <= u64::MAX >> (super::PROGRESS_SHIFT + 1);
    let count = if fits { ask.nr_extents } else { progress(call) };
    Ok(Extents {
        domain,
        list: call.list(ask.extent_start),
        count,
        order: ask.extent_order,
    })
}

/// Answers with the number of extents done, all or the first few.
pub(super) fn populate(
    call: &mut Call<'_>,
    target: &Target,
    ask: &abi::MemoryReservation,
) -> Answer {
    let extents = decode(call, target, ask)?;
    for i in progress(call)..extents.count {
        if call.is_spent() {
            return Err(go_on(call, i));
        }
        let Some(gfn) = extents.gfn(i) else {
            return Ok(i);
        };
        call.spend(Work::Page, 1 << extents.order);
        if extents.domain.memory.populate(gfn, extents.order).is_err() {
            return Ok(i);
        }
    }
    Ok(extents.count)
}

/// The same. Translations are flushed for many pages at once.
pub(super) fn decrease(
    call: &mut Call<'_>,
    target: &Target,
    ask: &abi::MemoryReservation,
) -> Answer {
    let extents = decode(call, target, ask)?;
    let mut done = progress(call);
    while done < extents.count {
        if call.is_spent() {
            return Err(go_on(call, done));
        }
        let part = extents.part(done);
        let released = extents.release(&part);
        let pages = (part.len as u64) << extents.order;
        call.spend(Work::Page, pages);
        call.spend(Work::Flush, pages.div_ceil(FLUSHED_TOGETHER as u64));
        done += released as u64;
        if released < FLUSHED_TOGETHER {
            break;
        }
    }
    Ok(done)
}

impl Extents<'_> {
    /// Where the extent of that number begins; `None` if the list cannot be read there.
    fn gfn(&self, number: u64) -> Option<Gfn> {
        self.list.get(number).ok().map(Gfn::new)
    }

    /// The next extents, as many as are flushed together.
    fn part(&self, from: u64) -> Part {
        let mut part = Part::default();
        let most = (self.count - from).min(FLUSHED_TOGETHER as u64);
        for (place, number) in part.gfns.iter_mut().zip(from..from + most) {
            let Some(gfn) = self.gfn(number) else {
                break;
            };
            *place = gfn;
            part.len += 1;
        }
        part
    }

    /// How many of them, from the first on, the domain gave up.
    fn release(&self, part: &Part) -> usize {
        let (released, failed) = (Cell::new(0), Cell::new(false));
        let mut list = part.iter().take_while(|_| !failed.get());
        let memory = &self.domain.memory;
        memory.release_all(self.order, &mut list, &mut |result| match result {
            Ok(()) => released.set(released.get() + 1),
            Err(_) => failed.set(true),
        });
        released.get()
    }
}

/// A few extents of a list.
struct Part {
    gfns: [Gfn; FLUSHED_TOGETHER],
    len: usize,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            gfns: [Gfn::new(0); FLUSHED_TOGETHER],
            len: 0,
        }
    }
}

impl Part {
    fn iter(&self) -> impl Iterator<Item = Gfn> {
        self.gfns.iter().take(self.len).copied()
    }
}

/// Keeps free memory for a domain that is being built: `nr_extents` pages with those that it has; 0
/// gives up what is left of the claim.
///
/// # Errors
/// `Inval` for flags, for extents larger than a page, and for a dying domain; `NoMem` if less is
/// free.
pub(super) fn claim(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &abi::MemoryReservation,
) -> Result<()> {
    if ask.extent_order != 0 || ask.mem_flags != 0 {
        return Err(Errno::Inval);
    }
    let domain = call.target(ask.domid)?;
    if domain.is_dying() {
        return Err(Errno::Inval);
    }
    domain.memory.claim(ask.nr_extents)
}
