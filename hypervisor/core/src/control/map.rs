//! Sets of CPUs (or nodes) in the caller's memory (xen/xen.h, `xenctl_bitmap`).

use alloc::vec;

use guest_pv_abi::BitmapHandle;
use oxen_types::{Errno, Result};

use crate::hypercall::Call;

/// CPUs that a set has room for here: what the scheduler's affinity knows.
pub const BITS: u32 = 64;
/// No caller's set is longer than this.
const MOST_BITS: u32 = 1 << 16;

/// The first 64 members; those beyond are not ours.
pub fn read(call: &Call<'_>, from: &BitmapHandle) -> Result<u64> {
    let bits = from.nr_bits.min(BITS);
    let mut bytes = [0; 8];
    let len = bits.div_ceil(8) as usize;
    call.read_bytes(from.bitmap, bytes.get_mut(..len).ok_or(Errno::Inval)?)?;
    Ok(u64::from_le_bytes(bytes) & below(bits))
}

/// Fills the caller's set: members that it has no room for are left out, the rest of it is cleared.
pub fn write(call: &Call<'_>, to: &BitmapHandle, members: u64) -> Result<()> {
    if to.nr_bits > MOST_BITS {
        return Err(Errno::Inval);
    }
    let mut bytes = vec![0; to.nr_bits.div_ceil(8) as usize];
    let members = members & below(to.nr_bits.min(BITS));
    for (byte, part) in bytes.iter_mut().zip(members.to_le_bytes()) {
        *byte = part;
    }
    call.write_bytes(to.bitmap, &bytes)
}

/// All members below `count`.
pub fn below(count: u32) -> u64 {
    1u64.checked_shl(count)
        .map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}
