//! The buddy allocator of one zone: a range of frames of one NUMA node, on one side of 4 GiB.
//!
//! A free block of order n begins at a multiple of 2^n and lies in one zone; its first frame's
//! state says `FreeHead` and the order, all others say `Free`. Every operation takes at most one
//! step per order.

use oxen_types::{DomainId, Mfn};
use spin::Mutex;

use super::FrameTable;
use super::entry::{FrameUse, State};
use super::list::FrameList;

/// 1 GiB.
pub const MAX_ORDER: u32 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;

pub(super) const FREE: State = State::new(FrameUse::Free, DomainId(0));

pub(super) struct Zone {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) node: u8,
    lists: Mutex<Lists>,
}

struct Lists {
    by_order: [FrameList; ORDERS],
    /// Bit n: there is a free block of order n.
    occupied: u32,
    free: u64,
}

impl Lists {
    fn push(&mut self, frames: &FrameTable, at: Mfn, order: u32) {
        frames.entry(at).set(State::free_head(order));
        self.by_order[order as usize].push(frames, at);
        self.occupied |= 1 << order;
    }

    fn remove(&mut self, frames: &FrameTable, at: Mfn, order: u32) {
        let list = &mut self.by_order[order as usize];
        list.remove(frames, at);
        if list.first().is_none() {
            self.occupied &= !(1 << order);
        }
        frames.entry(at).set(FREE);
    }
}

impl Zone {
    pub(super) fn new(start: u64, end: u64, node: u8) -> Self {
        let lists = Lists {
            by_order: [const { FrameList::new() }; ORDERS],
            occupied: 0,
            free: 0,
        };
        Self {
            start,
            end,
            node,
            lists: Mutex::new(lists),
        }
    }

    pub(super) fn contains(&self, mfn: Mfn) -> bool {
        (self.start..self.end).contains(&mfn.raw())
    }

    pub(super) fn free_frames(&self) -> u64 {
        self.lists.lock().free
    }

    /// A block whose frames' states are all `Free`.
    pub(super) fn alloc(&self, frames: &FrameTable, order: u32) -> Option<Mfn> {
        let mut lists = self.lists.lock();
        let fitting = lists.occupied & (u32::MAX << order);
        if fitting == 0 {
            return None;
        }
        let found = fitting.trailing_zeros();
        let at = lists.by_order[found as usize].first()?;
        lists.remove(frames, at, found);
        for half in (order..found).rev() {
            lists.push(frames, Mfn::new(at.raw() + (1 << half)), half);
        }
        lists.free -= 1 << order;
        Some(at)
    }

    /// Takes back a block whose frames' states are all `Free`.
    pub(super) fn free(&self, frames: &FrameTable, at: Mfn, order: u32) {
        let mut lists = self.lists.lock();
        lists.free += 1 << order;
        self.merge(&mut lists, frames, at, order);
    }

    fn merge(&self, lists: &mut Lists, frames: &FrameTable, at: Mfn, order: u32) {
        let (mut at, mut order) = (at.raw(), order);
        while order < MAX_ORDER {
            let buddy = Mfn::new(at ^ 1 << order);
            if !self.heads(frames, buddy, order) {
                break;
            }
            lists.remove(frames, buddy, order);
            at &= !(1 << order);
            order += 1;
        }
        lists.push(frames, Mfn::new(at), order);
    }

    /// Whether a free block of this order begins at `at`.
    fn heads(&self, frames: &FrameTable, at: Mfn, order: u32) -> bool {
        let entry = self.contains(at).then(|| frames.get_entry(at)).flatten();
        entry.is_some_and(|entry| entry.state().free_order() == Some(order))
    }

    /// Takes the free block that begins at a frame, if it has no more than `most` frames, or else
    /// the one frame out of whatever free block it lies in. Returns how many; their state is `Free`
    /// then.
    pub(super) fn take(&self, frames: &FrameTable, mfn: Mfn, most: u64) -> u64 {
        let mut lists = self.lists.lock();
        let block = (0..=MAX_ORDER).find_map(|order| {
            let head = Mfn::new(mfn.raw() & (u64::MAX << order));
            self.heads(frames, head, order).then_some((head, order))
        });
        let Some((head, order)) = block else {
            return 0;
        };
        lists.remove(frames, head, order);
        if head == mfn && 1 << order <= most {
            lists.free -= 1 << order;
            return 1 << order;
        }
        // Halve towards the frame, and put the other halves back.
        let mut at = head.raw();
        for half in (0..order).rev() {
            let upper = at + (1 << half);
            if mfn.raw() >= upper {
                lists.push(frames, Mfn::new(at), half);
                at = upper;
            } else {
                lists.push(frames, Mfn::new(upper), half);
            }
        }
        lists.free -= 1;
        1
    }
}
