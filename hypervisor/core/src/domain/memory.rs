//! How much RAM a domain may hold, and the page tables that go with it.

use oxen_types::Result;

use super::Domain;

/// Frames that one page table maps, and page tables that one of the next level maps.
const ENTRIES: u64 = 512;
/// Page tables for what a guest maps apart from its RAM: grants, shared pages, device memory.
const SPARE: u64 = 64;

/// The page tables that a domain of so many frames of RAM can need.
fn tables_of(frames: u64) -> u64 {
    let leaves = frames.div_ceil(ENTRIES);
    leaves + leaves.div_ceil(ENTRIES) + SPARE
}

impl Domain {
    /// Sets how many frames of RAM the domain may hold (XEN_DOMCTL_max_mem). The limit may be below
    /// what the domain holds: then it gets no more. A higher limit first brings the pool of page
    /// tables to the size that so much RAM can need, by a step a call; the pool never shrinks here.
    /// Returns whether the limit is set.
    ///
    /// # Errors
    /// `NoMem` if free memory does not suffice for the page tables; then the limit stays.
    pub fn set_max_frames(&self, frames: u64) -> Result<bool> {
        if frames > self.memory.max_frames() {
            // A toolstack that wants no limit names more than there can be.
            let most = self.machine.frames.stats().total_frames;
            let tables = tables_of(frames.min(most));
            if self.memory.pool() < tables && !self.memory.set_pool(tables)? {
                return Ok(false);
            }
        }
        self.memory.set_max_frames(frames);
        Ok(true)
    }
}
