//! What a shadow is the shadow of: a guest's frame, and the way it is looked at.

use core::sync::atomic::Ordering;

use crate::phys::Table;
use crate::pt::pages_at;

/// How a guest's table is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entries {
    /// Not at all: the shadow is of a piece of memory, part of a guest's larger page or of a guest without
    /// paging. It follows from its key alone.
    Direct,
    /// 512 entries of 8 bytes.
    Long,
    /// 1024 entries of 4 bytes, each worth two of the shadow's at level 2: 4 MiB.
    Short,
}

/// The rights that all tables above leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    pub write: bool,
    pub user: bool,
    pub exec: bool,
    /// Of a piece of memory only.
    pub global: bool,
}

impl Rights {
    pub const ALL: Self = Self {
        write: true,
        user: true,
        exec: true,
        global: false,
    };
}

/// Two walks that come by the same key find the same table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The guest's table, or the first page of the piece.
    pub gfn: u64,
    /// 1 to 4: what an entry spans in the shadow.
    pub level: u8,
    /// Which part of a table of short entries.
    pub part: u8,
    pub entries: Entries,
    pub rights: Rights,
    /// Bits of control registers that decide how entries are read.
    pub mode: u16,
}

impl Key {
    /// The guest's entry behind one of the shadow's.
    pub(super) fn entry_of(&self, guest: &Table, slot: usize) -> u64 {
        match self.entries {
            Entries::Direct => 0,
            Entries::Long => guest[slot % 512].load(Ordering::Relaxed),
            Entries::Short => {
                let at = match self.level {
                    1 => usize::from(self.part) * 512 + slot,
                    _ => usize::from(self.part) * 256 + slot / 2,
                };
                guest[at / 2 % 512].load(Ordering::Relaxed) >> (at % 2 * 32) & 0xffff_ffff
            }
        }
    }

    /// The first page that a leaf of the shadow holds, by what it was made from; `None` if that does not tell.
    pub(super) fn page_of(&self, slot: usize, origin: u64) -> Option<u64> {
        const FRAME: u64 = (1 << 40) - 1;
        let span = pages_at(self.level.into());
        match (self.entries, self.level) {
            (Entries::Direct, _) => Some(self.gfn + slot as u64 * span),
            (Entries::Long, _) => Some(origin >> 12 & FRAME & !(span - 1)),
            (Entries::Short, 1) => Some(origin >> 12 & 0xf_ffff),
            // 4 MiB, with bits of the address elsewhere.
            (Entries::Short, _) => None,
        }
    }
}
