//! A vcpu's shadow: the page tables that the CPU uses for a guest without nested paging.
//!
//! It is a larger TLB, and follows a TLB's rules (APM vol. 2, 5.5; SDM vol. 3, 4.10): entries are made on
//! demand, by faults; the guest's tables may change without our knowing, until the guest flushes. What a
//! flush owes is done at once in bounded time, because nothing is walked: the root's entries are cleared, and
//! all tables below are free for new use. When the tables run out, everything is flushed: a guest that
//! spreads its pages thinly slows itself only.
//!
//! Each entry of the root holds either global pages alone, which outlast a change of address space, or is
//! flushed then. Tables come from two arenas accordingly.
//!
//! The shadow of a vcpu is changed only by the CPU that has it loaded, between two entries of the guest. So
//! tables may be used again at once; the vcpu's own TLB is flushed at its next entry, by the caller.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use oxen_types::{DomainId, Maddr, Mfn};

use crate::frames::{AllocOptions, FrameTable};
use crate::phys::Table;
use crate::pt::{self, Attrs, NoMemory, PageTable, TableAccess, TablePool, Walk, pages_at};

/// A page as the guest may use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The frame of the 4 KiB page that was asked for.
    pub mfn: Mfn,
    /// 1 for 4 KiB, 2 for 2 MiB.
    pub level: u32,
    pub user: bool,
    pub write: bool,
    pub exec: bool,
    pub cached: bool,
    pub global: bool,
}

/// What the CPU's CR3 holds, by its mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roots {
    /// Four levels.
    pub long: Maddr,
    /// Three levels, below 4 GiB.
    pub pae: Maddr,
}

pub struct Shadow {
    frames: &'static FrameTable,
    tables: PageTable<pt::Shadow>,
    global: Arena,
    local: Arena,
    pae: Mfn,
    /// Of each entry of the root.
    slots: [Slot; SLOTS],
}

/// What is known of the pages under one entry of the root.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// One is not global.
    local: bool,
    /// The level whose entries span the guest's largest page: INVLPG of any part of it forgets all of it.
    level: u8,
    /// It takes two of them: 4 MiB.
    pair: bool,
}

/// Fewer do not hold one page.
const FEWEST: usize = 8;
const SLOTS: usize = 512;

/// The root's entry for a linear page.
fn slot_of(linear: u64) -> usize {
    (linear / pages_at(4)) as usize % SLOTS
}

impl Shadow {
    /// An empty shadow that uses at most so many pages for tables. `None` if there is no memory for it.
    pub fn new(frames: &'static FrameTable, owner: DomainId, most: usize) -> Option<Self> {
        let half = most.max(FEWEST) / 2;
        let mut global = Arena::new(frames, owner, half);
        let local = Arena::new(frames, owner, half);
        let low = AllocOptions {
            zeroed: true,
            below_4g: true,
            node: None,
        };
        // An arena gives its pages back by itself.
        let tables = PageTable::new(&mut global)?;
        let pae = frames.alloc_own(0, owner, low)?;
        Some(Self {
            frames,
            tables,
            global,
            local,
            pae,
            slots: [Slot::default(); SLOTS],
        })
    }

    pub fn roots(&self) -> Roots {
        Roots {
            long: self.tables.root(),
            pae: self.pae.base(),
        }
    }

    /// Pages that it takes up now.
    pub fn pages(&self) -> usize {
        self.global.pages.len() + self.local.pages.len() + 1
    }

    /// What the CPU finds for a linear page (address / 4096).
    pub fn lookup(&self, linear: u64) -> Option<Page> {
        let Walk::Leaf(leaf) = self.tables.walk(&self.global, linear) else {
            return None;
        };
        Some(Page {
            mfn: leaf.mfn,
            level: leaf.level,
            user: leaf.attrs.tag & pt::Shadow::USER != 0,
            write: leaf.attrs.write,
            exec: leaf.attrs.exec,
            cached: leaf.attrs.cached,
            global: leaf.attrs.tag & pt::Shadow::GLOBAL != 0,
        })
    }

    /// Puts a page where a walk of the guest's tables found it, in the place of what is there. `shift` is
    /// the size of the guest's own page, as a power of two.
    /// True if the tables ran out, so that everything else is forgotten and the CPU's TLB must be flushed.
    pub fn fill(&mut self, linear: u64, page: Page, shift: u32) -> bool {
        let ran_out = self.try_fill(linear, page, shift).is_err();
        if ran_out {
            self.flush();
            // Three tables are there after a flush, if the machine has them: else the guest faults again.
            let _ = self.try_fill(linear, page, shift);
        }
        self.link_pae();
        ran_out
    }

