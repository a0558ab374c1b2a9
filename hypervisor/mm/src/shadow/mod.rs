//! A domain's shadows: the page tables that the CPU uses for guests without nested paging, cached by the
//! guest's own tables that they stand for, and shared by its vcpus.
//!
//! A shadow keeps to a TLB's rules (APM vol. 2, 5.5; SDM vol. 3, 4.10): entries are made on demand, by
//! faults; the guest's tables may be ahead of it until the guest flushes. It outlasts the flush, because
//! what the guest changed is known:
//! - A new shadow is *loose*: its guest's table may be written by all who can. Few are loose at once. At each
//!   flush their entries are compared with those that they were made from, and what differs is dropped.
//! - When too many are loose, the oldest are *protected*: whatever may write their tables is taken out of
//!   the shadows, all TLBs are flushed, and they are compared once more. A write faults from then on, and
//!   makes the table loose again. So no write has to be emulated, at any level.
//!
//! All of it lives in a pool of a fixed size. Where a page is held is known by two places at most
//! (`reverse`). When the pool is used up, the shadows that nothing links to go, oldest first; when there are
//! none, all is forgotten. Each of these takes a bounded time; to forget all takes hardly any.
//!
//! A change of the p2m takes out what was made from its old entry ([`Cache::page_changed`]), or forgets all
//! ([`Cache::reset`]), before any vcpu enters the guest again. A guest's frame that is read here may have been given
//! away meanwhile: what is read is only compared.
//!
//! Locks: the cache's owner locks it as a whole; the p2m's lock may be taken inside.

#[cfg(test)]
mod bounds;
mod index;
mod key;
mod path;
mod pool;
mod reverse;
mod step;

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use oxen_types::{DomainId, Maddr, Mfn};

use crate::frames::{AllocOptions, FrameTable};
use crate::pt::{self, Attrs, Decoded, Format, NoMemory, pages_at};
use index::{Index, MOST_SHAPES};
pub use key::{Entries, Key, Rights};
pub use path::{Tables, Walked, top};
use pool::{Info, NONE, Pair, Pool};
use reverse::{Place, Reverse};

/// Guests' tables that may be out of step at once, and how many are protected together.
const LOOSE: usize = 16;
const BATCH: usize = 8;
/// Shadows that go together when the pool is used up.
const EVICT: usize = 16;
/// Pairs of pages that are taken from the machine, or go back to it, in one step.
const STEP: usize = 1024;
/// Room for a root, a way down, and the reverse map of what it reads and writes.
pub const FEWEST_PAGES: usize = 32;

type Fmt = pt::Shadow;

/// A page as the guest may use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub gfn: u64,
    /// The frame of the 4 KiB page that was asked for.
    pub mfn: Mfn,
    /// It may be mapped by an entry of 2 MiB.
    pub large: bool,
    pub user: bool,
    pub write: bool,
    pub exec: bool,
    pub cached: bool,
    pub global: bool,
}

/// A table on the way to a page.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    pub key: Key,
    /// The guest's entry that leads to it.
    pub entry: u64,
}

/// From a root to a page.
#[derive(Clone, Debug)]
pub struct Path {
    /// Linear address / 4096.
    pub linear: u64,
    pub hops: ArrayVec<Hop, 5>,
    /// The guest's own entry of the page, if the last hop's table is one of the guest's.
    pub entry: u64,
    pub page: Page,
}

/// A vcpu's roots.
pub struct View {
    /// One of four levels, or the four tables of a root of three.
    roots: [Pair; 4],
    long: bool,
    /// The root of three levels: its own page, below 4 GiB.
    pae: Mfn,
    /// That of the cache when the roots were taken.
    epoch: u64,
    frames: &'static FrameTable,
}

pub struct Cache {
    pool: Pool,
    index: Index,
    reverse: Reverse,
    /// Guest frames that hold tables and may be written, oldest first.
    loose: ArrayVec<u64, LOOSE>,
    /// It was forgotten so many times.
    epoch: u64,
    counts: Counts,
}

/// What has been done so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub fills: u64,
    pub made: u64,
    pub evicted: u64,
    pub resets: u64,
    /// Changes of the p2m that did not take all.
    pub changed: u64,
    pub protected: u64,
    pub loosened: u64,
    pub dropped: u64,
    /// Shadows and entries that were looked at.
    pub steps: u64,
}

/// How much may still be looked at in one go. When it is used up all is forgotten, which takes hardly any time, and
/// the guest pays for it by faults.
pub struct Allowance(u32);

