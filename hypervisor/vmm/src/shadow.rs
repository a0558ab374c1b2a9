//! Guests without nested paging: the domain's cache of shadows, and each vcpu's place in it.
//!
//! A vcpu enters only with a root that belongs to the cache as it is. Two generations tell, both raised before
//! all vcpus are made to leave the guest: the p2m's, which the cache follows before anybody enters, and the cache's
//! own, when it takes rights or tables away. The cache's lock is never waited for by a CPU that counts as inside.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use oxen_core::seams::GuestMemory;
use oxen_mm::FrameTable;
use oxen_paging::shadow::{self, Allowance, Answer, Cache, Counts, ShadowedGuest, View};
use oxen_paging::walk::Paging;
use oxen_types::{DomainId, Gfn, PAGE_SIZE, Part, Result, Vaddr};
use oxen_virt::{ShadowRoots, VcpuBackend};
use spin::Mutex;

use crate::domain::HvmDomain;
use crate::flush::{Change, Flush};
use crate::host::Host;
use crate::space::Ram;

#[cfg(feature = "shadow")]
type Built = oxen_types::Present;
#[cfg(not(feature = "shadow"))]
type Built = oxen_types::Absent;

/// Whether guests can run without nested paging.
pub const SHADOW: bool = Built::BUILT.is_some();

/// 256 MiB: more is of no use.
const MOST: usize = 1 << 16;

/// What a domain's vcpus share.
pub(crate) struct DomainShadow {
    _built: Built,
    p2m: Arc<Flush>,
    cache: Mutex<Followed>,
    /// Raised when TLBs have to forget what the cache had.
    tlb: AtomicU64,
}

struct Followed {
    cache: Cache,
    /// The p2m's generation that it knows of.
    generation: u64,
}

impl Followed {
    /// Takes out what the p2m's changes made wrong.
    fn follow(&mut self, flush: &Flush, shared: &DomainShadow) -> u64 {
        let new = flush.generation();
        if self.generation == new {
            return new;
        }
        let cache = &mut self.cache;
        let mut whole = false;
        let mut left = Allowance::for_changes();
        let known = flush.changes_since(self.generation, |change| {
            whole = whole
                || match change {
                    Change::Page(gfn) => !cache.page_changed(gfn.raw(), &mut left),
                    Change::Many => true,
                    Change::Guest => !cache.resync(),
                }
        });
        if whole || !known {
            // Whoever raised the generation may still be about to make others leave the guest.
            shared.flush();
            cache.reset();
        }
        self.generation = new;
        new
    }
}

impl DomainShadow {
    /// With a pool of so many pages to begin with.
    /// `key` is for the cache's hash: a guest that knew it could make its shadows slow to find.
    pub(crate) fn new(
        frames: &'static FrameTable,
        domain: DomainId,
        p2m: Arc<Flush>,
        pages: usize,
        key: [u64; 2],
    ) -> Option<Self> {
        let cache = Cache::new(frames, domain, pages, key)?;
        let generation = 0;
        Some(Self {
            _built: Built::BUILT?,
            p2m,
            cache: Mutex::new(Followed { cache, generation }),
            tlb: AtomicU64::new(0),
        })
    }

    /// Its pool's size, in bytes.
    pub(crate) fn pool(&self) -> u64 {
        (self.cache.lock().cache.pages() * PAGE_SIZE) as u64
    }

    /// Brings the pool nearer to a size, by a step; true if it is there.
    pub(crate) fn set_pool(&self, bytes: u64) -> Result<bool> {
        let pages = usize::try_from(bytes / PAGE_SIZE as u64).unwrap_or(usize::MAX);
        let followed = &mut *self.cache.lock();
        followed.cache.resize(pages.min(MOST), || self.flush())
    }

    /// What was done so far, if nobody is at it just now.
    pub(crate) fn counts(&self) -> Option<Counts> {
        Some(self.cache.try_lock()?.cache.counts())
    }

    fn flush(&self) {
        self.tlb.fetch_add(1, Ordering::SeqCst);
        self.p2m.expel();
    }

    fn around<'a>(&'a self, memory: &'a dyn GuestMemory) -> Outside<'a> {
        Outside {
            shadow: self,
            memory,
        }
    }
}

