//! Second-level page tables as the toolstack sees them: their pool, log-dirty mode, types of
//! frames.

use guest_pv_abi as abi;
use oxen_types::{Errno, Gfn, PAGE_SIZE, Result};

use crate::domain::Domain;
use crate::hypercall::{Answer, Call, List, Stop, Target};
use crate::seams::MapKind;

const MIB: u64 = 1 << 20;
/// Pages that are looked at at once, and how often in one call.
const PART_PAGES: u64 = 4096;
const PARTS: usize = 8;
/// Frames that one getpageframeinfo3 may ask for, as in Xen.
const MOST_FRAMES: u64 = 1024;

/// The pool that a domain's nested page tables and, if it has such, its shadows are made of. It is
/// taken from free memory when it is sized.
pub(super) fn pool(_call: &Call<'_>, domain: &Target, answer: &mut abi::DomctlPagingMempool) {
    answer.size = pool_size(domain);
}

fn pool_size(domain: &Domain) -> u64 {
    let tables = domain.memory.pool().saturating_mul(PAGE_SIZE as u64);
    tables.saturating_add(domain.arch.shadow_pool().unwrap_or(0))
}

/// Goes in steps, the call executed again for each. Of a pool with shadows two thirds are theirs:
/// that leaves the p2m more than a page for each 2 MiB of the guest's, by the formula that
/// toolstacks size it by.
fn resize_pool(domain: &Domain, bytes: u64) -> Answer {
    if domain.is_dying() {
        return Err(Errno::Inval.into());
    }
    if domain.arch.shadow_pool().is_some() && !domain.arch.set_shadow_pool(bytes / 3 * 2)? {
        return Err(Stop::Again);
    }
    let shadows = domain.arch.shadow_pool().unwrap_or(0);
    let tables = bytes.saturating_sub(shadows) / PAGE_SIZE as u64;
    match domain.memory.set_pool(tables)? {
        true => Ok(0),
        false => Err(Stop::Again),
    }
}

/// Sizes the pool, in whole pages.
pub(super) fn set_pool(
    _call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlPagingMempool,
) -> Answer {
    if !ask.size.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::Inval.into());
    }
    resize_pool(domain, ask.size)
}

/// XEN_DOMCTL_SHADOW_OP: log-dirty mode, and the older names of the pool.
pub(super) fn shadow(call: &Call<'_>, domain: &Target, ask: &mut abi::DomctlShadowOp) -> Answer {
    match ask.op {
        abi::XEN_DOMCTL_SHADOW_OP_OFF if !domain.memory.logs_writes() => Ok(0),
        abi::XEN_DOMCTL_SHADOW_OP_OFF => switch_log(domain, false),
        abi::XEN_DOMCTL_SHADOW_OP_ENABLE
            if ask.mode & abi::XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY == 0 =>
        {
            Err(Errno::Inval.into())
        }
        abi::XEN_DOMCTL_SHADOW_OP_ENABLE | abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY => {
            let switching = domain.with_control(|control| control.log.switch.is_some());
            if !switching && domain.memory.logs_writes() {
                return Err(Errno::Inval.into());
            }
            switch_log(domain, true)
        }
        abi::XEN_DOMCTL_SHADOW_OP_CLEAN | abi::XEN_DOMCTL_SHADOW_OP_PEEK => {
            if ask.mode & !abi::XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL != 0 {
                return Err(Errno::Inval.into());
            }
            read_log(call, domain, ask)?;
            Ok(0)
        }
        abi::XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION => {
            let mib = pool_size(domain).div_ceil(MIB);
            ask.mb = u32::try_from(mib).unwrap_or(u32::MAX);
            Ok(0)
        }
        abi::XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION => resize_pool(domain, u64::from(ask.mb) * MIB),
        _ => Err(Errno::Inval.into()),
    }
}

/// A step of switching log-dirty mode, for all of the domain's memory.
fn switch_log(domain: &Domain, on: bool) -> Answer {
    let before = domain.with_control(|control| control.log.switch.take());
    // A switch the other way that was not finished begins at the start.
    let from = before.filter(|(to, _)| *to == on);
    let from = from.map_or(Gfn::new(0), |(_, at)| at);
    match domain.memory.log_writes(on, from) {
        Some(next) => {
            domain.with_control(|control| control.log.switch = Some((on, next)));
            Err(Stop::Again)
        }
        None => {
            domain.memory.log_faults(true);
            Ok(0)
        }
    }
}

/// Fills in the bitmap, a part in each call; in the last of them `ask` gets the answers.
fn read_log(call: &Call<'_>, domain: &Domain, ask: &mut abi::DomctlShadowOp) -> Result<(), Stop> {
    let clean = ask.op == abi::XEN_DOMCTL_SHADOW_OP_CLEAN;
    // Without a bitmap only the counters are wanted, or a clean slate.
    let bitmap: List<'_, u8> = call.list(ask.dirty_bitmap);
    let pages = if bitmap.is_null() && !clean {
        0
    } else {
        ask.pages
    };
    let reader = usize::from(clean);
    let before = domain.with_control(|control| control.log.reads[reader].take());
    let mut read = before.unwrap_or_default();
    // What others may write without our knowing has to be sent each time.
    for _ in 0..PARTS {
        let Some(frame) = read.grants else { break };
        let more = domain.grants.mark_writable(domain, frame);
        read.grants = more.then_some(frame + 1);
    }
    if read.grants.is_some() {
        domain.with_control(|control| control.log.reads[reader] = Some(read));
        return Err(Stop::Again);
    }
    for _ in 0..PARTS {
        let mut bits = [0; PART_PAGES as usize / 8];
        let (at, count) = (read.at, pages.saturating_sub(read.at).min(PART_PAGES));
        if count == 0 {
            break;
        }
        read.found += domain.memory.written(Gfn::new(at), count, &mut bits, clean);
        if !bitmap.is_null() {
            let part = bits.get(..count.div_ceil(8) as usize).unwrap_or(&bits);
            bitmap.set_all(at / 8, part)?;
        }
        read.at += count;
    }
    if read.at < pages {
        domain.with_control(|control| control.log.reads[reader] = Some(read));
        return Err(Stop::Again);
    }
    ask.stats = abi::DomctlShadowOpStats {
        fault_count: domain.memory.log_faults(clean),
        dirty_count: u32::try_from(read.found).unwrap_or(u32::MAX),
    };
    Ok(())
}

/// Whether each gfn has RAM behind it: then it is worth saving.
pub(super) fn frame_types(
    call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlGetPageFrameInfo3,
) -> Result<()> {
    if ask.num > MOST_FRAMES {
        return Err(Errno::TooBig);
    }
    let list: List<'_, u64> = call.list(ask.array);
    for i in 0..ask.num {
        let gfn = Gfn::new(list.get(i)?);
        let ram = domain
            .memory
            .lookup(gfn)
            .is_some_and(|entry| entry.kind == MapKind::Ram);
        let kind = if ram {
            abi::XEN_DOMCTL_PFINFO_NOTAB
        } else {
            abi::XEN_DOMCTL_PFINFO_XTAB
        };
        list.set(i, &u64::from(kind))?;
    }
    Ok(())
}
