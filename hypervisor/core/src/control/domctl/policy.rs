//! The CPU as a domain sees it: CPUID leaves and MSRs.

use alloc::vec::Vec;

use bytemuck::Pod;
use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use crate::domain::Domain;
use crate::fallible;
use crate::hypercall::{Call, List, Target};

/// No policy has more entries.
const MOST: u32 = 1024;
const NONE: u32 = u32::MAX;

/// The leaves and MSRs that the domain sees. Without a list, only its length is returned.
pub(super) fn get(call: &Call<'_>, domain: &Target, ask: &mut abi::DomctlCpuPolicy) -> Result<()> {
    let arch = &domain.arch;
    ask.nr_leaves = list(call, ask.leaves, ask.nr_leaves, |visit| arch.cpuid(visit))?;
    ask.nr_msrs = list(call, ask.msrs, ask.nr_msrs, |visit| arch.msrs(visit))?;
    Ok(())
}

/// Writes a list of the caller's, if it has one with enough room; how long it is.
fn list<T: Pod>(
    call: &Call<'_>,
    at: u64,
    room: u32,
    each: impl Fn(&mut dyn FnMut(&T) -> Result<()>) -> Result<()>,
) -> Result<u32> {
    let mut count = 0u32;
    each(&mut |_| {
        count = count.saturating_add(1);
        Ok(())
    })?;
    // Without a list, only the number is asked for.
    if at == 0 {
        return Ok(count);
    }
    if room < count {
        return Err(Errno::NoBufs);
    }
    let to: List<'_, T> = call.list(at);
    let mut done = 0u32;
    each(&mut |entry| {
        // The policy of a guest that has not started may have become longer.
        if done < room {
            to.set(done.into(), entry)?;
            done += 1;
        }
        Ok(())
    })?;
    Ok(done)
}

/// Sets what is named and leaves the rest. A guest that has run keeps what it has seen.
pub(super) fn set(call: &Call<'_>, domain: &Target, ask: &mut abi::DomctlCpuPolicy) -> Result<()> {
    if domain.life().started {
        return Err(Errno::Exist);
    }
    if ask.nr_leaves > MOST || ask.nr_msrs > MOST {
        return Err(Errno::TooBig);
    }
    (ask.err_leaf, ask.err_subleaf, ask.err_msr) = (NONE, NONE, NONE);
    let leaves = copied::<abi::CpuidLeaf>(call, ask.leaves, ask.nr_leaves)?;
    let msrs = copied::<abi::MsrEntry>(call, ask.msrs, ask.nr_msrs)?;
    fallible::with_reserve(call.machine().frames, || domain.arch.set_cpuid(&leaves))??;
    domain.arch.set_msrs(&msrs)
}

/// More than a page of it, of a toolstack that names more leaves than there are, may be refused
/// with -ENOMEM.
fn copied<T>(call: &Call<'_>, at: u64, count: u32) -> Result<Vec<u8>> {
    let mut bytes = fallible::filled(count as usize * size_of::<T>(), || 0)?;
    call.list(at).get_all(0, &mut bytes)?;
    Ok(bytes)
}

/// One CPUID leaf as a domain sees it.
pub fn leaf(domain: &Domain, number: u32) -> Option<abi::CpuidLeaf> {
    let mut found = None;
    let looked = domain.arch.cpuid(&mut |leaf| {
        if leaf.leaf == number && found.is_none() {
            found = Some(*leaf);
        }
        Ok(())
    });
    looked.ok().and(found)
}