struct Outside<'a> {
    shadow: &'a DomainShadow,
    memory: &'a dyn GuestMemory,
}

impl ShadowedGuest for Outside<'_> {
    fn frame(&self, gfn: u64) -> Option<oxen_types::Mfn> {
        // Tables lie in RAM.
        let at = Gfn::new(gfn).base();
        self.memory.read_word(at).ok()?;
        Some(self.memory.mapping(Gfn::new(gfn))?.mfn)
    }

    fn flush(&self) {
        self.shadow.flush();
    }
}

pub(crate) struct VcpuShadow {
    _built: Built,
    view: View,
    /// What its root was taken for: bits of control registers, and CR3.
    control: u16,
    cr3: u64,
    generation: u64,
    tlb: u64,
    /// The guest loaded CR3, perhaps with what it was.
    reload: bool,
}

impl VcpuShadow {
    pub(crate) fn new(frames: &'static FrameTable, domain: DomainId) -> Option<Self> {
        Some(Self {
            _built: Built::BUILT?,
            view: View::new(frames, domain)?,
            control: 0,
            cr3: 0,
            generation: 0,
            tlb: 0,
            reload: true,
        })
    }

    pub(crate) fn roots(&self) -> ShadowRoots {
        ShadowRoots {
            long: self.view.pae(),
            pae: self.view.pae(),
        }
    }

    /// A load of CR3.
    pub(crate) fn new_address_space(&mut self) {
        self.reload = true;
    }

    /// May the guest be entered with the root as it is? Asked while this CPU counts as inside already.
    pub(crate) fn is_ready<H: Host>(&self, hvm: &HvmDomain<H>, backend: &dyn VcpuBackend) -> bool {
        let Some(shared) = &hvm.shadow else {
            return true;
        };
        let paging = backend.execution().paging(hvm.limits());
        !self.reload
            && self.cr3 == paging.cr3
            && self.generation == hvm.flush.generation()
            && self.tlb == shared.tlb.load(Ordering::SeqCst)
            && self.control == shadow::control_bits(&paging)
    }

    /// Takes a root for what the guest's registers say.
    pub(crate) fn prepare<H: Host>(
        &mut self,
        hvm: &HvmDomain<H>,
        memory: &dyn GuestMemory,
        backend: &mut dyn VcpuBackend,
    ) {
        let Some(shared) = &hvm.shadow else {
            return;
        };
        let paging = backend.execution().paging(hvm.limits());
        let control = shadow::control_bits(&paging);
        let followed = &mut *shared.cache.lock();
        let generation = followed.follow(&hvm.flush, shared);
        let cache = &mut followed.cache;
        let moved = self.reload || self.cr3 != paging.cr3 || self.control != control;
        if moved || cache.is_stale(&self.view) {
            let around = shared.around(memory);
            let long = cache.activate(&mut self.view, &paging, &around);
            let pae = self.view.pae();
            backend.move_shadow_roots(ShadowRoots { long, pae });
            (self.control, self.cr3) = (control, paging.cr3);
            self.reload = false;
        }
        self.generation = generation;
        self.tlb = shared.tlb.load(Ordering::SeqCst);
        backend.flush_tlb();
    }

    /// A page fault: what the cache can settle, it does.
    pub(crate) fn fault<H: Host>(
        &mut self,
        hvm: &HvmDomain<H>,
        memory: &dyn GuestMemory,
        paging: &Paging,
        address: Vaddr,
        code: u32,
    ) -> Answer {
        let Some(shared) = &hvm.shadow else {
            return Answer::Retry;
        };
        // The p2m is read and the shadow written under one lock: the cache follows who changes the p2m in between
        // after this.
        let followed = &mut *shared.cache.lock();
        let answer = shadow::fault(&Ram(memory), paging, address, code);
        if let Answer::Fill(fill) = &answer {
            let around = shared.around(memory);
            let cache = &mut followed.cache;
            cache.fill(&mut self.view, paging, fill, &around);
        }
        answer
    }

    /// INVLPG, of whatever page. The caller flushes the TLB.
    pub(crate) fn invalidate<H: Host>(&mut self, hvm: &HvmDomain<H>) {
        if let Some(shared) = &hvm.shadow {
            let cache = &mut shared.cache.lock().cache;
            cache.resync_or_forget(|| shared.flush());
        }
    }
}
