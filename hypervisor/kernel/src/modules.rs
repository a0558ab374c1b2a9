//! The loader's modules for dom0, at the places that `memory` moved them to.
#![allow(
    unsafe_code,
    reason = "the modules' bytes lie in RAM that boot reserved for them"
)]

use oxen_mm::FrameTable;
use oxen_mm::start::Span;
use oxen_types::Vaddr;
use oxen_types::layout;

/// RAM that boot keeps until dom0 is built.
pub(crate) struct BootModule(Span);

/// dom0's files, and the room that a compressed kernel is unpacked to.
pub(crate) struct Modules {
    pub kernel: Option<BootModule>,
    pub initrd: Option<BootModule>,
    pub room: Option<BootModule>,
}

impl BootModule {
    /// Takes the span over.
    ///
    /// # Safety
    /// The span is RAM in the direct map that nothing else uses from now on.
    pub(crate) unsafe fn new(span: Span) -> Self {
        Self(span)
    }

    fn pointer(&self) -> *mut u8 {
        layout::direct_map(self.0.at).map_or(0, Vaddr::raw) as *mut u8
    }

    /// The module's contents.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: RAM of this module alone, as the caller of `new` vouched; the bytes change only
        // through `bytes_mut`, which borrows the module mutably.
        unsafe { core::slice::from_raw_parts(self.pointer(), self.0.len as usize) }
    }

    /// The module's contents, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: RAM of this module alone, as the caller of `new` vouched; the module is borrowed
        // mutably, so no other reference exists.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(), self.0.len as usize) }
    }

    /// Gives the frames to the allocator.
    pub(crate) fn free(self, frames: &FrameTable) {
        frames.free_own(self.0.at.frame(), self.0.frames());
    }
}

impl Modules {
    /// Gives the frames of all modules to the allocator.
    pub(crate) fn free(self, frames: &FrameTable) {
        let all = [self.kernel, self.initrd, self.room];
        all.into_iter()
            .flatten()
            .for_each(|module| module.free(frames));
    }
}
