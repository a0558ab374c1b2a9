//! Doubles for this crate's tests: a machine's frames, a guest whose tables are one frame, and
//! random numbers.

use oxen_mm::memmap::{FirmwareKind, FirmwareRange, MemoryMap};
use oxen_mm::{AllocOptions, FrameTable, Phys};
use oxen_types::{DomainId, Mfn};
use std::boxed::Box;

use crate::shadow::cache::ShadowedGuest;

/// The guest.
pub(crate) const OWNER: DomainId = DomainId(5);

/// A machine of `count` frames, all of them RAM.
pub(crate) fn frames(count: u64) -> &'static FrameTable {
    let ram = FirmwareRange {
        start: 0,
        len: count << 12,
        kind: FirmwareKind::Ram,
    };
    let mut map = MemoryMap::new(core::iter::once(ram));
    let table = FrameTable::new(Phys::arena(count), &mut map, &[]);
    Box::leak(Box::new(table.expect("memory for the frame table")))
}

/// 2^order zeroed frames of the guest.
pub(crate) fn zeroed(frames: &FrameTable, order: u32) -> Mfn {
    let zeroed = AllocOptions {
        zeroed: true,
        ..AllocOptions::default()
    };
    frames
        .alloc_own(order, OWNER, zeroed)
        .expect("frames of the guest")
}

/// A guest all of whose tables are one frame.
pub(crate) struct Flat(pub(crate) Mfn);

impl ShadowedGuest for Flat {
    fn frame(&self, _: u64) -> Option<Mfn> {
        Some(self.0)
    }
    fn flush(&self) {}
}

/// Random numbers from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
