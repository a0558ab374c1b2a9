//! Sets of CPUs (or nodes) in the caller's memory (xen/xen.h, `xenctl_bitmap`).

use guest_pv_abi::BitmapHandle;
use oxen_types::{CpuMask, Errno, MAX_CPUS, Result};

use crate::hypercall::{Call, List};

/// No caller's set is longer than this.
const MOST_BITS: u32 = 1 << 16;
/// The rest of a set that is longer than ours, in parts.
const ZEROS: [u8; 256] = [0; 256];

/// The members that can be CPUs of ours; those beyond are left out.
pub(super) fn read(call: &Call<'_>, from: &BitmapHandle) -> Result<CpuMask> {
    let bits = from.nr_bits.min(MAX_CPUS as u32);
    let mut words = CpuMask::EMPTY.words();
    let len = bits.div_ceil(8) as usize;
    let bytes = bytemuck::bytes_of_mut(&mut words).get_mut(..len);
    let list: List<'_, u8> = call.list(from.bitmap);
    list.get_all(0, bytes.ok_or(Errno::Inval)?)?;
    Ok(CpuMask::from_words(words).and(CpuMask::below(bits)))
}

/// Fills the caller's set: members that it has no room for are left out, the rest of it is cleared.
pub(super) fn write(call: &Call<'_>, to: &BitmapHandle, members: CpuMask) -> Result<()> {
    if to.nr_bits > MOST_BITS {
        return Err(Errno::Inval);
    }
    let len = to.nr_bits.div_ceil(8) as usize;
    let words = members.and(CpuMask::below(to.nr_bits)).words();
    let members = bytemuck::bytes_of(&words);
    let members = members.get(..len).unwrap_or(members);
    let list: List<'_, u8> = call.list(to.bitmap);
    list.set_all(0, members)?;
    let mut done = members.len();
    while done < len {
        let part = ZEROS.get(..len - done).unwrap_or(&ZEROS);
        list.set_all(done as u64, part)?;
        done += part.len();
    }
    Ok(())
}
