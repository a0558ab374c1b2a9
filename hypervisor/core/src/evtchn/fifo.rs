//! The FIFO ABI: a word per port in pages of the guest's, linked into a queue per vcpu and
//! priority (xen/event_channel.h, "FIFO ABI"; design by D. Vrabel).
//!
//! The guest takes events off a queue's head while we append at its tail; the LINKED bit of the
//! tail's word decides who came first. Our own copy of each tail is a hint that the guest cannot touch.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use oxen_types::{Errno, PAGE_SIZE, Port, Result};

use super::LOWEST_PRIORITY;
use super::ports::Entry;
use crate::ports::PageRef;

pub(super) const LINK_BITS: u32 = 17;
pub(super) const PORTS: u32 = 1 << LINK_BITS;
const WORDS_PER_PAGE: u32 = (PAGE_SIZE / 4) as u32;
const MOST_PAGES: usize = (PORTS / WORDS_PER_PAGE) as usize;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;
const LINK: u32 = PORTS - 1;

const QUEUES: usize = LOWEST_PRIORITY as usize + 1;
/// Offset of the queue heads in `struct evtchn_fifo_control_block`; the ready word comes first.
const HEADS: usize = 8;
pub(super) const CONTROL_SIZE: usize = HEADS + 4 * QUEUES;

/// Tries to append behind a tail that the guest changes under our hands.
const TRIES: usize = 4;

struct Control {
    page: PageRef,
    offset: usize,
    tails: [u32; QUEUES],
}

#[derive(Default)]
pub(super) struct Fifo {
    pages: Vec<PageRef>,
    controls: BTreeMap<u32, Control>,
}

impl Fifo {
    pub fn add_control(&mut self, vcpu: u32, page: PageRef, offset: usize) -> Result<()> {
        if self.controls.contains_key(&vcpu) {
            return Err(Errno::Inval);
        }
        self.controls.insert(
            vcpu,
            Control {
                page,
                offset,
                tails: [0; QUEUES],
            },
        );
        Ok(())
    }

    /// One page more of words; the ports that it holds.
    pub fn add_page(&mut self, page: PageRef) -> Result<core::ops::Range<u32>> {
        if self.pages.len() >= MOST_PAGES {
            return Err(Errno::NoSpc);
        }
        let first = self.pages.len() as u32 * WORDS_PER_PAGE;
        self.pages.push(page);
        Ok(first..first + WORDS_PER_PAGE)
    }

    fn word(&self, port: Port) -> Option<&AtomicU32> {
        let page = self.pages.get((port.0 / WORDS_PER_PAGE) as usize)?;
        Some(page.word((port.0 % WORDS_PER_PAGE) as usize * 4))
    }

    /// Changes a port's word, and notes that its page was written.
    fn update<R>(&self, port: Port, change: impl FnOnce(&AtomicU32) -> R) -> Option<R> {
        let page = self.pages.get((port.0 / WORDS_PER_PAGE) as usize)?;
        Some(page.update((port.0 % WORDS_PER_PAGE) as usize * 4, change))
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.word(port)
            .is_some_and(|word| word.load(Ordering::SeqCst) & PENDING != 0)
    }

    pub fn is_masked(&self, port: Port) -> bool {
        self.word(port)
            .is_none_or(|word| word.load(Ordering::SeqCst) & MASKED != 0)
    }

    pub fn clear_pending(&self, port: Port) {
        self.update(port, |word| word.fetch_and(!PENDING, Ordering::SeqCst));
    }

    /// Unmasks; is the event pending, so that it must be queued?
    pub fn unmask(&self, port: Port) -> bool {
        self.update(port, |word| word.fetch_and(!MASKED, Ordering::SeqCst))
            .is_some_and(|before| before & PENDING != 0)
    }

    /// Must the upcall of the port's vcpu be raised?
    pub fn set_pending(&mut self, port: Port, entry: &mut Entry) -> bool {
        let set = |bit| self.update(port, |word| word.fetch_or(bit, Ordering::SeqCst));
        let Some(before) = set(PENDING) else {
            entry.pending = true;
            return false;
        };
        if before & (MASKED | LINKED) != 0 || !self.controls.contains_key(&entry.vcpu) {
            return false;
        }
        if set(LINKED).is_none_or(|before| before & LINKED != 0) {
            return false;
        }
        self.forget_tail(port, entry.queued);
        entry.queued = Some((entry.vcpu, entry.priority));
        self.append(port, entry.vcpu, entry.priority)
    }

    /// It was the tail of its old queue and the guest has taken it off: that queue is empty.
    fn forget_tail(&mut self, port: Port, queue: Option<(u32, u8)>) {
        let Some((vcpu, priority)) = queue else {
            return;
        };
        let tail = self
            .controls
            .get_mut(&vcpu)
            .and_then(|c| c.tails.get_mut(priority as usize));
        if let Some(tail) = tail
            && *tail == port.0
        {
            *tail = 0;
        }
    }

    fn append(&mut self, port: Port, vcpu: u32, priority: u8) -> bool {
        let queue = usize::from(priority.min(LOWEST_PRIORITY));
        let tail = self.controls.get(&vcpu).map_or(0, |c| c.tails[queue]);
        let linked = tail != 0
            && self
                .update(Port(tail), |word| set_link(word, port.0))
                .is_some_and(|linked| linked);
        let Some(control) = self.controls.get_mut(&vcpu) else {
            return false;
        };
        control.tails[queue] = port.0;
        if linked {
            return false;
        }
        let head = control.offset + HEADS + 4 * queue;
        control
            .page
            .update(head, |word| word.store(port.0, Ordering::SeqCst));
        let ready = control.page.update(control.offset, |word| {
            word.fetch_or(1 << queue, Ordering::SeqCst)
        });
        ready & 1 << queue == 0
    }
}

/// Links `next` behind the event of `word`, unless the guest has taken that off its queue.
fn set_link(word: &AtomicU32, next: u32) -> bool {
    for attempt in 0..=TRIES {
        let old = word.load(Ordering::SeqCst);
        if old & LINKED == 0 {
            if attempt > 0 {
                word.fetch_and(!BUSY, Ordering::SeqCst);
            }
            return false;
        }
        let new = (old & !(BUSY | LINK)) | next;
        if word
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            return true;
        }
        // BUSY asks the guest to leave the word alone for a moment.
        word.fetch_or(BUSY, Ordering::SeqCst);
    }
    // A guest that goes on changing it loses the events behind this one.
    word.fetch_and(!BUSY, Ordering::SeqCst);
    true
}
