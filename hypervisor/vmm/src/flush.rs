//! Flushing a guest's translations: a generation per domain, compared at each entry, and everybody
//! who is inside at the moment is made to leave. For a domain on shadows it is kept what changed, as far as
//! there is room.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_mm::{Cause, FlushGuest};
use oxen_types::{DomainId, Gfn};
use spin::Mutex;

use crate::percpu;

pub struct Flush {
    domain: DomainId,
    generation: AtomicU64,
    /// A leaf lock: nothing else is taken inside.
    history: Option<Mutex<History>>,
}

/// What made the generation rise.
#[derive(Clone, Copy)]
pub enum Change {
    Page(Gfn),
    Many,
    /// The guest's own tables.
    Guest,
}

/// Changes that are remembered: a batch of a grant's unmappings has 64.
const REMEMBERED: usize = 128;

struct History {
    last: [(u64, Change); REMEMBERED],
    next: usize,
}

impl Flush {
    /// `shadowed`: what changed is to be remembered.
    pub fn new(domain: DomainId, shadowed: bool) -> Arc<Self> {
        let none = (0, Change::Guest);
        let history = shadowed.then(|| {
            Mutex::new(History {
                last: [none; REMEMBERED],
                next: 0,
            })
        });
        Arc::new(Self {
            domain,
            generation: AtomicU64::new(1),
            history,
        })
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Tells what changed after a generation, the youngest not always last. False if not all of it is known any
    /// more.
    pub fn changes_since(&self, generation: u64, mut each: impl FnMut(Change)) -> bool {
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

    /// Who sees the new generation finds the change.
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

impl History {
    fn note(&mut self, generation: u64, change: Change) {
        if let Some(slot) = self.last.get_mut(self.next) {
            *slot = (generation, change);
        }
        self.next = (self.next + 1) % REMEMBERED;
    }
}

/// The p2m's handle on it.
pub struct FlushHandle(pub Arc<Flush>);

impl FlushGuest for FlushHandle {
    fn flush(&self, cause: Cause<'_>) {
        self.0.raise(cause);
        percpu::expel(self.0.domain);
    }
}