impl Allowance {
    /// For a comparison of all loose tables with their shadows: each of the most in two shapes, all entries in use.
    /// Kernels have one, mostly.
    const fn for_compare() -> Self {
        Self((LOOSE * 2 * 512) as u32)
    }

    /// For following the changes of the p2m since the last time.
    pub const fn for_changes() -> Self {
        Self(8192)
    }

    /// False if there is not so much left.
    fn spend(&mut self, steps: usize) -> bool {
        match u32::try_from(steps)
            .ok()
            .and_then(|steps| self.0.checked_sub(steps))
        {
            Some(left) => self.0 = left,
            None => return false,
        }
        true
    }
}

/// What the cache needs from its surroundings.
pub trait Around {
    /// The frame of a guest's table; `None` if there is no RAM.
    fn frame(&self, gfn: u64) -> Option<Mfn>;
    /// All TLBs forget the guest before it runs on; none of its vcpus is inside meanwhile.
    fn flush(&self);
}

impl View {
    pub fn new(frames: &'static FrameTable, owner: DomainId) -> Option<Self> {
        let low = AllocOptions {
            zeroed: true,
            below_4g: true,
            node: None,
        };
        Some(Self {
            roots: [NONE; 4],
            long: false,
            pae: frames.alloc_own(0, owner, low)?,
            epoch: u64::MAX,
            frames,
        })
    }

    /// The root of three levels.
    pub fn pae(&self) -> Maddr {
        self.pae.base()
    }

    fn link_pae(&self, pool: &Pool) {
        const PRESENT: u64 = 1;
        let entries = self.frames.phys().table(self.pae);
        for (entry, root) in entries.iter().zip(self.roots) {
            let table = pool.mfn(root).filter(|_| !self.long);
            let value = table.map_or(0, |table| table.base().raw() | PRESENT);
            entry.store(value, Ordering::Release);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.frames.free_own(self.pae, 1);
    }
}

fn slot_at(linear: u64, level: u8) -> usize {
    (linear / pages_at(level.into())) as usize % 512
}

impl Cache {
    /// A cache with a pool of `pages`; `None` if there are not so many.
    /// `secret`: random numbers that no guest knows.
    pub fn new(
        frames: &'static FrameTable,
        owner: DomainId,
        pages: usize,
        secret: [u64; 2],
    ) -> Option<Self> {
        let mut pool = Pool::new(frames, owner);
        let pages = pages.max(FEWEST_PAGES);
        pool.grow(pages, pages).ok()?;
        Some(Self {
            pool,
            index: Index::new(frames, owner, secret)?,
            reverse: Reverse::default(),
            loose: ArrayVec::new(),
            epoch: 0,
            counts: Counts::default(),
        })
    }

    pub fn counts(&self) -> Counts {
        Counts {
            steps: self.counts.steps + self.index.steps(),
            ..self.counts
        }
    }

    /// Pages that it has, all of which are taken from the machine.
    pub fn pages(&self) -> usize {
        self.pool.pages()
    }

    /// Brings the pool's size nearer to a number, by a step; true if it is there. What exceeds it goes back, with
    /// all shadows.
    ///
    /// # Errors
    /// `NoMem` if there is not enough free memory.
    pub fn resize(&mut self, pages: usize, flush: impl FnOnce()) -> oxen_types::Result<bool> {
        let pages = pages.max(FEWEST_PAGES);
        if self.pool.pages() <= pages {
            return self.pool.grow(pages, STEP);
        }
        flush();
        self.reset();
        Ok(self.pool.shrink(pages, STEP))
    }

    /// Forgets everything, whose pages are used anew at once. The caller has made all vcpus leave the guest, and
    /// flushes their TLBs before they enter again; each has to take a new root.
    pub fn reset(&mut self) {
        self.epoch += 1;
        self.counts.resets += 1;
        self.index.clear();
        self.reverse.clear();
        self.loose.clear();
        self.pool.clear();
    }

    /// Does the vcpu have to take a root?
    pub fn is_stale(&self, view: &View) -> bool {
        view.epoch != self.epoch
    }