    fn try_fill(&mut self, linear: u64, page: Page, shift: u32) -> Result<(), NoMemory> {
        let Some(slot) = self.slots.get_mut(slot_of(linear)) else {
            return Ok(());
        };
        if !page.global && !slot.local {
            self.tables.cut(&self.global, linear, 4);
            slot.local = true;
        }
        let level = match shift {
            ..21 => 1,
            21..30 => 2,
            _ => 3,
        };
        slot.level = slot.level.max(level);
        slot.pair |= shift == 22;
        let arena = if slot.local {
            &mut self.local
        } else {
            &mut self.global
        };
        let flag = |on, bit| if on { bit } else { 0 };
        let attrs = Attrs {
            write: page.write,
            exec: page.exec,
            cached: page.cached,
            tag: flag(page.user, pt::Shadow::USER) | flag(page.global, pt::Shadow::GLOBAL),
        };
        if page.level > 1 && fill_large(&self.tables, arena, linear, page, attrs)? {
            return Ok(());
        }
        self.tables
            .replace(arena, linear, page.mfn, attrs)
            .map(drop)
    }

    /// INVLPG: forgets the page, global or not, and all of a large one.
    pub fn invalidate(&mut self, linear: u64) {
        let Some(slot) = self.slots.get(slot_of(linear)) else {
            return;
        };
        let level = u32::from(slot.level.max(1));
        self.tables.cut(&self.global, linear, level);
        if slot.pair && level == 2 {
            self.tables.cut(&self.global, linear ^ pages_at(2), level);
        }
        self.link_pae();
    }

    /// Another address space: forgets what is not global.
    pub fn flush_local(&mut self) {
        for (n, slot) in (0..).zip(&self.slots) {
            if slot.local {
                self.tables.cut(&self.global, n * pages_at(4), 4);
            }
        }
        self.local.used = 0;
        self.link_pae();
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        for n in 0..SLOTS as u64 {
            self.tables.cut(&self.global, n * pages_at(4), 4);
        }
        self.slots = [Slot::default(); SLOTS];
        self.local.used = 0;
        // The root stays.
        self.global.used = 1;
        self.link_pae();
    }

    /// The three-level root has its own four entries, without rights (APM vol. 2, 5.2.3).
    fn link_pae(&self) {
        const PRESENT: u64 = 1;
        let entries = self.frames.phys().table(self.pae);
        for (entry, table) in entries.iter().zip(self.tables.first_four(&self.global)) {
            let value = table.map_or(0, |table| table.base().raw() | PRESENT);
            entry.store(value, Ordering::Release);
        }
    }
}

/// Puts a large page where no small ones are. False where they are: one of them will do.
fn fill_large(
    tables: &PageTable<pt::Shadow>,
    arena: &mut Arena,
    linear: u64,
    page: Page,
    attrs: Attrs,
) -> Result<bool, NoMemory> {
    let inside = pages_at(page.level) - 1;
    match tables.walk(arena, linear) {
        Walk::Absent { level } if level < page.level => return Ok(false),
        Walk::Leaf(leaf) if leaf.level < page.level => return Ok(false),
        Walk::Leaf(_) => drop(tables.unmap(arena, linear, page.level)?),
        Walk::Absent { .. } => {}
    }
    let (at, mfn) = (linear & !inside, Mfn::new(page.mfn.raw() & !inside));
    match tables.map(arena, at, mfn, page.level, attrs) {
        Ok(()) => Ok(true),
        Err(pt::MapError::NoMemory) => Err(NoMemory),
        Err(pt::MapError::Occupied) => Ok(false),
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.frames.free_own(self.pae, 1);
    }
}

/// Pages for tables, used in turn and taken back all at once.
struct Arena {
    frames: &'static FrameTable,
    owner: DomainId,
    pages: Vec<Mfn>,
    /// Those before it are in use.
    used: usize,
    most: usize,
}

impl Arena {
    fn new(frames: &'static FrameTable, owner: DomainId, most: usize) -> Self {
        Self {
            frames,
            owner,
            pages: Vec::new(),
            used: 0,
            most,
        }
    }
}

impl TableAccess for Arena {
    fn table(&self, mfn: Mfn) -> &'static Table {
        self.frames.phys().table(mfn)
    }
}

impl TablePool for Arena {
    fn alloc(&mut self) -> Option<Mfn> {
        if self.used == self.pages.len() {
            if self.used >= self.most || self.pages.try_reserve(1).is_err() {
                return None;
            }
            let page = self
                .frames
                .alloc_own(0, self.owner, AllocOptions::default())?;
            self.pages.push(page);
        }
        let page = *self.pages.get(self.used)?;
        self.used += 1;
        self.frames.phys().zero(page, 1);
        Some(page)
    }

    /// Empty tables wait for the next flush: then they are free with all the others.
    fn free(&mut self, _: Mfn) {}
}

impl Drop for Arena {
    fn drop(&mut self) {
        for page in self.pages.drain(..) {
            self.frames.free_own(page, 1);
        }
    }
}
