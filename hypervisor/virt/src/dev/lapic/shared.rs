//! The half of a local APIC that any CPU may touch, without a lock.
//!
//! Senders post vectors and events; the vcpu's owner (the CPU that runs it) merges them before it
//! enters the guest. In the other direction the owner publishes, in one word, what senders need to
//! know: mode, ids, whether it is enabled, its priority.
//!
//! Edge-triggered vectors wait in a posted-interrupt descriptor, which the hardware may know too
//! ([`Descriptor`]): then it takes them out by itself, while the guest runs. Nothing else can be
//! left to it: TMR, and with it the word about completions, is the owner's.
//!
//! Ordering: a sender writes its own reason (say, evtchn_upcall_pending) before it posts, and the
//! owner that enables its APIC publishes that before it looks for such reasons. Both sides put a
//! full fence between, so at least one of them sees the other.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::descriptor::Descriptor;
use super::regs::{ESR_RECEIVE_ILLEGAL, FIRST_VECTOR};
use super::vectors::{Vectors, place};
use crate::dev::message::Destination;

/// The fate of a posted interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Posted {
    /// The interrupt was not pending before: the vcpu must be woken or kicked.
    New,
    /// The interrupt merged with one that is already on its way.
    Merged,
    /// The APIC is disabled: nothing was posted.
    Ignored,
}

/// NMI, INIT and SIPI as they wait for the owner. INIT comes before SIPI.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Events {
    pub nmi: bool,
    pub init: bool,
    /// The start-up page: real mode at `page << 12`.
    pub startup: Option<u8>,
}

const EVENT_NMI: u32 = 1 << 8;
const EVENT_INIT: u32 = 1 << 9;
const EVENT_STARTUP: u32 = 1 << 10;
const EVENT_PAGE: u32 = 0xff;

#[derive(Default, Debug)]
pub struct LapicPosted {
    descriptor: Descriptor,
    /// Vectors that are level triggered, or were when they last came.
    irr: [AtomicU32; 8],
    /// Which words of `irr` and the descriptor the owner has to look at: a bit each, set after the
    /// word.
    words: AtomicU32,
    /// For each vector that waits, whether it is level triggered.
    level: [AtomicU32; 8],
    events: AtomicU32,
    /// Errors that senders caused on the receiver's side (ESR bits).
    errors: AtomicU32,
    info: AtomicU64,
}

/// A consistent view of one APIC, as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LapicIdInfo {
    /// The APIC id: 2 * vcpu.
    pub id: u8,
    /// xAPIC: the logical id (LDR bits 31:24). In x2APIC mode it follows from `id`.
    pub logical_id: u8,
    /// xAPIC logical model: flat, or (else) cluster.
    pub flat: bool,
    pub x2apic: bool,
    /// Enabled in APIC_BASE.
    pub hw_enabled: bool,
    /// Enabled in the spurious vector register too: takes fixed interrupts.
    pub enabled: bool,
    /// The processor priority, for lowest-priority arbitration.
    pub priority: u8,
}

impl LapicIdInfo {
    fn pack(self) -> u64 {
        u64::from(self.id)
            | u64::from(self.logical_id) << 8
            | u64::from(self.priority) << 16
            | u64::from(self.flat) << 24
            | u64::from(self.x2apic) << 25
            | u64::from(self.hw_enabled) << 26
            | u64::from(self.enabled) << 27
    }

    fn unpack(word: u64) -> Self {
        Self {
            id: word as u8,
            logical_id: (word >> 8) as u8,
            priority: (word >> 16) as u8,
            flat: word & 1 << 24 != 0,
            x2apic: word & 1 << 25 != 0,
            hw_enabled: word & 1 << 26 != 0,
            enabled: word & 1 << 27 != 0,
        }
    }

    /// SDM "Logical x2APIC ID": cluster in 31:16, one bit of 16 below.
    pub(super) fn x2apic_ldr(id: u8) -> u32 {
        u32::from(id >> 4) << 16 | 1 << (id & 0xf)
    }

    /// Whether this APIC is among the addressees of `dest`.
    pub fn matches(&self, dest: Destination) -> bool {
        if !self.hw_enabled {
            return false;
        }
        if dest.is_broadcast() {
            return true;
        }
        if !dest.logical {
            return dest.id == u32::from(self.id);
        }
        if self.x2apic {
            let ldr = Self::x2apic_ldr(self.id);
            return ldr >> 16 == dest.id >> 16 && ldr & dest.id & 0xffff != 0;
        }
        let Ok(mda) = u8::try_from(dest.id) else {
            return false;
        };
        if self.flat {
            self.logical_id & mda != 0
        } else {
            self.logical_id >> 4 == mda >> 4 && self.logical_id & mda & 0xf != 0
        }
    }
}

impl LapicPosted {
    pub fn info(&self) -> LapicIdInfo {
        LapicIdInfo::unpack(self.info.load(Ordering::Relaxed))
    }

