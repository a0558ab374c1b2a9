//! One frame's 16 bytes in the frame table: a state word that changes by compare-and-swap, and two
//! links whose meaning depends on the state (lists of free blocks, of slabs, of dead tables).
//!
//! State word: bits 0-31 references, 32-47 owner, 48-51 use, 52 counted as the owner's RAM, 53 set
//! aside by number, 54 written past its owner's page tables, 56-63 order of a free block.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use oxen_types::DomainId;

/// The use of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameUse {
    /// Not RAM, as far as the firmware says.
    NotRam = 0,
    /// Free, and the first frame of its block in the allocator's lists.
    FreeHead = 1,
    /// Free: in a block, or on its way to or from one.
    Free = 2,
    /// In use and reference-counted.
    Counted = 3,
    /// Kept for one domain to take back by number.
    SetAside = 4,
    /// The hypervisor's own, without references.
    Own = 5,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

const OWNER_SHIFT: u32 = 32;
const USE_SHIFT: u32 = 48;
const RAM: u64 = 1 << 52;
const IDENTITY: u64 = 1 << 53;
const WRITTEN: u64 = 1 << 54;
const ORDER_SHIFT: u32 = 56;

impl State {
    pub(crate) const fn new(used: FrameUse, owner: DomainId) -> Self {
        Self((used as u64) << USE_SHIFT | (owner.0 as u64) << OWNER_SHIFT)
    }
    /// In use by `owner`, with one reference.
    pub(crate) const fn counted(owner: DomainId, ram: bool, identity: bool) -> Self {
        let flags = if ram { RAM } else { 0 } | if identity { IDENTITY } else { 0 };
        Self(Self::new(FrameUse::Counted, owner).0 | flags | 1)
    }
    pub(crate) const fn free_head(order: u32) -> Self {
        Self((FrameUse::FreeHead as u64) << USE_SHIFT | (order as u64) << ORDER_SHIFT)
    }
    pub(crate) const fn references(self) -> u32 {
        self.0 as u32
    }
    pub(crate) const fn with_references(self, n: u32) -> Self {
        Self(self.0 & !0xffff_ffff | n as u64)
    }
    pub(crate) const fn owner(self) -> DomainId {
        DomainId((self.0 >> OWNER_SHIFT) as u16)
    }
    pub(crate) const fn used(self) -> FrameUse {
        match self.0 >> USE_SHIFT & 15 {
            1 => FrameUse::FreeHead,
            2 => FrameUse::Free,
            3 => FrameUse::Counted,
            4 => FrameUse::SetAside,
            5 => FrameUse::Own,
            _ => FrameUse::NotRam,
        }
    }
    pub(crate) const fn is_ram(self) -> bool {
        self.0 & RAM != 0
    }
    pub(crate) const fn is_identity(self) -> bool {
        self.0 & IDENTITY != 0
    }
    /// The order of a free block, if this is the state of its first frame.
    pub(crate) fn free_order(self) -> Option<u32> {
        (self.used() == FrameUse::FreeHead).then_some((self.0 >> ORDER_SHIFT) as u32)
    }
}

#[repr(C)]
pub(crate) struct Entry {
    state: AtomicU64,
    links: AtomicU64,
}

/// No frame: the end of a list.
pub(crate) const NIL: u32 = u32::MAX;

impl Entry {
    pub(crate) fn state(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }
    pub(crate) fn set(&self, state: State) {
        self.state.store(state.0, Ordering::Release);
    }
    /// The use of the frame; `Free` for all free frames.
    pub(crate) fn use_seen(&self) -> FrameUse {
        match self.state().used() {
            FrameUse::FreeHead => FrameUse::Free,
            used => used,
        }
    }
    /// True if the state was `from` and is `to` now.
    pub(crate) fn change(&self, from: State, to: State) -> bool {
        let swap = self
            .state
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed);
        swap.is_ok()
    }
    /// Marks a frame in use as written; cheap where it is already. The reference of the caller
    /// keeps the state from becoming another.
    pub(crate) fn mark_written(&self) {
        // The write is seen before the mark is found standing: whoever takes it reads afterwards.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) & WRITTEN == 0 {
            self.state.fetch_or(WRITTEN, Ordering::AcqRel);
        }
    }
    pub(crate) fn is_written(&self) -> bool {
        self.state.load(Ordering::Acquire) & WRITTEN != 0
    }
    /// Takes the mark away. Returns whether the frame had the mark.
    pub(crate) fn take_written(&self) -> bool {
        self.is_written() && self.state.fetch_and(!WRITTEN, Ordering::AcqRel) & WRITTEN != 0
    }
    /// The count field of a frame that has no references, for whoever owns the frame.
    pub(crate) fn note(&self) -> u32 {
        self.state().references()
    }
    pub(crate) fn set_note(&self, note: u32) {
        self.set(self.state().with_references(note));
    }
    /// The two links: `(previous, next)`.
    pub(crate) fn links(&self) -> (u32, u32) {
        let raw = self.links.load(Ordering::Relaxed);
        ((raw >> 32) as u32, raw as u32)
    }
    pub(crate) fn set_links(&self, previous: u32, next: u32) {
        self.links
            .store((previous as u64) << 32 | next as u64, Ordering::Relaxed);
    }
}
