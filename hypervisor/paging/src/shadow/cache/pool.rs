//! The pages of a domain's shadows, in pairs: a shadow and the guest's entries that it was made
//! from, or a part of the reverse map. All of them are taken from free memory when the pool is
//! sized, so nothing that the guest does takes any. There are never fewer than a vcpu needs to get
//! on with.
//!
//! Pairs are used in the order of their numbers; to forget all is to start again with the first.
//! The frame of a shadow bears the number of its pair in the frame table.

use core::sync::atomic::AtomicU64;

use oxen_core::fallible::{Account, Paged};
use oxen_types::{DomainId, Errno, Mfn, Result};

use super::index::Links;
use super::key::Key;
use oxen_mm::FrameTable;
use oxen_mm::phys::Table;
use oxen_mm::pt::NoMemory;

/// A pair's number.
pub(super) type Pair = u32;
pub(super) const NONE: Pair = Pair::MAX;
/// Pages of a pair.
const PAIR: usize = 2;
/// Pairs that a pool can have: 256 MiB. More is of no use.
const MOST_PAIRS: usize = 1 << 15;

/// The bookkeeping of the shadow in a pair.
#[derive(Clone, Copy)]
pub(super) struct Info {
    pub(super) key: Key,
    /// The guest's table.
    pub(super) guest: Option<Mfn>,
    /// Entries that link to it, roots in use, and work under way.
    pub(super) refs: u32,
    /// Whether the shadow is in the list of those that nothing links to.
    pub(super) idle: bool,
    pub(super) before: Pair,
    pub(super) after: Pair,
    pub(super) links: Links,
    /// Entries outside of these are empty.
    pub(super) low: u16,
    pub(super) end: u16,
    /// How often the shadow got out of step while nothing linked to it.
    pub(super) strays: u8,
}

impl Info {
    /// A shadow without entries, that nothing links to yet.
    pub(super) fn new(key: Key, guest: Option<Mfn>) -> Self {
        Self {
            key,
            guest,
            refs: 0,
            idle: false,
            before: NONE,
            after: NONE,
            links: Links::NONE,
            low: 512,
            end: 0,
            strays: 0,
        }
    }
}

struct Slot {
    mfn: Mfn,
    /// The second page of the pair.
    origin: Mfn,
    info: Option<Info>,
    /// The next in the list of free pairs, or of those in limbo.
    next: Pair,
}

impl Slot {
    const EMPTY: Self = Self {
        mfn: Mfn::new(0),
        origin: Mfn::new(0),
        info: None,
        next: NONE,
    };
}

/// A list of pairs, through their slots.
#[derive(Clone, Copy)]
struct List {
    first: Pair,
    last: Pair,
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

pub(super) struct Pool {
    frames: &'static FrameTable,
    owner: DomainId,
    slots: Paged<Slot>,
    /// Slots that have pages.
    pairs: usize,
    /// Pairs from here on are not in use, whatever their slots say.
    next: usize,
    free: List,
    /// Free once the TLBs are flushed.
    limbo: List,
    /// Shadows without a link, oldest first.
    first: Pair,
    last: Pair,
}

impl Pool {
    /// A pool without pages.
    pub(super) fn new(frames: &'static FrameTable, owner: DomainId) -> Self {
        Self {
            frames,
            owner,
            slots: Paged::new(MOST_PAIRS),
            pairs: 0,
            next: 0,
            free: List::EMPTY,
            limbo: List::EMPTY,
            first: NONE,
            last: NONE,
        }
    }

    /// Pages that it has.
    pub(super) fn pages(&self) -> usize {
        self.pairs * PAIR
    }

    /// Takes pages from the machine, up to `budget` pairs. True if it has `pages` then.
    pub(super) fn grow(&mut self, pages: usize, budget: usize) -> Result<bool> {
        let most = (pages / PAIR).min(MOST_PAIRS);
        for _ in 0..budget {
            if self.pairs >= most {
                break;
            }
            self.add_pair()?;
        }
        Ok(self.pairs >= most)
    }

    fn add_pair(&mut self) -> Result<()> {
        let account = &Account::machine();
        self.slots.ensure(self.pairs, account, || Slot::EMPTY)?;
        let slot = self.slots.get_mut(self.pairs).ok_or(Errno::NoMem)?;
        let page = || self.frames.alloc_prepaid(self.owner).ok_or(Errno::NoMem);
        let mfn = page()?;
        let origin = page().inspect_err(|_| self.frames.free_own(mfn, 1))?;
        self.frames.set_note(mfn, self.pairs as u32);
        *slot = Slot {
            mfn,
            origin,
            ..Slot::EMPTY
        };
        self.pairs += 1;
        Ok(())
    }

    /// A zeroed pair that no TLB knows.
    pub(super) fn take(&mut self) -> core::result::Result<Pair, NoMemory> {
        let pair = match self.free.first {
            NONE => self.unused()?,
            pair => pair,
        };
        let slot = self.slots.get(pair as usize).ok_or(NoMemory)?;
        if self.free.first == pair {
            self.free.first = slot.next;
        }
        self.frames.phys().zero(slot.mfn, 1);
        self.frames.phys().zero(slot.origin, 1);
        Ok(pair)
    }

