//! The machine's memory as the firmware describes it, less what is taken already.
//!
//! The lists are on the boot heap, and as long as the firmware's map is.

use alloc::vec::Vec;

use oxen_types::{Mfn, PAGE_SIZE};

use crate::phys::Phys;
use crate::pt::{TableAccess, TablePool};

const PAGE: u64 = PAGE_SIZE as u64;
const LOW_MIB: u64 = 1 << 20;

/// The kind of a range in the firmware's memory map: RAM or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirmwareKind {
    /// Memory that the hypervisor may use.
    Ram,
    /// Anything else; it wins where ranges overlap.
    Other,
}

/// One entry of the firmware's memory map, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareRange {
    /// Address of the first byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// RAM or not.
    pub kind: FirmwareKind,
}

/// Disjoint ranges of frame numbers in ascending order.
#[derive(Clone)]
pub struct Ranges {
    list: Vec<(u64, u64)>,
}

impl Ranges {
    const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Each range as its first frame and the frame after its last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.list.iter().copied()
    }

    /// Frames in all ranges.
    pub fn frames(&self) -> u64 {
        self.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether a frame lies in one of the ranges.
    pub fn contains(&self, mfn: Mfn) -> bool {
        self.iter()
            .any(|(start, end)| (start..end).contains(&mfn.raw()))
    }

    fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        let mut at = 0;
        while let Some(&(s, e)) = self.list.get(at) {
            if e < start {
                at += 1;
            } else if s > end {
                break;
            } else {
                start = start.min(s);
                end = end.max(e);
                self.list.remove(at);
            }
        }
        self.list.insert(at, (start, end));
    }

    fn remove(&mut self, start: u64, end: u64) {
        let mut at = 0;
        while let Some(&(s, e)) = self.list.get(at) {
            if e <= start || s >= end || start >= end {
                at += 1;
                continue;
            }
            self.list.remove(at);
            if s < start {
                self.list.insert(at, (s, start));
                at += 1;
            }
            if end < e {
                self.list.insert(at, (end, e));
                at += 1;
            }
        }
    }
}

/// The ranges of RAM, and those of them that are still free to use.
pub struct MemoryMap {
    ram: Ranges,
    usable: Ranges,
}

impl MemoryMap {
    /// RAM counts in whole frames only; other kinds win over RAM where they overlap. The first MiB
    /// is RAM but never handed out: the firmware, dom0 and the start of other CPUs need it by
    /// address.
    pub fn new(firmware: impl Iterator<Item = FirmwareRange> + Clone) -> Self {
        let mut ram = Ranges::new();
        for range in firmware.clone().filter(|r| r.kind == FirmwareKind::Ram) {
            let end = range.start.saturating_add(range.len) / PAGE;
            ram.add(range.start.div_ceil(PAGE), end);
        }
        for range in firmware.filter(|r| r.kind == FirmwareKind::Other) {
            let end = range.start.saturating_add(range.len).div_ceil(PAGE);
            ram.remove(range.start / PAGE, end);
        }
        ram.remove(oxen_types::layout::DIRECT_MAP_LEN / PAGE, u64::MAX);
        let mut usable = ram.clone();
        usable.remove(0, LOW_MIB / PAGE);
        Self { ram, usable }
    }

    /// Keeps what is in use already (our image, modules, boot information) from being handed out.
    pub fn reserve(&mut self, start: u64, len: u64) {
        self.usable
            .remove(start / PAGE, start.saturating_add(len).div_ceil(PAGE));
    }

    /// Takes back a reservation: its frames that are RAM may be handed out again. Nothing may have
    /// been carved out of them since, and what else lies in them must be reserved anew.
    pub fn give_back(&mut self, start: u64, len: u64) {
        let (first, end) = (
            (start / PAGE).max(LOW_MIB / PAGE),
            start.saturating_add(len).div_ceil(PAGE),
        );
        for (ram_start, ram_end) in self.ram.clone().iter() {
            self.usable.add(first.max(ram_start), end.min(ram_end));
        }
    }

    /// Takes `frames` frames below `limit` (an address) for good, from as high as there are.
    pub fn carve(&mut self, frames: u64, align: u64, limit: u64) -> Option<Mfn> {
        let limit = limit / PAGE;
        let start = self.usable.iter().rev().find_map(|(start, end)| {
            let at = end.min(limit).checked_sub(frames)?;
            let at = at - at % align;
            (at >= start).then_some(at)
        })?;
        self.usable.remove(start, start + frames);
        Some(Mfn::new(start))
    }

    /// All RAM, in use or not.
    pub fn ram(&self) -> &Ranges {
        &self.ram
    }

    /// The RAM that nobody has yet.
    pub fn usable(&self) -> &Ranges {
        &self.usable
    }

