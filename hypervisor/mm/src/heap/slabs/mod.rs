//! The heap for life: slabs of powers of two within pages, whole pages for what is larger.
//!
//! All of it is taken from the frame allocator and lies in the direct map, so a heap address minus
//! the direct map's base is its machine address; what is aligned to a page begins a page. A slab's
//! bookkeeping is kept in the frame table: the list of slabs with room in the links, and its own
//! state in [`Slab`]. A page goes back when its last object does.
//!
//! Two reserves keep the hypervisor going when guests have taken all other memory. Both are touched
//! only after the frame allocator has refused:
//! - single pages, refilled by every page that is freed and, a page at a time, while memory is
//!   free. A few more are kept at hand, so that the count of free frames does not follow each small
//!   allocation;
//! - one contiguous range ([`contiguous`]), for the few objects of more than a page. Nothing else
//!   is ever allocated there, so no guest can fragment it.

use core::alloc::Layout;
use core::sync::atomic::Ordering;

use oxen_types::{DomainId, Mfn, PAGE_SIZE};
use spin::{Mutex, Once};

use crate::frames::{AllocOptions, FrameList, FrameTable};
use contiguous::Contiguous;

mod contiguous;

const SMALLEST_SHIFT: u32 = 4;
const CLASSES: usize = 8;
/// The largest object in a slab: half a page. Larger ones get pages of their own.
const LARGEST_SMALL: usize = 1 << (SMALLEST_SHIFT as usize + CLASSES - 1);

/// 256 KiB.
const AT_HAND: u64 = 64;

/// The heap of slabs. It has nothing to give until [`Slabs::init`].
pub struct Slabs {
    frames: Once<&'static FrameTable>,
    lists: Mutex<Lists>,
}

struct Lists {
    /// For each class, the slabs that have room.
    partial: [FrameList; CLASSES],
    reserve: FrameList,
    reserved: u64,
    reserve_goal: u64,
    /// Pages of the list that are beyond the reserve: taken before the frame allocator is asked.
    at_hand: u64,
    contiguous: Contiguous,
}

/// A slab's state, as it is packed into the count field of its frame's entry: the first free object
/// (its next is in its first word), how many objects are live, and how many were ever handed out.
#[derive(Clone, Copy)]
struct Slab {
    free: u32,
    live: u32,
    fresh: u32,
}

const NO_OBJECT: u32 = 0x3ff;

impl Slab {
    const EMPTY: Self = Self {
        free: NO_OBJECT,
        live: 0,
        fresh: 0,
    };

    fn unpack(raw: u32) -> Self {
        Self {
            free: raw & 0x3ff,
            live: raw >> 10 & 0x3ff,
            fresh: raw >> 20,
        }
    }
    fn pack(self) -> u32 {
        self.free | self.live << 10 | self.fresh << 20
    }
    fn is_full(self, class: usize) -> bool {
        self.live == objects(class)
    }
}

const fn objects(class: usize) -> u32 {
    PAGE_SIZE as u32 >> (SMALLEST_SHIFT + class as u32)
}

/// The class that serves a layout, if it is small.
fn class_of(layout: Layout) -> Option<usize> {
    let need = layout.size().max(layout.align()).max(1 << SMALLEST_SHIFT);
    (need <= LARGEST_SMALL).then(|| (need.next_power_of_two().ilog2() - SMALLEST_SHIFT) as usize)
}

fn pages_of(layout: Layout) -> u64 {
    layout.size().div_ceil(PAGE_SIZE).max(1) as u64
}

impl Slabs {
    /// A heap without frames.
    pub const fn new() -> Self {
        let lists = Lists {
            partial: [const { FrameList::new() }; CLASSES],
            reserve: FrameList::new(),
            reserved: 0,
            reserve_goal: 0,
            at_hand: 0,
            contiguous: Contiguous::new(),
        };
        Self {
            frames: Once::new(),
            lists: Mutex::new(lists),
        }
    }

    /// Gives the heap its source of frames, and fills its reserves.
    pub fn init(&self, frames: &'static FrameTable) {
        let mut lists = self.lists.lock();
        lists.contiguous.init(frames);
        lists.reserve_goal = frames.reserve();
        lists.at_hand = frames.reserve().min(AT_HAND);
        while lists.reserved < lists.most() && lists.fetch(frames) {}
        drop(lists);
        self.frames.call_once(|| frames);
    }

    /// Whether the heap has frames.
    pub(super) fn is_ready(&self) -> bool {
        self.frames.get().is_some()
    }

    pub(super) fn allocate(&self, layout: Layout) -> Option<*mut u8> {
        let frames = *self.frames.get()?;
        let at = match class_of(layout) {
            Some(class) => {
                let (page, object) = self.lists.lock().take(frames, class)?;
                let offset = (object as usize) << (SMALLEST_SHIFT as usize + class);
                frames.phys().pointer(page.at(offset))
            }
            None => frames.phys().pointer(self.pages(frames, layout)?.base()),
        };
        frames
            .heap_used()
            .fetch_add(layout.size() as u64, Ordering::Relaxed);
        Some(at)
    }

    /// Whole pages: from the frame allocator, or else from what is kept in reserve.
    fn pages(&self, frames: &'static FrameTable, layout: Layout) -> Option<Mfn> {
        let count = pages_of(layout);
        let align = (layout.align() / PAGE_SIZE).max(1) as u64;
        let order = count.max(align).next_power_of_two().ilog2();
        if let Some(page) = frames.alloc_own(order, DomainId::XEN, AllocOptions::default()) {
            frames.free_own(Mfn::new(page.raw() + count), (1 << order) - count);
            frames.heap_frames().fetch_add(count, Ordering::Relaxed);
            return Some(page);
        }
        let mut lists = self.lists.lock();
        match order {
            0 => lists.take_reserve(frames),
            _ => lists.contiguous.take(count, align),
        }
    }

