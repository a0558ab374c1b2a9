//! Flushing a guest's translations: a generation per domain, compared at each entry, and everybody
//! who is inside at the moment is made to leave.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_mm::FlushGuest;
use oxen_types::DomainId;

use crate::percpu;

pub struct Flush {
    domain: DomainId,
    generation: AtomicU64,
}

impl Flush {
    pub fn new(domain: DomainId) -> Arc<Self> {
        Arc::new(Self {
            domain,
            generation: AtomicU64::new(1),
        })
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

/// The p2m's handle on it.
pub struct FlushHandle(pub Arc<Flush>);

impl FlushGuest for FlushHandle {
    fn flush(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        percpu::expel(self.0.domain);
    }
}
