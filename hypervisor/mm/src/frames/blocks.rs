//! Allocation: blocks of the hypervisor's own, guests' RAM, and frames that dom0 has by number.

use oxen_types::{DomainId, Mfn};

use super::buddy::{self, MAX_ORDER, Zone};
use super::entry::{FrameUse, State};
use super::{FOUR_GIB, FrameTable};

/// The properties that a block of frames must have.
#[derive(Clone, Copy, Default, Debug)]
pub struct AllocOptions {
    /// Filled with zeros.
    pub zeroed: bool,
    /// Below 4 GiB, where 32-bit code and devices reach the block.
    pub below_4g: bool,
    /// The node to take from if it has something.
    pub node: Option<u8>,
}

impl FrameTable {
    /// A block of 2^order frames for the hypervisor itself, accounted to `owner` in name only.
    pub fn alloc_own(&self, order: u32, owner: DomainId, options: AllocOptions) -> Option<Mfn> {
        let at = self.take_block(order, options)?;
        self.set_run(at, 1 << order, State::new(FrameUse::Own, owner));
        if options.zeroed {
            self.phys.zero(at, 1 << order);
        }
        Some(at)
    }

    /// Frees frames of the hypervisor's own: parts and joints of blocks too, and boot modules.
    pub fn free_own(&self, at: Mfn, count: u64) {
        let freed = self.count_while(at, count, |entry| {
            let state = entry.state();
            state.used() == FrameUse::Own && entry.change(state, buddy::FREE)
        });
        assert!(freed == count, "{at:?} + {freed:#x} freed twice");
        self.free_run(at, count);
    }

    /// Guest RAM: 2^order zeroed frames with one reference each. The caller has charged them.
    pub(crate) fn alloc_ram(&self, order: u32, owner: DomainId) -> Option<Mfn> {
        let at = self.take_for(owner, order, true, AllocOptions::default())?;
        self.phys.zero(at, 1 << order);
        self.set_run(at, 1 << order, State::counted(owner, true, false));
        Some(at)
    }

    /// One zeroed frame with one reference, not charged as RAM.
    pub(super) fn alloc_counted(&self, owner: DomainId) -> Option<Mfn> {
        let at = self.take_for(owner, 0, false, AllocOptions::default())?;
        if !self.charge_other(owner) {
            self.free_run(at, 1);
            return None;
        }
        self.phys.zero(at, 1);
        self.entry(at).set(State::counted(owner, false, false));
        Some(at)
    }

    /// One frame of the hypervisor's own that a domain's configuration asks for: a page of its
    /// paging pool.
    pub fn alloc_prepaid(&self, owner: DomainId) -> Option<Mfn> {
        let at = self.take_for(owner, 0, false, AllocOptions::default())?;
        self.entry(at).set(State::new(FrameUse::Own, owner));
        Some(at)
    }

    /// Sets free RAM frames, and the first MiB's, of a range aside for `owner`, who populates them
    /// by number. Frames in use are left out. Returns how many there were.
    pub fn reserve_identity(&self, start: Mfn, count: u64, owner: DomainId) -> u64 {
        let aside = State::new(FrameUse::SetAside, owner);
        let low_own = State::new(FrameUse::Own, DomainId::XEN);
        let (mut at, end, mut taken) = (start.raw(), start.raw() + count, 0);
        while at < end {
            let mfn = Mfn::new(at);
            let step = match self.use_of(mfn) {
                FrameUse::Free => {
                    let zone = self.zone_of(mfn);
                    let free = zone.map_or(0, |zone| zone.take(self, mfn, end - at));
                    self.set_run(mfn, free, aside);
                    free
                }
                FrameUse::Own if at < 0x100 => self.entry(mfn).change(low_own, aside).into(),
                _ => 0,
            };
            taken += step;
            at += step.max(1);
        }
        taken
    }

    /// Takes 2^order set-aside frames by number, with one reference each: all or none. The caller
    /// has charged them.
    pub(crate) fn take_identity(&self, at: Mfn, order: u32, owner: DomainId, zeroed: bool) -> bool {
        let aside = State::new(FrameUse::SetAside, owner);
        let used = State::counted(owner, true, true);
        let taken = self.count_while(at, 1 << order, |entry| entry.change(aside, used));
        if taken < 1 << order {
            // Nobody had a chance to take references yet.
            self.set_run(at, taken, aside);
            return false;
        }
        if zeroed {
            self.phys.zero(at, 1 << order);
        }
        true
    }

    fn zones(&self) -> impl DoubleEndedIterator<Item = &Zone> {
        self.zones.iter().flatten()
    }

    fn zone_of(&self, mfn: Mfn) -> Option<&Zone> {
        self.zones().find(|zone| zone.contains(mfn))
    }

    pub(super) fn take_block(&self, order: u32, options: AllocOptions) -> Option<Mfn> {
        if order > MAX_ORDER {
            return None;
        }
        // High memory first: what devices and 32-bit code need lies below.
        let fits = |zone: &&Zone| !options.below_4g || zone.end <= FOUR_GIB;
        let near = |zone: &&Zone| options.node.is_none_or(|node| node == zone.node);
        let alloc = |zone: &Zone| zone.alloc(self, order);
        let zones = || self.zones().rev().filter(fits);
        zones()
            .filter(near)
            .find_map(alloc)
            .or_else(|| zones().filter(|zone| !near(zone)).find_map(alloc))
    }

    /// Gives frames in the state `Free` to the allocator, in the largest blocks that they form.
    pub(super) fn free_run(&self, at: Mfn, count: u64) {
        let (mut at, end) = (at.raw(), at.raw() + count);
        while at < end {
            let Some(zone) = self.zone_of(Mfn::new(at)) else {
                at += 1; // In no zone: the frame stays unused.
                continue;
            };
            let fits = (end.min(zone.end) - at).ilog2();
            let order = at.trailing_zeros().min(fits).min(MAX_ORDER);
            zone.free(self, Mfn::new(at), order);
            at += 1 << order;
        }
    }
}

pub(super) fn block(at: Mfn, count: u64) -> impl Iterator<Item = Mfn> {
    (at.raw()..at.raw() + count).map(Mfn::new)
}
