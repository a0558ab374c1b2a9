//! From what a walk of the guest's tables found to the shadows on the way.

use arrayvec::ArrayVec;
use oxen_mm::pt::pages_at;
use oxen_types::paging::PagingMode;

use super::key::{Entries, Key, Rights};
use crate::bits::EFER_NX;
use crate::shadow::fault::{Fill, control_bits};
use crate::walk::Paging;

/// A shadow on the way to a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub(super) key: Key,
    /// The guest's entry that leads to the shadow's table.
    pub(super) entry: u64,
}

/// The shadows from below the root to the one that holds a page.
pub(super) struct Path {
    pub(super) hops: ArrayVec<Hop, 5>,
    /// The guest's own entry of the page; 0 if the last shadow is not of a table of the guest's.
    pub(super) entry: u64,
}

const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const DIRTY: u64 = 1 << 6;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The key of the root for a guest in long mode; `None` for others, whose root is no table of
/// theirs.
pub(super) fn root(paging: &Paging) -> Option<Key> {
    let long = paging.mode() == PagingMode::Long;
    long.then(|| top(control_bits(paging), paging.cr3))
}

/// The root of a guest in long mode with these control bits.
pub(super) fn top(control: u16, cr3: u64) -> Key {
    Key::new(
        Entries::Long,
        control,
        (cr3 & ADDRESS) >> 12,
        4,
        Rights::ALL,
    )
}

/// A walk, and what of the registers counts for its path.
struct Walk<'a> {
    fill: &'a Fill,
    mode: PagingMode,
    control: u16,
    no_execute: bool,
    cr3: u64,
}

/// The shadows on the way to a page. `large`: an entry of 2 MiB may hold it.
pub(super) fn path(paging: &Paging, fill: &Fill, large: bool) -> Path {
    let walk = Walk {
        fill,
        mode: paging.mode(),
        control: control_bits(paging),
        no_execute: paging.efer & EFER_NX != 0,
        cr3: paging.cr3,
    };
    walk.path(large)
}

impl Walk<'_> {
    fn path(&self, large: bool) -> Path {
        let mut hops = ArrayVec::new();
        let (level, rights) = self.guest_tables(&mut hops);
        let own = self.fill.entries().last().copied().unwrap_or(0);
        let last = if large && self.fill.page.large { 2 } else { 1 };
        let mut entry = own;
        // Pieces of memory: of the guest's larger page, with what that allows, or of all memory.
        let rights = match self.mode {
            PagingMode::Off => rights,
            _ => Rights {
                write: rights.write && own & (WRITE | DIRTY) == WRITE | DIRTY,
                user: rights.user && own & USER != 0,
                exec: rights.exec && (!self.no_execute || own & NX == 0),
                global: self.fill.global,
            },
        };
        let mut level = level;
        while level > last {
            level -= 1;
            let gfn = self.fill.gfn.raw() & !(pages_at(u32::from(level) + 1) - 1);
            let key = Key::new(Entries::Direct, self.control, gfn, level, rights);
            let _ = hops.try_push(Hop { key, entry });
            entry = 0;
        }
        Path { hops, entry }
    }

    /// Adds the guest's own tables below the root. Returns the level of the guest's page, and the
    /// rights of its table.
    fn guest_tables(&self, hops: &mut ArrayVec<Hop, 5>) -> (u8, Rights) {
        let mut rights = Rights::ALL;
        let entries = self.fill.entries();
        let (above, _) = entries.split_at(entries.len().saturating_sub(1));
        let mut level = match self.mode {
            PagingMode::Long => 4,
            PagingMode::Off | PagingMode::Pae => 3,
            PagingMode::Bits32 => {
                let mut key = self.table(self.cr3 >> 12 & 0xf_ffff, 2, rights);
                key.part = (self.fill.linear >> 18 & 3) as u8;
                let _ = hops.try_push(Hop { key, entry: 0 });
                2
            }
        };
        for entry in above {
            // The top entries of PAE have no rights.
            if level < 3 || self.mode == PagingMode::Long {
                rights.write &= entry & WRITE != 0;
                rights.user &= entry & USER != 0;
                rights.exec &= !self.no_execute || entry & NX == 0;
            }
            level -= 1;
            let address = match self.mode {
                PagingMode::Bits32 => entry & 0xffff_f000,
                _ => entry & ADDRESS,
            };
            let mut key = self.table(address >> 12, level, rights);
            if self.mode == PagingMode::Bits32 {
                key.part = (self.fill.linear >> 9 & 1) as u8;
            }
            let _ = hops.try_push(Hop { key, entry: *entry });
        }
        (level, rights)
    }

    /// The key of a table of the guest's.
    fn table(&self, gfn: u64, level: u8, rights: Rights) -> Key {
        let entries = match self.mode {
            PagingMode::Off => Entries::Direct,
            PagingMode::Bits32 => Entries::Short,
            PagingMode::Pae | PagingMode::Long => Entries::Long,
        };
        Key::new(entries, self.control, gfn, level, rights)
    }
}
