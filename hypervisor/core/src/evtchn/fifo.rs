//! The FIFO ABI: a word per port in pages of the guest's, linked into a queue per vcpu and
//! priority (xen/event_channel.h, "FIFO ABI"; design by D. Vrabel).
//!
//! The guest takes events off a queue's head while we append at its tail; the LINKED bit of the
//! tail's word decides who came first. Our own copy of each tail is a hint that the guest cannot
//! touch.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_pv_abi as abi;
use oxen_types::{Errno, PAGE_SIZE, Port, Result, masked};

use super::LOWEST_PRIORITY;
use super::ports::{Entry, Queue};
use crate::fallible::{self, Account, Paged};
use crate::seams::PageRef;

pub(super) const LINK_BITS: u32 = abi::EVTCHN_FIFO_LINK_BITS;
pub(super) const PORTS: u32 = abi::EVTCHN_FIFO_NR_CHANNELS;
const WORDS_PER_PAGE: u32 = (PAGE_SIZE / 4) as u32;
const MOST_PAGES: usize = (PORTS / WORDS_PER_PAGE) as usize;

const PENDING: u32 = 1 << abi::EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << abi::EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << abi::EVTCHN_FIFO_LINKED;
const BUSY: u32 = 1 << abi::EVTCHN_FIFO_BUSY;
const LINK: u32 = abi::EVTCHN_FIFO_LINK_MASK;

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

pub(super) struct Fifo {
    /// Has room for all that there can be, which is a page.
    pages: Vec<PageRef>,
    /// By vcpu.
    controls: Paged<Option<Control>>,
}

pub(super) const CONTROLS_OF_LEAF: usize = Paged::<Option<Control>>::LEAF;
const PAGES_SIZE: usize = MOST_PAGES * size_of::<PageRef>();
const _: () = assert!(PAGES_SIZE <= PAGE_SIZE);

impl Fifo {
    pub(super) fn new(account: &Account, vcpus: u32) -> Result<Self> {
        account.charge(PAGES_SIZE)?;
        let pages = fallible::list(MOST_PAGES).inspect_err(|_| account.refund(PAGES_SIZE))?;
        Ok(Self {
            pages,
            controls: Paged::new(vcpus as usize),
        })
    }

    /// Gives back all of its memory and the guest's pages.
    pub(super) fn clear(mut self, account: &Account) {
        self.controls.clear(account);
        account.refund(PAGES_SIZE);
    }

    pub(super) fn add_control(
        &mut self,
        account: &Account,
        vcpu: u32,
        page: PageRef,
        offset: usize,
    ) -> Result<()> {
        let at = vcpu as usize;
        self.controls.ensure(at, account, || None)?;
        let place = self.controls.get_mut(at).ok_or(Errno::NoEnt)?;
        if place.is_some() {
            return Err(Errno::Inval);
        }
        *place = Some(Control {
            page,
            offset,
            tails: [0; QUEUES],
        });
        Ok(())
    }

    fn control(&self, vcpu: u32) -> Option<&Control> {
        self.controls.get(vcpu as usize)?.as_ref()
    }

    fn control_mut(&mut self, vcpu: u32) -> Option<&mut Control> {
        self.controls.get_mut(vcpu as usize)?.as_mut()
    }

    /// One page more of words; the ports that it holds.
    pub(super) fn add_page(&mut self, page: PageRef) -> Result<core::ops::Range<u32>> {
        if self.pages.len() >= MOST_PAGES {
            return Err(Errno::NoSpc);
        }
        let first = self.pages.len() as u32 * WORDS_PER_PAGE;
        fallible::push(&mut self.pages, page)?;
        Ok(first..first + WORDS_PER_PAGE)
    }

    fn page(&self, port: Port) -> Option<&PageRef> {
        let index = (port.0 / WORDS_PER_PAGE) as usize;
        if index >= self.pages.len() {
            return None;
        }
        self.pages.get(masked(index, self.pages.len()))
    }

    fn word(&self, port: Port) -> Option<&AtomicU32> {
        Some(
            self.page(port)?
                .word((port.0 % WORDS_PER_PAGE) as usize * 4),
        )
    }

    /// Changes a port's word, and notes that its page was written.
    fn update<R>(&self, port: Port, change: impl FnOnce(&AtomicU32) -> R) -> Option<R> {
        let page = self.page(port)?;
        Some(page.update((port.0 % WORDS_PER_PAGE) as usize * 4, change))
    }

    pub(super) fn is_pending(&self, port: Port) -> bool {
        self.word(port)
            .is_some_and(|word| word.load(Ordering::SeqCst) & PENDING != 0)
    }

    pub(super) fn is_masked(&self, port: Port) -> bool {
        self.word(port)
            .is_none_or(|word| word.load(Ordering::SeqCst) & MASKED != 0)
    }

    pub(super) fn clear_pending(&self, port: Port) {
        self.update(port, |word| word.fetch_and(!PENDING, Ordering::SeqCst));
    }

    /// Unmasks. Returns whether the event is pending, so that it must be queued.
    pub(super) fn unmask(&self, port: Port) -> bool {
        self.update(port, |word| word.fetch_and(!MASKED, Ordering::SeqCst))
            .is_some_and(|before| before & PENDING != 0)
    }

    /// Queues the event. Returns whether the upcall of the port's vcpu must be raised.
    pub(super) fn set_pending(&mut self, port: Port, entry: &mut Entry) -> bool {
        let set = |bit| self.update(port, |word| word.fetch_or(bit, Ordering::SeqCst));
        let Some(before) = set(PENDING) else {
            entry.pending = true;
            return false;
        };
        if before & (MASKED | LINKED) != 0 || self.control(entry.vcpu).is_none() {
            return false;
        }
        if set(LINKED).is_none_or(|before| before & LINKED != 0) {
            return false;
        }
        self.forget_tail(port, entry.queued);
        let queue = Queue {
            vcpu: entry.vcpu as u16,
            priority: entry.priority,
        };
        entry.queued = Some(queue);
        self.append(port, queue)
    }

    /// The port was the tail of its old queue and the guest has taken it off: that queue is empty.
    fn forget_tail(&mut self, port: Port, queue: Option<Queue>) {
        let Some(queue) = queue else {
            return;
        };
        let tail = self
            .control_mut(queue.vcpu.into())
            .and_then(|c| c.tails.get_mut(usize::from(queue.priority)));
        if let Some(tail) = tail
            && *tail == port.0
        {
            *tail = 0;
        }
    }

    fn append(&mut self, port: Port, Queue { vcpu, priority }: Queue) -> bool {
        let queue = usize::from(priority.min(LOWEST_PRIORITY));
        let tail = self.control(vcpu.into()).map_or(0, |c| c.tails[queue]);
        let linked = tail != 0
            && self
                .update(Port(tail), |word| set_link(word, port.0))
                .is_some_and(|linked| linked);
        let Some(control) = self.control_mut(vcpu.into()) else {
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