    /// One more than the highest RAM frame's number.
    pub fn end(&self) -> Mfn {
        Mfn::new(self.ram.iter().next_back().map_or(0, |(_, end)| end))
    }
}

/// Page-table pages before there is a frame table: carved off the map, never given back.
pub(crate) struct BootPool<'a> {
    pub(crate) map: &'a mut MemoryMap,
    pub(crate) phys: Phys,
}

impl TableAccess for BootPool<'_> {
    fn table(&self, mfn: Mfn) -> &'static crate::phys::Table {
        self.phys.table(mfn)
    }
}

impl TablePool for BootPool<'_> {
    fn alloc(&mut self) -> Option<Mfn> {
        let limit = oxen_types::layout::BOOT_MAPPED.min(self.phys.frames() * PAGE);
        let mfn = self.map.carve(1, 1, limit)?;
        self.phys.zero(mfn, 1);
        Some(mfn)
    }

    fn free(&mut self, _table: Mfn) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, len: u64, kind: FirmwareKind) -> FirmwareRange {
        FirmwareRange { start, len, kind }
    }

    #[test]
    fn ram_is_whole_frames_and_other_kinds_win() {
        use FirmwareKind::*;
        let fw = [
            range(0, 0x9fc00, Ram),
            range(0x9fc00, 0x400, Other),
            range(0x10_0000, 0x3ff0_0000, Ram),
            range(0x3fff_0800, 0x1000, Other),
            range(1 << 32, 1 << 30, Ram),
        ];
        let mut map = MemoryMap::new(fw.into_iter());
        let ram: Vec<_> = map.ram().iter().collect();
        let expected = [
            (0, 0x9f),
            (0x100, 0x3fff0),
            (0x3fff2, 0x40000),
            (0x100000, 0x140000),
        ];
        assert_eq!(ram, expected);
        assert_eq!(map.end(), Mfn::new(0x140000));
        map.reserve(0x20_0001, 0x1000);
        assert!(!map.usable().contains(Mfn::new(0x50)));
        assert!(!map.usable().contains(Mfn::new(0x200)) && !map.usable().contains(Mfn::new(0x201)));
        assert!(map.usable().contains(Mfn::new(0x1ff)) && map.usable().contains(Mfn::new(0x202)));
        assert_eq!(map.carve(16, 16, 1 << 32), Some(Mfn::new(0x3ffe0)));
        assert!(!map.usable().contains(Mfn::new(0x3ffe0)));
        assert_eq!(map.carve(1, 1, u64::MAX), Some(Mfn::new(0x13ffff)));
        assert_eq!(map.carve(1 << 30, 1, u64::MAX), None);
    }

    #[test]
    fn a_reservation_that_is_given_back_is_usable_ram_and_no_more() {
        let ram = [
            range(0, 0x9_f000, FirmwareKind::Ram),
            range(1 << 20, 8 << 20, FirmwareKind::Ram),
        ];
        let mut map = MemoryMap::new(ram.into_iter());
        let before: Vec<_> = map.usable().iter().collect();
        map.reserve(0x20_0800, 0x1000);
        assert!(!map.usable().contains(Mfn::new(0x201)));
        map.give_back(0x20_0800, 0x1000);
        // The first MiB and what is not RAM stay out.
        map.give_back(0, 1 << 32);
        assert_eq!(map.usable().iter().collect::<Vec<_>>(), before);
    }

    #[test]
    fn a_map_of_any_length_is_kept_whole() {
        let ram = (0..4000).map(|n| range(n << 21, 1 << 20, FirmwareKind::Ram));
        let mut map = MemoryMap::new(ram);
        assert_eq!(map.ram().iter().count(), 4000);
        assert_eq!(map.ram().frames(), 4000 * 256);
        // A reservation in the midst of a range cuts it in two, and both parts stay usable.
        map.reserve(100 << 21 | 0x8_0000, 0x1000);
        let cut: Vec<_> = map.usable().iter().skip(99).take(2).collect();
        assert_eq!(
            cut,
            [
                (100 << 9, (100 << 9) + 0x80),
                ((100 << 9) + 0x81, (100 << 9) + 0x100)
            ]
        );
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_set(ops in prop::collection::vec((any::<bool>(), 0u64..200, 0u64..40), 1..60)) {
            let mut ranges = Ranges::new();
            let mut model = [false; 256];
            for (add, start, len) in ops {
                if add { ranges.add(start, start + len) } else { ranges.remove(start, start + len) }
                model[start as usize..(start + len) as usize].fill(add);
                for n in 0..256 {
                    prop_assert_eq!(ranges.contains(Mfn::new(n)), model[n as usize]);
                }
                let list: Vec<_> = ranges.iter().collect();
                prop_assert!(list.windows(2).all(|w| w[0].1 < w[1].0));
            }
        }
    }
}
