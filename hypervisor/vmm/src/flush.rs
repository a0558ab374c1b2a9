//! Flushing a guest's translations: a domain has a generation, which each CPU compares at each
//! entry; a CPU that is inside at the moment is made to leave. For a domain on shadows, the changes
//! are kept too, as far as there is room.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_mm::{Cause, FlushGuest};
use oxen_paging::shadow::{Change, P2mFlush};
use oxen_types::DomainId;
use spin::Mutex;

use crate::percpu::Expel;

/// A domain's flush generation.
pub(crate) struct Flush {
    domain: DomainId,
    cpus: &'static dyn Expel,
    generation: AtomicU64,
    /// A leaf lock: nothing else is taken inside.
    history: Option<Mutex<History>>,
}

/// Changes that are remembered: a batch of a grant's unmappings has 64.
const REMEMBERED: usize = 128;

struct History {
    last: [(u64, Change); REMEMBERED],
    next: usize,
}

impl Flush {
    /// `shadowed`: changes are kept.
    pub(crate) fn new(domain: DomainId, cpus: &'static dyn Expel, shadowed: bool) -> Arc<Self> {
        let none = (0, Change::Guest);
        let history = shadowed.then(|| {
            Mutex::new(History {
                last: [none; REMEMBERED],
                next: 0,
            })
        });
        Arc::new(Self {
            domain,
            cpus,
            generation: AtomicU64::new(1),
            history,
        })
    }

    /// Translations that were made before the generation last rose are out of date.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Makes each CPU that is in the domain's guest leave it.
    fn expel(&self) {
        self.cpus.expel(self.domain);
    }

    /// A CPU that sees the new generation finds the change.
    fn raise(&self, cause: Cause<'_>) {
        let mut history = self.history.as_ref().map(|history| history.lock());
        let new = self.generation.load(Ordering::SeqCst) + 1;
        if let Some(history) = &mut history {
            match cause {
                Cause::Pages(pages) => pages
                    .iter()
                    .for_each(|gfn| history.note(new, Change::Page(*gfn))),
                Cause::Many => history.note(new, Change::Many),
                Cause::Guest => history.note(new, Change::Guest),
            }
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl P2mFlush for Flush {
    fn generation(&self) -> u64 {
        Flush::generation(self)
    }

    fn changes_since(&self, generation: u64, each: &mut dyn FnMut(Change)) -> bool {
        let Some(history) = &self.history else {
            return false;
        };
        let history = history.lock();
        // The slot that is overwritten next is the oldest; what is lost is not younger.
        let oldest = history
            .last
            .get(history.next)
            .map_or(u64::MAX, |(at, _)| *at);
        let known = oldest <= generation;
        if known {
            let later = history.last.iter().filter(|(at, _)| *at > generation);
            later.for_each(|(_, change)| each(*change));
        }
        known
    }

    fn expel(&self) {
        Flush::expel(self);
    }
}

impl History {
    fn note(&mut self, generation: u64, change: Change) {
        if let Some(slot) = self.last.get_mut(self.next) {
            *slot = (generation, change);
        }
        self.next = (self.next + 1) % REMEMBERED;
    }
}

/// The p2m's handle on a domain's generation.
pub(crate) struct FlushHandle(pub(crate) Arc<Flush>);

impl FlushGuest for FlushHandle {
    fn flush(&self, cause: Cause<'_>) {
        self.0.raise(cause);
        self.0.expel();
    }
}
