//! The XSAVE record: XCR0 and the extended state in XSAVE's standard format.

use core::mem::offset_of;

use guest_pv_abi::{HVM_SAVE_CODE_XSAVE, HvmHwCpuXsave};
use oxen_types::{Errno, Result};

use super::{BadRecord, Record, SavedVcpu, Write};
use crate::fpu::{XCR0_SSE, XCR0_X87};

pub(super) const RECORD: Record = Record {
    code: HVM_SAVE_CODE_XSAVE,
    save,
    load,
};

/// The words before the area: a mask that no reader uses, XCR0, and each bit that XCR0 ever had.
const WORDS: usize = offset_of!(HvmHwCpuXsave, fpu_sse) / 8;

const _: () = assert!(
    WORDS == 3
        && offset_of!(HvmHwCpuXsave, xfeature_mask) == 0
        && offset_of!(HvmHwCpuXsave, xcr0) == 8
        && offset_of!(HvmHwCpuXsave, xcr0_accum) == 16
);

/// # Errors
/// `NoEnt` on a machine without XSAVE.
fn save(state: &SavedVcpu<'_>, write: Write<'_>) -> Result<()> {
    let fpu = state.backend.fpu();
    let layout = fpu.layout();
    let area = fpu.area().get(..layout.size);
    let area = area.filter(|_| layout.xcr0 != 0).ok_or(Errno::NoEnt)?;
    let words: [u64; WORDS] = [layout.xcr0, fpu.xcr0(), fpu.accumulated()];
    write(bytemuck::bytes_of(&words))?;
    write(area)
}

fn load(state: &mut SavedVcpu<'_>, record: &[u8]) -> Result<()> {
    let (words, area) = record.split_at_checked(WORDS * 8).ok_or(BadRecord)?;
    let [_, xcr0, accumulated] = bytemuck::pod_read_unaligned::<[u64; WORDS]>(words);
    // A guest without XSAVE has x87 and SSE state too.
    if (xcr0 | accumulated) & !(state.xcr0 | XCR0_X87 | XCR0_SSE) != 0 {
        return Err(BadRecord.into());
    }
    let fpu = state.backend.fpu_mut();
    let done = fpu.set_area(area, xcr0, accumulated);
    Ok(done.map_err(|_| BadRecord)?)
}
