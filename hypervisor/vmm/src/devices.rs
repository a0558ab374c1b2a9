//! The machine's devices as dom0 has them: virtual IO-APICs and virtual PCI over the real ones,
//! ports, and device memory.
//!
//! Lock order: `buses`, then the table of interrupt routes, then the drivers in arch. Interrupt
//! handlers take them too; they run only where no lock is held.

use alloc::vec::Vec;
use core::ops::Range;

use oxen_core::domain::Domain;
use oxen_core::fallible::with_reserve;
use oxen_mm::FrameTable;
use oxen_types::{EcamRegion, Gaddr, Mfn, PAGE_SIZE};
use oxen_virt::dev::ioapic::{IoApicConfig, IoApics};
use oxen_virt::dev::pci::{self, PORT_ADDRESS, PORT_DATA_LAST, Vpci};
use oxen_virt::dev::ports::PortRules;
use oxen_virt::policy::Mtrr;
use spin::Mutex;

use crate::domain::HvmDomain;
use crate::host::Host;
use crate::vpci_host::{Msis, Side};

/// The machine's devices, as boot found them.
pub struct DeviceConfig {
    /// The IO-APICs, with the console's own lines.
    pub io_apics: Vec<IoApicConfig>,
    /// Regions of PCI's configuration space in memory, which are mapped.
    pub ecam: Vec<EcamRegion>,
    /// The ports that dom0 may use.
    pub ports: PortRules,
    /// The interrupt line that the hypervisor's console has.
    pub own_gsi: Option<u32>,
    /// Frames that dom0 may not map: those of the interrupt controllers, the clock and the
    /// hypervisor's image.
    pub reserved: Vec<Range<u64>>,
    /// Frames that the machine has addresses for.
    pub frames_end: u64,
    /// The host's memory types, which are dom0's.
    pub mtrr: Mtrr,
}

/// dom0's part of the machine.
pub(crate) struct Devices {
    pub(crate) ports: PortRules,
    pub(crate) mtrr: Mtrr,
    pub(crate) own_gsi: Option<u32>,
    pub(crate) ecam: Vec<EcamRegion>,
    reserved: Vec<Range<u64>>,
    frames_end: u64,
    buses: Mutex<Buses>,
}

/// The devices that are emulated.
pub(crate) struct Buses {
    pub(crate) ioapics: IoApics,
    pub(crate) pci: Vpci,
    msis: Msis,
}

impl Devices {
    pub(crate) fn new(config: DeviceConfig) -> Self {
        Self {
            buses: Mutex::new(Buses {
                ioapics: IoApics::new(&config.io_apics),
                pci: Vpci::new(&config.ecam),
                msis: Msis::default(),
            }),
            ports: config.ports,
            mtrr: config.mtrr,
            own_gsi: config.own_gsi,
            ecam: config.ecam,
            reserved: config.reserved,
            frames_end: config.frames_end,
        }
    }

    /// Does something with the emulated devices of a domain, and with the side of the machine that
    /// serves them.
    pub(crate) fn with<H: Host, R>(
        &self,
        hvm: &HvmDomain<H>,
        domain: &Domain,
        act: impl FnOnce(&mut Emulated<'_>, &mut Side<'_, H>) -> R,
    ) -> R {
        let buses = &mut *self.buses.lock();
        let mut emulated = Emulated {
            ioapics: &mut buses.ioapics,
            pci: &mut buses.pci,
        };
        let mut side = Side {
            hvm,
            domain,
            devices: self,
            msis: &mut buses.msis,
        };
        act(&mut emulated, &mut side)
    }

    /// Whether accesses of the address must be emulated.
    pub(crate) fn claims(&self, at: Gaddr) -> bool {
        let buses = self.buses.lock();
        buses.ioapics.claims(at.raw()) || buses.pci.claims(at.raw())
    }

    /// An access of an emulated device's memory: a write of a value, or a read. `None` if the
    /// address is no device's.
    pub(crate) fn mmio<H: Host>(
        &self,
        hvm: &HvmDomain<H>,
        domain: &Domain,
        at: Gaddr,
        size: u8,
        value: Option<u64>,
    ) -> Option<u64> {
        let at = at.raw();
        self.with(hvm, domain, |devices, side| {
            let ioapics = &mut *devices.ioapics;
            let taken = match value {
                None => ioapics.mmio_read(at, size.into()).map(u64::from),
                Some(value) => ioapics
                    .mmio_write(at, size.into(), value as u32, side)
                    .then_some(0),
            };
            if taken.is_some() {
                return taken;
            }
            let pci = &mut *devices.pci;
            let access = || match value {
                None => pci.mmio_read(at, size, side),
                Some(value) => pci.mmio_write(at, size, value, side).then_some(0),
            };
            // The first access of a function makes the hypervisor keep its registers. Without
            // memory for them there is no function.
            match with_reserve(hvm.vmm.frames, access) {
                Ok(taken) => taken,
                Err(_) => devices.pci.claims(at).then_some(u64::MAX),
            }
        })
    }

    /// Whether dom0 may map these frames as device memory: they are no RAM, and none of the
    /// machine's parts that are the hypervisor's.
    pub(crate) fn may_map(&self, first: Mfn, count: u64, frames: &FrameTable) -> bool {
        let Some(end) = first.checked_add(count) else {
            return false;
        };
        let (start, end) = (first.raw(), end.raw());
        let free = |range: &Range<u64>| range.end <= start || end <= range.start;
        end <= self.frames_end && self.reserved.iter().all(free) && !frames.has_ram(first, count)
    }
}

/// The devices that answer dom0.
pub(crate) struct Emulated<'a> {
    pub(crate) ioapics: &'a mut IoApics,
    pub(crate) pci: &'a mut Vpci,
}

/// Lets dom0 at all ports but those that are denied or watched.
pub(crate) fn allow_ports<H: Host>(hvm: &HvmDomain<H>, rules: &PortRules) {
    hvm.set_ports_direct(0, u16::MAX, true);
    for &(first, last) in &rules.denied {
        hvm.set_ports_direct(first, last, false);
    }
    hvm.set_ports_direct(PORT_ADDRESS, PORT_DATA_LAST, false);
    for &control in &rules.pm1 {
        hvm.set_ports_direct(control, control.saturating_add(1), false);
    }
}

/// Tells dom0's virtual PCI of each function on the buses that firmware tables name. Returns their
/// number.
pub(crate) fn scan<H: Host>(hvm: &HvmDomain<H>, domain: &Domain) -> usize {
    let Some(devices) = &hvm.devices else {
        return 0;
    };
    let whole = [(0, 0, 255)];
    let named: Vec<(u16, u8, u8)> = devices
        .ecam
        .iter()
        .map(|region| (region.segment, region.first_bus, region.last_bus))
        .collect();
    let buses = if named.is_empty() { &whole[..] } else { &named };
    let mut found = 0;
    devices.with(hvm, domain, |emulated, side| {
        for &(segment, first, last) in buses {
            for sbdf in pci::scan(segment, first..=last, side) {
                log::debug!("PCI {sbdf:?}");
                emulated.pci.add(sbdf, side);
                found += 1;
            }
        }
    });
    found
}

/// The frames that a range of bytes touches.
pub fn frames_of(start: u64, end: u64) -> Range<u64> {
    start / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64)
}
