//! A vcpu's roots in the cache.

use core::sync::atomic::Ordering;

use oxen_mm::pt::NoMemory;
use oxen_mm::{AllocOptions, FrameTable};
use oxen_types::{DomainId, Maddr, Mfn};

use super::key::Key;
use super::pool::{NONE, Pair, Pool};
use super::{Cache, ShadowedGuest, root};
use crate::walk::Paging;

/// A vcpu's roots.
pub(crate) struct View {
    /// One of four levels, or the four tables of a root of three.
    pub(super) roots: [Pair; 4],
    pub(super) long: bool,
    /// The root of three levels: a page of its own, below 4 GiB.
    pae: Mfn,
    /// The cache's epoch when the roots were taken.
    epoch: u64,
    frames: &'static FrameTable,
}

impl View {
    /// A vcpu without roots yet; `None` if there is no frame below 4 GiB.
    pub(crate) fn new(frames: &'static FrameTable, owner: DomainId) -> Option<Self> {
        let low = AllocOptions {
            zeroed: true,
            below_4g: true,
            node: None,
        };
        Some(Self {
            roots: [NONE; 4],
            long: false,
            pae: frames.alloc_own(0, owner, low)?,
            epoch: u64::MAX,
            frames,
        })
    }

    /// The root of three levels.
    pub(crate) fn pae(&self) -> Maddr {
        self.pae.base()
    }

    pub(super) fn link_pae(&self, pool: &Pool) {
        const PRESENT: u64 = 1;
        let entries = self.frames.phys().table(self.pae);
        for (entry, root) in entries.iter().zip(self.roots) {
            let table = pool.mfn(root).filter(|_| !self.long);
            let value = table.map_or(0, |table| table.base().raw() | PRESENT);
            entry.store(value, Ordering::Release);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.frames.free_own(self.pae, 1);
    }
}

impl Cache {
    /// Whether the vcpu has to take a root before it enters.
    pub(crate) fn is_stale(&self, view: &View) -> bool {
        view.epoch != self.epoch
    }

    /// Gives the vcpu a root for what its registers say. Returns what the CPU's CR3 holds from now
    /// on. The caller flushes the vcpu's TLB.
    pub(crate) fn activate(
        &mut self,
        view: &mut View,
        paging: &Paging,
        guest: &impl ShadowedGuest,
    ) -> Maddr {
        self.activate_root(view, root(paging).as_ref(), guest)
    }

    /// As [`Cache::activate`]; `top` is the key of the guest's top table in long mode.
    pub(super) fn activate_root(
        &mut self,
        view: &mut View,
        top: Option<&Key>,
        guest: &impl ShadowedGuest,
    ) -> Maddr {
        self.resync_or_forget(|| guest.flush());
        self.let_go(view);
        view.long = top.is_some();
        let root = top.map(|key| match self.get(key, guest) {
            Ok(root) => root,
            Err(NoMemory) => {
                self.forget(guest);
                self.get(key, guest).unwrap_or(NONE)
            }
        });
        view.epoch = self.epoch;
        if let (Some(root), Some(place)) = (root, view.roots.first_mut()) {
            self.pool.hold(root);
            *place = root;
        }
        view.link_pae(&self.pool);
        let root = root.and_then(|root| self.pool.mfn(root));
        root.map_or(view.pae(), Mfn::base)
    }

    /// Takes the vcpu's roots back.
    fn let_go(&mut self, view: &mut View) {
        let stale = self.is_stale(view);
        for root in &mut view.roots {
            if *root != NONE && !stale {
                self.pool.release(*root);
            }
            *root = NONE;
        }
    }
}
