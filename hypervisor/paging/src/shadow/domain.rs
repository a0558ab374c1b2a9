//! The shadows of a domain: its cache, kept in step with the p2m.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_mm::FrameTable;
use oxen_types::{DomainId, Gfn, Mfn, PAGE_SIZE, Part, Result};
use spin::{Mutex, MutexGuard};

use super::cache::{Allowance, Cache, ShadowedGuest};
use super::{Built, Change, Counts, P2mFlush, ShadowSpace};

/// The most pages of a pool: 256 MiB. More is of no use.
const MOST_PAGES: usize = 1 << 16;

/// The shadows that a domain's vcpus share.
pub struct DomainShadow<F> {
    _built: Built,
    p2m: Arc<F>,
    cache: Mutex<Followed>,
    /// Raised when TLBs have to forget what the cache had.
    tlb: AtomicU64,
}

/// A cache, and how far it has followed the p2m.
pub(super) struct Followed {
    pub(super) cache: Cache,
    /// The p2m's generation whose changes the cache knows.
    generation: u64,
}

impl Followed {
    /// Takes out what the p2m's changes made wrong. Returns the generation that the cache knows
    /// then.
    pub(super) fn follow<F: P2mFlush>(&mut self, shared: &DomainShadow<F>) -> u64 {
        let new = shared.p2m.generation();
        if self.generation == new {
            return new;
        }
        let cache = &mut self.cache;
        let mut whole = false;
        let mut left = Allowance::for_changes();
        let known = shared.p2m.changes_since(self.generation, &mut |change| {
            whole = whole
                || match change {
                    Change::Page(gfn) => !cache.page_changed(gfn.raw(), &mut left),
                    Change::Many => true,
                    Change::Guest => !cache.resync(),
                }
        });
        if whole || !known {
            // The CPU that raised the generation may not have made others leave the guest yet.
            shared.flush();
            cache.reset();
        }
        self.generation = new;
        new
    }
}

impl<F: P2mFlush> DomainShadow<F> {
    /// Shadows with a pool of so many pages; `None` if the machine has not so many. `secret` is for
    /// the cache's hash: random, and known to no guest.
    pub fn new(
        frames: &'static FrameTable,
        domain: DomainId,
        p2m: Arc<F>,
        pages: usize,
        secret: [u64; 2],
    ) -> Option<Self> {
        let cache = Cache::new(frames, domain, pages, secret)?;
        let generation = 0;
        Some(Self {
            _built: Built::BUILT?,
            p2m,
            cache: Mutex::new(Followed { cache, generation }),
            tlb: AtomicU64::new(0),
        })
    }

    /// The pool's size in bytes.
    pub fn pool(&self) -> u64 {
        (self.lock().cache.pages() * PAGE_SIZE) as u64
    }

    /// Brings the pool nearer to a size in bytes, by a step. True if the size is reached.
    ///
    /// # Errors
    /// `NoMem` if there is not enough free memory.
    pub fn set_pool(&self, bytes: u64) -> Result<bool> {
        let pages = usize::try_from(bytes / PAGE_SIZE as u64).unwrap_or(usize::MAX);
        self.lock()
            .cache
            .resize(pages.min(MOST_PAGES), || self.flush())
    }

    /// The cache's work so far; `None` if some CPU has the cache locked.
    pub fn counts(&self) -> Option<Counts> {
        Some(self.cache.try_lock()?.cache.counts())
    }

    /// Follows the guest's INVLPG, of whatever page. The caller flushes the vcpu's TLB.
    pub fn invalidate(&self) {
        self.lock().cache.resync_or_forget(|| self.flush());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Followed> {
        self.cache.lock()
    }

    /// The p2m's generation, and the TLBs'. A vcpu enters only if both are those of its root.
    pub(super) fn generations(&self) -> (u64, u64) {
        (self.p2m.generation(), self.tlb())
    }

    pub(super) fn tlb(&self) -> u64 {
        self.tlb.load(Ordering::SeqCst)
    }

    fn flush(&self) {
        self.tlb.fetch_add(1, Ordering::SeqCst);
        self.p2m.expel();
    }
}

/// A domain's guest, as the cache sees it.
pub(super) struct Guest<'a, F, S: ?Sized> {
    pub(super) shared: &'a DomainShadow<F>,
    pub(super) space: &'a S,
}

impl<F: P2mFlush, S: ShadowSpace + ?Sized> ShadowedGuest for Guest<'_, F, S> {
    fn frame(&self, gfn: u64) -> Option<Mfn> {
        let gfn = Gfn::new(gfn);
        // Tables lie in RAM.
        self.space.read_u64(gfn.base())?;
        Some(self.space.page(gfn)?.mfn)
    }

    fn flush(&self) {
        self.shared.flush();
    }
}
