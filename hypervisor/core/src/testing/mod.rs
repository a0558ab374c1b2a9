//! A machine made of plain memory, for the tests of this crate: frames, guest-physical spaces,
//! a clock that moves when it is told to, and processors that only remember what was done to them.
//!
//! A guest's linear addresses are its guest-physical ones. `World` holds the machine; `Guest` is
//! one domain with a few pages of RAM, from which hypercalls are made as a kernel would make them.

mod arch;
mod frames;
mod guest;
pub mod heap;
mod memory;
mod platform;

use std::boxed::Box;
use std::sync::Arc;

use oxen_types::DomainId;

pub use arch::FakeVcpu;
pub use frames::FakeFrames;
pub use guest::{Guest, Linear, PAGE, errno};
pub use platform::FakePlatform;

use crate::domain::{Domain, DomainBuilder, DomainConfig};
use crate::machine::Machine;

/// Frames of the test machine. The first is never used.
const FRAMES: usize = 2048;
pub const USABLE: u64 = FRAMES as u64 - 1;

#[derive(Clone, Copy)]
pub struct World {
    pub platform: &'static FakePlatform,
    pub frames: &'static FakeFrames,
    pub machine: &'static Machine,
}

impl World {
    /// A machine with dom0 on it.
    pub fn new() -> (Self, Guest) {
        let frames: &'static FakeFrames = Box::leak(Box::new(FakeFrames::new(FRAMES)));
        let platform: &'static FakePlatform = Box::leak(Box::new(FakePlatform::new(frames, 2)));
        let machine: &'static Machine =
            Box::leak(Box::new(Machine::new(platform, frames, platform, 2)));
        platform.attach(machine);
        let world = Self {
            platform,
            frames,
            machine,
        };
        let dom0 = world.guest(0, 2);
        (world, dom0)
    }

    /// A running domain with RAM at its first gfns. Number 0 is privileged.
    pub fn guest(&self, id: u16, vcpus: u32) -> Guest {
        let domain = self.domain(id, config(id == 0, vcpus));
        domain.memory.set_max_frames(256);
        Guest::start(domain)
    }

    pub fn domain(&self, id: u16, config: DomainConfig) -> Arc<Domain> {
        let domain = self
            .platform
            .create_domain(DomainId(id), config, 0)
            .expect("domain");
        self.machine.insert(domain.clone()).expect("a free number");
        domain
    }

    pub fn free_frames(&self) -> u64 {
        use crate::seams::FrameSource;
        self.frames.stats().free_frames
    }

    /// Takes a domain down without a hypercall.
    pub fn destroy(&self, domain: &Arc<Domain>) {
        for _ in 0..10_000 {
            if heap::in_core(|| domain.destroy_step(16)) {
                return;
            }
        }
        panic!("d{} does not end", domain.id);
    }
}

pub fn config(privileged: bool, max_vcpus: u32) -> DomainConfig {
    DomainConfig {
        privileged,
        handle: [7; 16],
        ssid: 0,
        flags: guest_pv_abi::XEN_DOMCTL_CDF_HVM | guest_pv_abi::XEN_DOMCTL_CDF_HAP,
        emulation: guest_pv_abi::XEN_X86_EMU_LAPIC,
        max_vcpus,
        max_ports: u32::MAX,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
    }
}

/// createdomain's argument for a PVH guest.
pub fn pvh(max_vcpus: u32) -> guest_pv_abi::DomctlCreateDomain {
    guest_pv_abi::DomctlCreateDomain {
        ssidref: 0,
        handle: [3; 16],
        flags: guest_pv_abi::XEN_DOMCTL_CDF_HVM | guest_pv_abi::XEN_DOMCTL_CDF_HAP,
        iommu_opts: 0,
        max_vcpus,
        max_evtchn_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 2,
        vmtrace_size: 0,
        cpupool_id: 0,
        arch: guest_pv_abi::ArchDomainConfig {
            emulation_flags: guest_pv_abi::XEN_X86_EMU_LAPIC,
            misc_flags: 0,
        },
    }
}
