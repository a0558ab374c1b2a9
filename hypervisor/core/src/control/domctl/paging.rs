//! Second-level page tables as the toolstack sees them: their pool, log-dirty mode, types of frames.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{Errno, Gfn, PAGE_SIZE};

use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Handle};
use crate::ports::MapKind;

const MIB: u64 = 1 << 20;
/// Frames that one getpageframeinfo3 may ask for, as in Xen.
const MOST_FRAMES: u64 = 1024;

/// Our tables come from the heap as they are needed: the pool is a number that is kept.
pub fn pool(domain: &Domain, op: &mut abi::Domctl) -> Answer {
    let size = domain.control.lock().paging_pool;
    op.u.store(&abi::DomctlPagingMempool { size });
    Ok(0)
}

pub fn set_pool(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlPagingMempool = op.u.view();
    if !ask.size.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::Inval.into());
    }
    domain.control.lock().paging_pool = ask.size;
    Ok(0)
}

/// The older names of the pool, and log-dirty mode, which we do not have yet.
pub fn shadow(domain: &Domain, op: &mut abi::Domctl) -> Answer {
    let mut ask: abi::DomctlShadowOp = op.u.view();
    match ask.op {
        abi::XEN_DOMCTL_SHADOW_OP_OFF => Ok(0),
        abi::XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION => {
            let mib = domain.control.lock().paging_pool.div_ceil(MIB);
            ask.mb = u32::try_from(mib).unwrap_or(u32::MAX);
            op.u.store(&ask);
            Ok(0)
        }
        abi::XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION => {
            domain.control.lock().paging_pool = u64::from(ask.mb) * MIB;
            Ok(0)
        }
        abi::XEN_DOMCTL_SHADOW_OP_ENABLE
        | abi::XEN_DOMCTL_SHADOW_OP_ENABLE_TEST
        | abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY
        | abi::XEN_DOMCTL_SHADOW_OP_CLEAN
        | abi::XEN_DOMCTL_SHADOW_OP_PEEK => Err(Errno::OpNotSupp.into()),
        _ => Err(Errno::Inval.into()),
    }
}

/// Whether each gfn has RAM behind it: then it is worth saving.
pub fn frame_types(call: &Call<'_>, domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlGetPageFrameInfo3 = op.u.view();
    if ask.num > MOST_FRAMES {
        return Err(Errno::TooBig.into());
    }
    let list: Handle<u64> = Handle::new(ask.array);
    for i in 0..ask.num {
        let at = list.nth(i)?;
        let gfn = Gfn::new(call.read(at)?);
        let ram = domain
            .memory
            .lookup(gfn)
            .is_some_and(|entry| entry.kind == MapKind::Ram);
        let kind = if ram {
            abi::XEN_DOMCTL_PFINFO_NOTAB
        } else {
            abi::XEN_DOMCTL_PFINFO_XTAB
        };
        call.write(at, &u64::from(kind))?;
    }
    Ok(0)
}
