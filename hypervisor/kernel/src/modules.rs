//! The modules that the loader gave for dom0, at their places after `memory` moved them.
#![allow(
    unsafe_code,
    reason = "the modules' bytes lie in RAM that boot reserved for them"
)]

use oxen_mm::FrameTable;
use oxen_mm::start::Span;
use oxen_types::Vaddr;
use oxen_types::layout;

/// RAM that boot keeps until dom0 is built.
pub struct BootModule(Span);

/// dom0's files, and the room that a compressed kernel is unpacked to.
pub struct Modules {
    pub kernel: Option<BootModule>,
    pub initrd: Option<BootModule>,
    pub room: Option<BootModule>,
}

impl BootModule {
    /// # Safety
    /// The span is RAM in the direct map that nothing else uses from now on.
    pub unsafe fn new(span: Span) -> Self {
        Self(span)
    }

    fn pointer(&self) -> *mut u8 {
        layout::direct_map(self.0.at).map_or(0, Vaddr::raw) as *mut u8
    }

    /// Its contents.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: by the contract of `new`; they change only through `bytes_mut`, which borrows `self` alone.
        unsafe { core::slice::from_raw_parts(self.pointer(), self.0.len as usize) }
    }

    /// Its contents, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; this borrow is the only one.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(), self.0.len as usize) }
    }

    /// Gives the frames to the allocator.
    pub fn free(self, frames: &FrameTable) {
        frames.free_own(self.0.at.frame(), self.0.frames());
    }
}

impl Modules {
    /// Gives the frames of all to the allocator.
    pub fn free(self, frames: &FrameTable) {
        let all = [self.kernel, self.initrd, self.room];
        all.into_iter()
            .flatten()
            .for_each(|module| module.free(frames));
    }
}
