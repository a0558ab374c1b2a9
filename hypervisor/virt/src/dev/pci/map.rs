//! The device memory in the domain's map: all that any function decodes, without the trapped pages.
//!
//! The set is computed again from all functions at each change, so that BARs which share pages, or
//! overlap while a domain moves them, need no bookkeeping.

use alloc::vec::Vec;

use oxen_types::EcamRegion;

use super::address::ecam_pages;
use super::device::Device;
use super::host::PciHost;
use super::pages::{Pages, difference, union};

/// All other functions, and what is mapped for all of them.
pub(super) struct View<'a> {
    pub(super) left: &'a [Device],
    pub(super) right: &'a [Device],
    /// Configuration space traps, wherever a BAR may be put.
    pub(super) regions: &'a [EcamRegion],
    pub(super) mapped: &'a mut Vec<Pages>,
}

impl View<'_> {
    /// After `device` changed.
    pub(super) fn update(&mut self, device: &Device, host: &mut impl PciHost) {
        let all = || self.left.iter().chain([device]).chain(self.right);
        let regions = self.regions.iter().filter_map(ecam_pages);
        let trapped = union(all().flat_map(Device::trapped).copied().chain(regions));
        let mut wanted = difference(&union(all().flat_map(Device::decoded)), &trapped);
        for pages in difference(self.mapped, &wanted) {
            host.unmap_identity(pages.first(), pages.count());
        }
        // They may have been mapped on demand while nothing claimed them.
        for pages in device.trapped() {
            host.unmap_identity(pages.first(), pages.count());
        }
        for pages in difference(&wanted, self.mapped) {
            if !host.map_identity(pages.first(), pages.count()) {
                let first = pages.first();
                log::warn!("{:?}: BAR at {first:?} not mapped", device.sbdf);
                wanted = difference(&wanted, &[pages]);
            }
        }
        *self.mapped = wanted;
    }
}