    /// The vcpu loads CR3: `top` is its table, in long mode. What the CPU's CR3 is from now on. Its TLB has
    /// to be flushed by the caller.
    pub fn activate(&mut self, view: &mut View, top: Option<&Key>, around: &impl Around) -> Maddr {
        self.resync_or_forget(|| around.flush());
        self.let_go(view);
        view.long = top.is_some();
        let root = top.map(|key| match self.get(key, around) {
            Ok(root) => root,
            Err(NoMemory) => {
                self.forget(around);
                self.get(key, around).unwrap_or(NONE)
            }
        });
        view.epoch = self.epoch;
        if let (Some(root), Some(place)) = (root, view.roots.first_mut()) {
            self.pool.hold(root);
            *place = root;
        }
        view.link_pae(&self.pool);
        let root = root.and_then(|root| self.pool.mfn(root));
        root.map_or(view.pae(), Mfn::base)
    }

    /// The vcpu no longer needs its roots.
    pub fn let_go(&mut self, view: &mut View) {
        let stale = self.is_stale(view);
        for root in &mut view.roots {
            if *root != NONE && !stale {
                self.pool.release(*root);
            }
            *root = NONE;
        }
    }

    /// Puts a page where a walk of the guest's tables found it. `write`: the guest is about to write it.
    /// False if all had to be forgotten: then the vcpu has to take its root again.
    pub fn fill(
        &mut self,
        view: &mut View,
        path: &Path,
        write: bool,
        around: &impl Around,
    ) -> bool {
        if self.is_stale(view) {
            return false;
        }
        self.counts.fills += 1;
        let done = self.try_fill(view, path, write, around).is_ok();
        if !done {
            self.forget(around);
        }
        done
    }

    fn forget(&mut self, around: &impl Around) {
        around.flush();
        self.reset();
    }

    fn try_fill(
        &mut self,
        view: &mut View,
        path: &Path,
        write: bool,
        around: &impl Around,
    ) -> Result<(), NoMemory> {
        let mut hops = path.hops.iter();
        let mut at = if view.long {
            view.roots[0]
        } else {
            let Some(hop) = hops.next() else {
                return Ok(());
            };
            self.low_root(view, path.linear, hop, around)?
        };
        if at == NONE {
            return Err(NoMemory);
        }
        self.pool.hold(at);
        for hop in hops {
            let next = self.link(at, path.linear, hop, around);
            self.pool.release(at);
            at = next?;
        }
        let filled = self.put(at, path, write, around);
        self.pool.release(at);
        filled
    }

    /// One of the four tables that a root of three levels links to.
    fn low_root(
        &mut self,
        view: &mut View,
        linear: u64,
        hop: &Hop,
        around: &impl Around,
    ) -> Result<Pair, NoMemory> {
        let quarter = slot_at(linear, 3) % 4;
        let now = view.roots[quarter];
        if self.pool.info(now).is_some_and(|info| info.key == hop.key) {
            return Ok(now);
        }
        let new = self.get(&hop.key, around)?;
        self.pool.hold(new);
        view.roots[quarter] = new;
        if now != NONE {
            self.pool.release(now);
        }
        view.link_pae(&self.pool);
        Ok(new)
    }

    /// The next table on the way, held.
    fn link(
        &mut self,
        at: Pair,
        linear: u64,
        hop: &Hop,
        around: &impl Around,
    ) -> Result<Pair, NoMemory> {
        let Some(level) = self.pool.info(at).map(|info| info.key.level) else {
            return Err(NoMemory);
        };
        let slot = slot_at(linear, level);
        let next = self.get(&hop.key, around)?;
        // Held for the way, and for the link.
        self.pool.hold(next);
        let entry = self.pool.mfn(next).map_or(0, Fmt::table);
        let now = self.pool.entry(at, slot);
        if now.is_some_and(|now| now.load(Ordering::Relaxed) != entry) {
            self.pool.hold(next);
            self.set(at, slot, entry);
        }
        self.set_origin(at, slot, hop.entry);
        Ok(next)
    }

    /// The page's own entry.
    fn put(
        &mut self,
        at: Pair,
        path: &Path,
        write: bool,
        around: &impl Around,
    ) -> Result<(), NoMemory> {
        let Some(level) = self.pool.info(at).map(|info| info.key.level) else {
            return Err(NoMemory);
        };
        let page = &path.page;
        let slot = slot_at(path.linear, level);
        let place = Place {
            pair: at,
            slot: slot as u16,
        };
        let mut may_write = page.write;
        if page.cached {
            self.cover(page.gfn, around)?;
        }
        if may_write && page.cached {
            if level == 1 && self.reverse.is_protected(&self.pool, page.gfn) {
                may_write = write;
                if write {
                    self.loosen(page.gfn, around)?;
                }
            }
            // It was found to be allowed on the way; a table may have been protected since.
            may_write &= level == 1 || self.reverse.may_write_large(page.gfn);
        }
        let flag = |on, bit| if on { bit } else { 0 };
        let attrs = Attrs {
            write: may_write,
            exec: page.exec,
            cached: page.cached,
            fixed: false,
            tag: flag(page.user, Fmt::USER) | flag(page.global, Fmt::GLOBAL),
        };
        let first = page.mfn.raw() & !(pages_at(level.into()) - 1);
        let leaf = Fmt::leaf(Mfn::new(first), level.into(), attrs);
        self.set(at, slot, leaf);
        self.set_origin(at, slot, path.entry);
        if page.cached {
            self.note(page, place, level > 1, may_write);
        }
        Ok(())
    }