    fn unused(&mut self) -> core::result::Result<Pair, NoMemory> {
        if self.next >= self.pairs {
            return Err(NoMemory);
        }
        let slot = self.slots.get_mut(self.next).ok_or(NoMemory)?;
        slot.info = None;
        self.next += 1;
        Ok((self.next - 1) as Pair)
    }

    /// Free for new use after [`Pool::flushed`].
    pub(super) fn give(&mut self, pair: Pair) {
        let first = self.limbo.first;
        if let Some(slot) = self.slots.get_mut(pair as usize) {
            (slot.info, slot.next) = (None, first);
            self.limbo.first = pair;
            if first == NONE {
                self.limbo.last = pair;
            }
        }
    }

    pub(super) fn has_limbo(&self) -> bool {
        self.limbo.first != NONE
    }

    pub(super) fn flushed(&mut self) {
        let limbo = core::mem::replace(&mut self.limbo, List::EMPTY);
        if let Some(last) = self.slots.get_mut(limbo.last as usize) {
            last.next = self.free.first;
            self.free.first = limbo.first;
        }
    }

    /// All are free, no TLB knows them.
    pub(super) fn clear(&mut self) {
        (self.first, self.last) = (NONE, NONE);
        (self.limbo, self.free) = (List::EMPTY, List::EMPTY);
        self.next = 0;
    }

    /// After a clearing: of what exceeds `pages`, up to `budget` pairs go back to the machine. True
    /// if nothing is left of it.
    pub(super) fn shrink(&mut self, pages: usize, budget: usize) -> bool {
        let most = (pages / PAIR).max(self.next);
        let keep = most.max(self.pairs.saturating_sub(budget));
        while self.pairs > keep {
            self.pairs -= 1;
            self.free_pair(self.pairs);
        }
        self.pairs <= most
    }

    fn free_pair(&self, pair: usize) {
        if let Some(slot) = self.slots.get(pair) {
            self.frames.free_own(slot.mfn, 1);
            self.frames.free_own(slot.origin, 1);
        }
    }

    pub(super) fn mfn(&self, pair: Pair) -> Option<Mfn> {
        self.slot(pair).map(|slot| slot.mfn)
    }

    fn slot(&self, pair: Pair) -> Option<&Slot> {
        let pair = pair as usize;
        (pair < self.pairs).then(|| self.slots.get(pair)).flatten()
    }

    pub(super) fn table(&self, pair: Pair) -> Option<&'static Table> {
        Some(self.frames.phys().table(self.mfn(pair)?))
    }

    /// The second page of the pair.
    pub(super) fn origin(&self, pair: Pair) -> Option<&'static Table> {
        Some(self.frames.phys().table(self.slot(pair)?.origin))
    }

    /// An entry of a shadow.
    pub(super) fn entry(&self, pair: Pair, slot: usize) -> Option<&'static AtomicU64> {
        self.table(pair)?.get(slot)
    }

    /// The word that records what a shadow's entry was made from.
    pub(super) fn origin_of(&self, pair: Pair, slot: usize) -> Option<&'static AtomicU64> {
        self.origin(pair)?.get(slot)
    }

    pub(super) fn guest_table(&self, mfn: Mfn) -> &'static Table {
        self.frames.phys().table(mfn)
    }

    /// The pair whose shadow lies in a frame.
    pub(super) fn number(&self, mfn: Mfn) -> Option<Pair> {
        let pair = self.frames.note(mfn);
        (self.mfn(pair)? == mfn).then_some(pair)
    }

    pub(super) fn info(&self, pair: Pair) -> Option<&Info> {
        let pair = pair as usize;
        let slot = (pair < self.next).then(|| self.slots.get(pair));
        slot.flatten()?.info.as_ref()
    }

    pub(super) fn info_mut(&mut self, pair: Pair) -> Option<&mut Info> {
        let pair = pair as usize;
        let slot = (pair < self.next).then(|| self.slots.get_mut(pair));
        slot.flatten()?.info.as_mut()
    }

    pub(super) fn describe(&mut self, pair: Pair, info: Info) {
        if let Some(slot) = self.slots.get_mut(pair as usize) {
            slot.info = Some(info);
        }
    }

    pub(super) fn hold(&mut self, pair: Pair) {
        if self.info(pair).is_some_and(|info| info.idle) {
            self.unlist(pair);
        }
        if let Some(info) = self.info_mut(pair) {
            info.refs += 1;
        }
    }

    pub(super) fn release(&mut self, pair: Pair) {
        let last = self.last;
        let Some(info) = self.info_mut(pair) else {
            return;
        };
        info.refs = info.refs.saturating_sub(1);
        if info.refs > 0 {
            return;
        }
        (info.idle, info.before, info.after) = (true, last, NONE);
        match self.info_mut(last) {
            Some(info) => info.after = pair,
            None => self.first = pair,
        }
        self.last = pair;
    }

    /// The shadow that has been without a link for longest.
    pub(super) fn oldest(&self) -> Option<Pair> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn unlist(&mut self, pair: Pair) {
        let Some(info) = self.info_mut(pair) else {
            return;
        };
        let (before, after) = (info.before, info.after);
        info.idle = false;
        match self.info_mut(before) {
            Some(info) => info.after = after,
            None => self.first = after,
        }
        match self.info_mut(after) {
            Some(info) => info.before = before,
            None => self.last = before,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        (0..self.pairs).for_each(|pair| self.free_pair(pair));
    }
}
