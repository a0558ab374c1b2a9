//! A bound on the work of one step of the cache.

use super::LOOSE;

/// How many shadows and entries may still be looked at in one go. Beyond it all is forgotten, which
/// takes hardly any time, and the guest pays by faults.
pub(crate) struct Allowance(u32);

impl Allowance {
    /// For a comparison of all loose tables with their shadows: each of the most in two shapes, all
    /// entries in use. Kernels have one, mostly.
    pub(super) const fn for_compare() -> Self {
        Self((LOOSE * 2 * 512) as u32)
    }

    /// For following the changes of the p2m since the last time.
    pub(crate) const fn for_changes() -> Self {
        Self(8192)
    }

    /// False if less than `steps` are left.
    pub(super) fn spend(&mut self, steps: usize) -> bool {
        match u32::try_from(steps)
            .ok()
            .and_then(|steps| self.0.checked_sub(steps))
        {
            Some(left) => self.0 = left,
            None => return false,
        }
        true
    }
}
