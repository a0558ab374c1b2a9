//! From what a walk of the guest's tables found to the shadows on the way.

use arrayvec::ArrayVec;

use super::key::{Entries, Key, Rights};
use super::{Hop, Page, Path};
use crate::pt::pages_at;

/// The guest's paging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tables {
    /// None: 4 GiB of memory as they are.
    None,
    Short,
    /// Three levels; the four top entries have no rights.
    Pae,
    Long,
}

/// What a walk found.
#[derive(Clone, Copy, Debug)]
pub struct Walked<'a> {
    pub tables: Tables,
    /// Bits of control registers that decide how entries are read.
    pub mode: u16,
    pub no_execute: bool,
    pub cr3: u64,
    /// From the root down, with accessed and dirty bits set; the last is the page's own.
    pub entries: &'a [u64],
    /// The guest's page's size, as a power of two.
    pub shift: u32,
    /// Linear address / 4096.
    pub linear: u64,
    pub page: Page,
}

const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const DIRTY: u64 = 1 << 6;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The root of a guest in long mode.
pub fn top(mode: u16, cr3: u64) -> Key {
    key(Tables::Long, mode, (cr3 & ADDRESS) >> 12, 4, Rights::ALL)
}

fn key(tables: Tables, mode: u16, gfn: u64, level: u8, rights: Rights) -> Key {
    Key {
        gfn,
        level,
        part: 0,
        entries: match tables {
            Tables::None => Entries::Direct,
            Tables::Short => Entries::Short,
            Tables::Pae | Tables::Long => Entries::Long,
        },
        rights,
        mode,
    }
}

impl Walked<'_> {
    /// `large`: the page may be an entry of 2 MiB.
    pub fn path(&self, large: bool) -> Path {
        let mut hops = ArrayVec::new();
        let (level, rights) = self.guest_tables(&mut hops);
        let own = self.entries.last().copied().unwrap_or(0);
        let last = if large && self.page.large { 2 } else { 1 };
        let mut entry = own;
        // Pieces of memory: of the guest's larger page, with what that allows, or of all memory.
        let rights = match self.tables {
            Tables::None => rights,
            _ => Rights {
                write: rights.write && own & (WRITE | DIRTY) == WRITE | DIRTY,
                user: rights.user && own & USER != 0,
                exec: rights.exec && (!self.no_execute || own & NX == 0),
                global: self.page.global,
            },
        };
        let mut level = level;
        while level > last {
            level -= 1;
            let gfn = self.page.gfn & !(pages_at(u32::from(level) + 1) - 1);
            let key = key(Tables::None, self.mode, gfn, level, rights);
            let _ = hops.try_push(Hop { key, entry });
            entry = 0;
        }
        Path {
            linear: self.linear,
            hops,
            entry,
            page: self.page,
        }
    }

    /// The guest's own tables below the root; the level of the guest's page, and the rights of its table.
    fn guest_tables(&self, hops: &mut ArrayVec<Hop, 5>) -> (u8, Rights) {
        let mut rights = Rights::ALL;
        let (above, _) = self.entries.split_at(self.entries.len().saturating_sub(1));
        let mut level = match self.tables {
            Tables::Long => 4,
            Tables::None | Tables::Pae => 3,
            Tables::Short => {
                let mut key = key(self.tables, self.mode, self.cr3 >> 12 & 0xf_ffff, 2, rights);
                key.part = (self.linear >> 18 & 3) as u8;
                let _ = hops.try_push(Hop { key, entry: 0 });
                2
            }
        };
        for entry in above {
            // The top entries of PAE.
            if level < 3 || self.tables == Tables::Long {
                rights.write &= entry & WRITE != 0;
                rights.user &= entry & USER != 0;
                rights.exec &= !self.no_execute || entry & NX == 0;
            }
            level -= 1;
            let address = match self.tables {
                Tables::Short => entry & 0xffff_f000,
                _ => entry & ADDRESS,
            };
            let mut key = key(self.tables, self.mode, address >> 12, level, rights);
            if self.tables == Tables::Short {
                key.part = (self.linear >> 9 & 1) as u8;
            }
            let _ = hops.try_push(Hop { key, entry: *entry });
        }
        (level, rights)
    }
}
