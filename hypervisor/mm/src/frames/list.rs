//! Doubly linked lists of frames, threaded through the frame table.

use super::{FrameTable, entry::NIL};
use oxen_types::Mfn;

/// A list's first frame. Whoever owns the list holds the lock that guards its members' links.
pub(crate) struct FrameList {
    head: u32,
}

fn mfn(link: u32) -> Mfn {
    Mfn::new(link as u64)
}

impl FrameList {
    pub(crate) const fn new() -> Self {
        Self { head: NIL }
    }

    pub(crate) fn first(&self) -> Option<Mfn> {
        (self.head != NIL).then(|| mfn(self.head))
    }

    pub(crate) fn push(&mut self, frames: &FrameTable, at: Mfn) {
        let link = at.raw() as u32;
        frames.entry(at).set_links(NIL, self.head);
        if let Some(old) = self.first() {
            let (_, next) = frames.entry(old).links();
            frames.entry(old).set_links(link, next);
        }
        self.head = link;
    }

    pub(crate) fn pop(&mut self, frames: &FrameTable) -> Option<Mfn> {
        let at = self.first()?;
        self.remove(frames, at);
        Some(at)
    }

    pub(crate) fn remove(&mut self, frames: &FrameTable, at: Mfn) {
        let (previous, next) = frames.entry(at).links();
        if next != NIL {
            let (_, after) = frames.entry(mfn(next)).links();
            frames.entry(mfn(next)).set_links(previous, after);
        }
        if previous != NIL {
            let (before, _) = frames.entry(mfn(previous)).links();
            frames.entry(mfn(previous)).set_links(before, next);
        } else {
            self.head = next;
        }
    }
}
