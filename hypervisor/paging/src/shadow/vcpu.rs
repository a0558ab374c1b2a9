//! A vcpu's place in the shadows of its domain.
//!
//! A vcpu enters only with a root that belongs to the cache as it is. Two generations say so, both
//! raised before all vcpus are made to leave the guest: the p2m's, which the cache follows before
//! any vcpu enters, and the TLBs', which the cache raises when it takes rights or tables away. No
//! CPU that counts as inside the guest waits for the cache's lock.

use oxen_mm::FrameTable;
use oxen_types::paging::ShadowRoots;
use oxen_types::{DomainId, Part, Vaddr};

use super::cache::View;
use super::domain::{DomainShadow, Guest};
use super::fault::{Answer, control_bits, fault};
use super::{Built, P2mFlush, ShadowSpace};
use crate::walk::Paging;

/// The root on which a vcpu runs.
pub struct VcpuShadow {
    _built: Built,
    view: View,
    /// The control bits and CR3 that the root was taken for.
    control: u16,
    cr3: u64,
    /// The domain's generations when the root was taken, or checked for the last time.
    generation: u64,
    tlb: u64,
    /// The guest loaded CR3, perhaps with the value that was there.
    reload: bool,
}

impl VcpuShadow {
    /// A vcpu without a root yet; `None` if there is no frame below 4 GiB for it.
    pub fn new(frames: &'static FrameTable, domain: DomainId) -> Option<Self> {
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

    /// The roots for the time before the first [`VcpuShadow::prepare`].
    pub fn roots(&self) -> ShadowRoots {
        ShadowRoots {
            long: self.view.pae(),
            pae: self.view.pae(),
        }
    }

    /// The guest loads CR3.
    pub fn new_address_space(&mut self) {
        self.reload = true;
    }

    /// Whether the guest may be entered with the root as it is. To be called when this CPU counts
    /// as inside the guest already.
    pub fn is_ready<F: P2mFlush>(&self, shared: &DomainShadow<F>, paging: &Paging) -> bool {
        !self.reload
            && self.cr3 == paging.cr3
            && (self.generation, self.tlb) == shared.generations()
            && self.control == control_bits(paging)
    }

    /// Takes a root for what the guest's registers say. Returns the new roots if the CPU's CR3 has
    /// to change. The caller flushes the vcpu's TLB.
    pub fn prepare<F: P2mFlush>(
        &mut self,
        shared: &DomainShadow<F>,
        space: &(impl ShadowSpace + ?Sized),
        paging: &Paging,
    ) -> Option<ShadowRoots> {
        let control = control_bits(paging);
        let followed = &mut *shared.lock();
        let generation = followed.follow(shared);
        let cache = &mut followed.cache;
        let moved = self.reload || self.cr3 != paging.cr3 || self.control != control;
        let roots = (moved || cache.is_stale(&self.view)).then(|| {
            let long = cache.activate(&mut self.view, paging, &Guest { shared, space });
            (self.control, self.cr3) = (control, paging.cr3);
            self.reload = false;
            ShadowRoots {
                long,
                pae: self.view.pae(),
            }
        });
        self.generation = generation;
        self.tlb = shared.tlb();
        roots
    }

    /// Handles a page fault of the guest; `code` is the CPU's error code. A page that the guest may
    /// use is in the shadow when this returns.
    pub fn fault<F: P2mFlush>(
        &mut self,
        shared: &DomainShadow<F>,
        space: &(impl ShadowSpace + ?Sized),
        paging: &Paging,
        address: Vaddr,
        code: u32,
    ) -> Answer {
        // The p2m is read and the shadow written under one lock: the cache follows a change of the
        // p2m in between after this.
        let followed = &mut *shared.lock();
        let answer = fault(space, paging, address, code);
        if let Answer::Fill(fill) = &answer {
            let guest = Guest { shared, space };
            followed.cache.fill(&mut self.view, paging, fill, &guest);
        }
        answer
    }
}

#[cfg(test)]
impl VcpuShadow {
    pub(super) fn view(&self) -> &View {
        &self.view
    }
}