    pub(super) fn release(&self, at: *mut u8, layout: Layout) {
        let Some(frames) = self.frames.get().copied() else {
            return;
        };
        let at = frames.phys().maddr(at);
        match class_of(layout) {
            Some(class) => {
                let object = at.page_offset() >> (SMALLEST_SHIFT as usize + class);
                self.lists
                    .lock()
                    .give(frames, class, at.frame(), object as u32);
            }
            None => self
                .lists
                .lock()
                .give_pages(frames, at.frame(), pages_of(layout)),
        }
        frames
            .heap_used()
            .fetch_sub(layout.size() as u64, Ordering::Relaxed);
    }
}

impl Slabs {
    /// Whether an object of layout `old` stays where it is when its layout becomes `new`; if so,
    /// the heap counts the new size.
    pub(super) fn resize_in_place(&self, old: Layout, new: Layout) -> bool {
        let stays = match (class_of(old), class_of(new)) {
            (None, None) => pages_of(old) == pages_of(new),
            (old, new) => old == new,
        };
        if let (true, Some(frames)) = (stays, self.frames.get()) {
            let used = frames.heap_used();
            used.fetch_add(new.size() as u64, Ordering::Relaxed);
            used.fetch_sub(old.size() as u64, Ordering::Relaxed);
            return true;
        }
        false
    }
}

impl Default for Slabs {
    fn default() -> Self {
        Self::new()
    }
}

impl Lists {
    fn take(&mut self, frames: &FrameTable, class: usize) -> Option<(Mfn, u32)> {
        let page = match self.partial[class].first() {
            Some(page) => page,
            None => self.new_slab(frames, class)?,
        };
        let mut slab = Slab::unpack(frames.entry(page).note());
        let object = if slab.free == NO_OBJECT {
            slab.fresh += 1;
            slab.fresh - 1
        } else {
            let object = slab.free;
            slab.free = link(frames, class, page, object).load(Ordering::Relaxed);
            object
        };
        slab.live += 1;
        frames.entry(page).set_note(slab.pack());
        if slab.is_full(class) {
            self.partial[class].remove(frames, page);
        }
        Some((page, object))
    }

    fn give(&mut self, frames: &FrameTable, class: usize, page: Mfn, object: u32) {
        let mut slab = Slab::unpack(frames.entry(page).note());
        assert!(
            slab.live > 0 && object < slab.fresh,
            "freed to the heap what it does not hold"
        );
        let was_full = slab.is_full(class);
        link(frames, class, page, object).store(slab.free, Ordering::Relaxed);
        slab.free = object;
        slab.live -= 1;
        frames.entry(page).set_note(slab.pack());
        if slab.live == 0 {
            if !was_full {
                self.partial[class].remove(frames, page);
            }
            self.drop_slab(frames, page);
        } else if was_full {
            self.partial[class].push(frames, page);
        }
    }

    fn new_slab(&mut self, frames: &FrameTable, class: usize) -> Option<Mfn> {
        let at_hand = self.reserved > self.reserve_goal;
        let page = match at_hand.then(|| self.take_reserve(frames)).flatten() {
            Some(page) => page,
            None => match page_of(frames) {
                Some(page) => {
                    self.refill(frames);
                    page
                }
                None => self.take_reserve(frames)?,
            },
        };
        frames.entry(page).set_note(Slab::EMPTY.pack());
        self.partial[class].push(frames, page);
        Some(page)
    }

    fn take_reserve(&mut self, frames: &FrameTable) -> Option<Mfn> {
        let page = self.reserve.pop(frames)?;
        self.reserved -= 1;
        Some(page)
    }

    /// Pages that the list may have.
    fn most(&self) -> u64 {
        self.reserve_goal + self.at_hand
    }

    /// Brings the reserve nearer to what it should be.
    fn refill(&mut self, frames: &FrameTable) {
        if self.reserved < self.reserve_goal {
            self.fetch(frames);
        }
    }

    /// Takes one page into the list. False if no memory is free.
    fn fetch(&mut self, frames: &FrameTable) -> bool {
        let page = page_of(frames);
        if let Some(page) = page {
            self.reserve.push(frames, page);
            self.reserved += 1;
        }
        page.is_some()
    }

    fn give_pages(&mut self, frames: &FrameTable, at: Mfn, count: u64) {
        if self.contiguous.give(at, count) {
            return;
        }
        let kept = count.min(self.most() - self.reserved);
        for page in at.raw()..at.raw() + kept {
            self.reserve.push(frames, Mfn::new(page));
        }
        self.reserved += kept;
        frames.free_own(Mfn::new(at.raw() + kept), count - kept);
        frames
            .heap_frames()
            .fetch_sub(count - kept, Ordering::Relaxed);
    }

    fn drop_slab(&mut self, frames: &FrameTable, page: Mfn) {
        self.give_pages(frames, page, 1);
    }
}

/// A page for the heap, from the frame allocator.
fn page_of(frames: &FrameTable) -> Option<Mfn> {
    let page = frames.alloc_own(0, DomainId::XEN, AllocOptions::default())?;
    frames.heap_frames().fetch_add(1, Ordering::Relaxed);
    Some(page)
}

/// The first word of a free object: the number of the next one.
fn link(
    frames: &FrameTable,
    class: usize,
    page: Mfn,
    object: u32,
) -> &'static core::sync::atomic::AtomicU32 {
    let word = (object as usize) << (SMALLEST_SHIFT as usize + class - 2);
    &frames.phys().words(page)[word]
}

#[cfg(test)]
mod tests;
