//! What a domain sees of the CPU: CPUID leaves and MSRs.

use alloc::vec;
use alloc::vec::Vec;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::Errno;

use crate::domain::Domain;
use crate::hypercall::{Answer, Call};

/// No policy has more entries.
const MOST: u32 = 1024;
const NONE: u32 = u32::MAX;

pub fn get(call: &Call<'_>, domain: &Domain, op: &mut abi::Domctl) -> Answer {
    let mut ask: abi::DomctlCpuPolicy = op.u.view();
    let (mut leaves, mut msrs) = (Vec::new(), Vec::new());
    let nr_leaves = domain.arch.cpuid(&mut leaves)?;
    let nr_msrs = domain.arch.msrs(&mut msrs)?;
    for (at, room, count, bytes) in [
        (ask.leaves, ask.nr_leaves, nr_leaves, &leaves),
        (ask.msrs, ask.nr_msrs, nr_msrs, &msrs),
    ] {
        // Without a list, only the number is asked for.
        if at != 0 {
            if room < count {
                return Err(Errno::NoBufs.into());
            }
            call.write_bytes(at, bytes)?;
        }
    }
    (ask.nr_leaves, ask.nr_msrs) = (nr_leaves, nr_msrs);
    op.u.store(&ask);
    Ok(0)
}

/// Sets what is named and leaves the rest. A guest that has run keeps what it has seen.
pub fn set(call: &Call<'_>, domain: &Domain, op: &mut abi::Domctl) -> Answer {
    let mut ask: abi::DomctlCpuPolicy = op.u.view();
    if domain.id == call.domain().id {
        return Err(Errno::Inval.into());
    }
    if domain.life.lock().started {
        return Err(Errno::Exist.into());
    }
    if ask.nr_leaves > MOST || ask.nr_msrs > MOST {
        return Err(Errno::TooBig.into());
    }
    (ask.err_leaf, ask.err_subleaf, ask.err_msr) = (NONE, NONE, NONE);
    op.u.store(&ask);
    let leaves = list::<abi::CpuidLeaf>(call, ask.leaves, ask.nr_leaves)?;
    let msrs = list::<abi::MsrEntry>(call, ask.msrs, ask.nr_msrs)?;
    domain.arch.set_cpuid(&leaves)?;
    domain.arch.set_msrs(&msrs)?;
    Ok(0)
}

fn list<T>(call: &Call<'_>, at: u64, count: u32) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; count as usize * size_of::<T>()];
    call.read_bytes(at, &mut bytes)?;
    Ok(bytes)
}

/// One CPUID leaf as a domain sees it.
pub fn leaf(domain: &Domain, number: u32) -> Option<abi::CpuidLeaf> {
    let mut leaves = Vec::new();
    domain.arch.cpuid(&mut leaves).ok()?;
    let mut rest = leaves.as_slice();
    while let Some((leaf, tail)) = abi::take_first::<abi::CpuidLeaf>(rest) {
        if leaf.leaf == number {
            return Some(leaf);
        }
        rest = tail;
    }
    None
}