    /// Posts a fixed interrupt. The caller wakes or kicks the vcpu on [`Posted::New`].
    pub fn post(&self, vector: u8, level: bool) -> Posted {
        fence(Ordering::SeqCst);
        if !self.info().enabled {
            return Posted::Ignored;
        }
        if vector < FIRST_VECTOR {
            let old = self.errors.fetch_or(ESR_RECEIVE_ILLEGAL, Ordering::AcqRel);
            return if old == 0 {
                Posted::New
            } else {
                Posted::Merged
            };
        }
        let (word, bit) = place(vector);
        let old = if level {
            self.level[word].fetch_or(bit, Ordering::Relaxed)
        } else {
            self.level[word].fetch_and(!bit, Ordering::Relaxed)
        };
        let edge = !level && old & bit == 0;
        let requests = if edge {
            &self.descriptor.requests
        } else {
            &self.irr
        };
        if requests[word].fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            self.words.fetch_or(1 << word, Ordering::AcqRel);
            Posted::New
        } else {
            Posted::Merged
        }
    }

    /// Returns whether it is news, and the vcpu must be woken or kicked.
    pub fn post_nmi(&self) -> bool {
        self.events.fetch_or(EVENT_NMI, Ordering::AcqRel) & EVENT_NMI == 0
    }

    /// An INIT overtakes a SIPI that was not taken yet: that one is void.
    pub fn post_init(&self) -> bool {
        self.events
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
                Some((old | EVENT_INIT) & !(EVENT_STARTUP | EVENT_PAGE))
            })
            .is_ok_and(|old| old & EVENT_INIT == 0)
    }

    /// The first SIPI wins: a second one before the first was taken changes nothing.
    pub fn post_startup(&self, page: u8) -> bool {
        self.events
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
                (old & EVENT_STARTUP == 0).then_some(old | EVENT_STARTUP | u32::from(page))
            })
            .is_ok()
    }

    /// Whether a start-up IPI waits for the owner.
    pub fn startup_pending(&self) -> bool {
        self.events.load(Ordering::Acquire) & EVENT_STARTUP != 0
    }

    pub fn init_pending(&self) -> bool {
        self.events.load(Ordering::Acquire) & EVENT_INIT != 0
    }

    pub fn nmi_pending(&self) -> bool {
        self.events.load(Ordering::Acquire) & EVENT_NMI != 0
    }

    /// Is there anything for the owner? Asked before a vcpu blocks.
    pub fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        self.only_for_descriptor() && all_zero(&self.descriptor.requests)
    }

    fn only_for_descriptor(&self) -> bool {
        self.events.load(Ordering::Acquire) == 0
            && self.errors.load(Ordering::Acquire) == 0
            && all_zero(&self.irr)
    }

    /// Can the hardware of the CPU that runs the vcpu take all that waits, when it is notified?
    /// Then nobody has to make it leave its guest.
    pub fn hardware_takes_all(&self) -> bool {
        if !self.descriptor.is_armed() {
            return false;
        }
        fence(Ordering::SeqCst);
        self.only_for_descriptor()
    }

    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Whether the owner has to merge posted words before it enters the guest. Only for the owner.
    pub(super) fn has_news(&self) -> bool {
        self.words.load(Ordering::Acquire) != 0
            || self.errors.load(Ordering::Acquire) != 0
            || self.descriptor.is_announced()
    }

    /// Owner: takes NMI, INIT and SIPI.
    pub fn take_events(&self) -> Events {
        if self.events.load(Ordering::Acquire) == 0 {
            return Events::default();
        }
        let word = self.events.swap(0, Ordering::AcqRel);
        Events {
            nmi: word & EVENT_NMI != 0,
            init: word & EVENT_INIT != 0,
            startup: (word & EVENT_STARTUP != 0).then_some((word & EVENT_PAGE) as u8),
        }
    }

    /// Owner: moves what was posted into `irr` and `tmr`; returns posted ESR bits.
    pub(super) fn merge_into(&self, irr: &mut Vectors, tmr: &mut Vectors) -> u32 {
        // First: who finds it set from here on counts on what follows.
        self.descriptor.settle();
        let mut words = match self.words.load(Ordering::Acquire) {
            0 => 0,
            _ => self.words.swap(0, Ordering::AcqRel),
        };
        while words != 0 {
            let word = words.trailing_zeros() as usize % 8;
            words &= words - 1;
            let posted = take(&self.irr[word]) | take(&self.descriptor.requests[word]);
            let level = self.level[word].load(Ordering::Relaxed);
            irr.0[word] |= posted;
            tmr.0[word] = tmr.0[word] & !posted | level & posted;
        }
        match self.errors.load(Ordering::Acquire) {
            0 => 0,
            _ => self.errors.swap(0, Ordering::AcqRel),
        }
    }

    /// Owner: shows its new state to senders.
    pub(super) fn publish(&self, info: LapicIdInfo) {
        let word = info.pack();
        if self.info.load(Ordering::Relaxed) != word {
            self.info.store(word, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
    }

    /// Owner, at INIT: forgets vectors and errors, not NMI or SIPI.
    pub(super) fn discard(&self) {
        // First, so that no vector that comes meanwhile stays unseen.
        self.words.store(0, Ordering::SeqCst);
        for word in self.irr.iter().chain(&self.descriptor.requests) {
            word.store(0, Ordering::Release);
        }
        self.errors.store(0, Ordering::Release);
    }
}

fn all_zero(words: &[AtomicU32; 8]) -> bool {
    words.iter().all(|word| word.load(Ordering::Acquire) == 0)
}

fn take(word: &AtomicU32) -> u32 {
    match word.load(Ordering::Acquire) {
        0 => 0,
        _ => word.swap(0, Ordering::AcqRel),
    }
}