    fn set_origin(&self, pair: Pair, slot: usize, entry: u64) {
        if let Some(origin) = self.pool.origin_of(pair, slot) {
            origin.store(entry, Ordering::Relaxed);
        }
    }

    /// The guest writes a page that is protected, in whatever way. False if all had to be forgotten.
    pub fn write_faults(&mut self, gfn: u64, around: &impl Around) -> bool {
        if !self.reverse.is_protected(&self.pool, gfn) {
            return true;
        }
        let done = self.loosen(gfn, around).is_ok();
        if !done {
            self.forget(around);
        }
        done
    }

    /// May the page's 2 MiB be one entry, if it is to be written?
    pub fn may_be_large(&self, gfn: u64) -> bool {
        self.reverse.may_write_large(gfn)
    }

    /// The guest flushes, be it a part: what it changed of the tables that it may write is dropped. The caller
    /// flushes the vcpu's TLB. False if that would take too long: then all has to be forgotten.
    #[must_use]
    pub fn resync(&mut self) -> bool {
        let mut left = Allowance::for_compare();
        let loose = self.loose.clone();
        loose.iter().all(|gfn| self.compare_all(*gfn, &mut left))
    }

    /// The same, and what has to be forgotten is.
    pub fn resync_or_forget(&mut self, flush: impl FnOnce()) {
        if !self.resync() {
            flush();
            self.reset();
        }
    }

    /// What the CPU finds for a linear page (address / 4096): its frame, and the entry that holds it.
    pub fn lookup(&self, view: &View, linear: u64) -> Option<(Mfn, Attrs)> {
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

    /// Does an entry of some shadow let the CPU write the frame?
    pub fn is_writable(&self, mfn: Mfn) -> bool {
        self.leaves().any(|(first, level, attrs)| {
            let all = first.raw()..first.raw() + pages_at(level);
            attrs.write && all.contains(&mfn.raw())
        })
    }

    /// Whatever the shadows lead to: frame, level and rights.
    pub fn leaves(&self) -> impl Iterator<Item = (Mfn, u32, Attrs)> {
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

    /// Writes an entry, and lets go of what the old one linked to.
    fn set(&mut self, pair: Pair, slot: usize, new: u64) {
        let Some(info) = self.pool.info_mut(pair) else {
            return;
        };
        if new != 0 {
            info.low = info.low.min(slot as u16);
            info.end = info.end.max(slot as u16 + 1);
        }
        let level = info.key.level;
        let Some(entry) = self.pool.entry(pair, slot) else {
            return;
        };
        let old = entry.swap(new, Ordering::AcqRel);
        if level > 1
            && let Some(table) = Fmt::next(old, level.into())
            && let Some(child) = self.pool.number(table)
        {
            self.pool.release(child);
        }
    }

    /// The shadow of a key, which the caller holds next.
    fn get(&mut self, key: &Key, around: &impl Around) -> Result<Pair, NoMemory> {
        if let Some(pair) = self.index.find(&self.pool, key) {
            return Ok(pair);
        }
        let guest = match key.entries {
            Entries::Direct => None,
            _ => around.frame(key.gfn),
        };
        let pair = self.take(around)?;
        self.counts.made += 1;
        self.index
            .insert(&mut self.pool, pair, Info::new(*key, guest));
        if self.index.count(&self.pool, key.gfn) > MOST_SHAPES {
            return Err(NoMemory);
        }
        if guest.is_some() && !self.reverse.is_protected(&self.pool, key.gfn) {
            // Held, so that it is not taken for one that nobody needs.
            self.pool.hold(pair);
            let done = self.loosen(key.gfn, around);
            if let Some(info) = self.pool.info_mut(pair) {
                info.refs -= 1;
            }
            done?;
        }
        Ok(pair)
    }
}
