//! Views of the shadows as the CPU would find them, for tests.

use core::sync::atomic::{AtomicU64, Ordering};

use oxen_mm::pt::{Attrs, Decoded, Format, pages_at};
use oxen_types::Mfn;

use super::pool::Pair;
use super::{Cache, Fmt, View, slot_at};

impl Cache {
    /// Looks up a linear page (address / 4096) as the CPU does: its frame and attributes.
    pub(crate) fn lookup(&self, view: &View, linear: u64) -> Option<(Mfn, Attrs)> {
        let quarter = if view.long { 0 } else { slot_at(linear, 3) % 4 };
        let mut at = *view.roots.get(quarter)?;
        loop {
            let level = self.pool.info(at)?.key.level;
            let entry = self.pool.entry(at, slot_at(linear, level))?;
            let entry = entry.load(Ordering::Acquire);
            let level = u32::from(level);
            match Fmt::decode(entry, level) {
                Decoded::Absent => return None,
                Decoded::Table(next) => at = self.pool.number(next)?,
                Decoded::Leaf(first, attrs) => {
                    let mfn = Mfn::new(first.raw() + linear % pages_at(level));
                    return Some((mfn, attrs));
                }
            }
        }
    }

    /// Whether an entry of some shadow lets the CPU write the frame.
    pub(crate) fn is_writable(&self, mfn: Mfn) -> bool {
        self.leaves().any(|(first, level, attrs)| {
            let all = first.raw()..first.raw() + pages_at(level);
            attrs.write && all.contains(&mfn.raw())
        })
    }

    /// Whatever the shadows lead to: frame, level and rights.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (Mfn, u32, Attrs)> {
        let pairs = 0..(self.pool.pages() / 2) as Pair;
        let shadows = pairs.filter_map(|pair| {
            let level = u32::from(self.pool.info(pair)?.key.level);
            Some((level, self.pool.table(pair)?))
        });
        shadows.flat_map(|(level, table)| {
            let decode = move |entry: &AtomicU64| Fmt::decode(entry.load(Ordering::Acquire), level);
            table.iter().filter_map(move |entry| match decode(entry) {
                Decoded::Leaf(first, attrs) => Some((first, level, attrs)),
                _ => None,
            })
        })
    }
}
