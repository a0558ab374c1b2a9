//! The name of a shadow: a guest's frame, and the way it is read.

use core::sync::atomic::Ordering;

use oxen_mm::phys::Table;
use oxen_mm::pt::pages_at;

/// How a guest's table is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entries {
    /// Not at all. The shadow is of a piece of memory: part of a guest's larger page, or of a guest
    /// without paging. All of it follows from the key.
    Direct,
    /// 512 entries of 8 bytes.
    Long,
    /// 1024 entries of 4 bytes, each worth two of the shadow's at level 2: 4 MiB.
    Short,
}

/// The rights that all tables above leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rights {
    pub(super) write: bool,
    pub(super) user: bool,
    pub(super) exec: bool,
    /// The guest's page is global. Set for a piece of memory only.
    pub(super) global: bool,
}

impl Rights {
    pub(super) const ALL: Self = Self {
        write: true,
        user: true,
        exec: true,
        global: false,
    };
}

/// Two walks that come by the same key find the same table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// The guest's table, or the first page of the piece.
    pub(super) gfn: u64,
    /// 1 to 4: the span of an entry in the shadow.
    pub(super) level: u8,
    /// Which part of a table of short entries.
    pub(super) part: u8,
    pub(super) entries: Entries,
    pub(super) rights: Rights,
    /// Bits of control registers that decide how entries are read.
    pub(super) control: u16,
}

impl Key {
    /// The first part of a table, or all of it.
    pub(super) const fn new(
        entries: Entries,
        control: u16,
        gfn: u64,
        level: u8,
        rights: Rights,
    ) -> Self {
        Self {
            gfn,
            level,
            part: 0,
            entries,
            rights,
            control,
        }
    }

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

    /// The first page that a leaf of the shadow holds, by the guest's entry that it was made from;
    /// `None` if that entry does not say.
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
