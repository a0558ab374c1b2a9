//! The machine's devices as dom0 has them: virtual IO-APICs and PCI over the real ones, and the way of
//! an interrupt from a host vector to dom0's local APICs.
//!
//! Lock order: `Hardware` (in the domain), then the vector table, then the drivers in arch. Interrupt
//! handlers take them too; they run only where no lock is held.

use alloc::vec::Vec;

use oxen_arch::acpi;
use oxen_arch::apic::{self, io};
use oxen_arch::{cpu::io_port, irq, vectors};
use oxen_core::domain::Domain;
use oxen_types::{CpuId, EcamRegion, Gfn, Maddr, Mfn, PAGE_SIZE, Polarity, Trigger};
use oxen_virt::dev::ioapic::{IoApicConfig, IoApicHost, IoApics};
use oxen_virt::dev::lapic::deliver;
use oxen_virt::dev::message::Message;
use oxen_virt::dev::pci::{self, HostMsi, MsiHandle, MsiHost, PciHost, Sbdf, Vpci};
use spin::Mutex;

use crate::domain::{ApicBus, HvDomain, hv_domain};
use crate::globals;

pub struct Hardware {
    pub ioapics: IoApics,
    pub pci: Vpci,
    host: Host,
}

/// What stands behind dom0's interrupt controllers and PCI.
struct Host {
    ecam: Vec<EcamRegion>,
    /// Vectors of each message-signalled interrupt, by handle.
    msis: Vec<Option<Msi>>,
}

struct Msi {
    vectors: Vec<u8>,
}

/// What a host vector means.
#[derive(Clone, Copy)]
enum Meaning {
    Gsi(u32),
    Msi(Message),
}

static MEANINGS: Mutex<[Option<Meaning>; 256]> = Mutex::new([None; 256]);

/// Where devices' interrupts are sent: the boot CPU takes them all.
const TARGET: CpuId = CpuId(0);

impl Hardware {
    pub fn new() -> Self {
        let platform = acpi::platform();
        let configs: Vec<IoApicConfig> = platform
            .io_apics
            .iter()
            .map(|io_apic| IoApicConfig {
                base: io_apic.address.raw(),
                id: io_apic.id,
                version: io::version(io_apic.gsi_base).unwrap_or(0x11),
                gsi_base: io_apic.gsi_base,
                pins: io::pins(io_apic.gsi_base).unwrap_or(24) as u8,
            })
            .collect();
        let ecam: Vec<EcamRegion> = platform.mcfg.iter().copied().collect();
        for region in &ecam {
            let (start, end) = region.range();
            let len = end.raw().saturating_sub(start.raw());
            if let Err(error) = globals::get().space.map_device(start, len) {
                log::error!("the PCI configuration space at {start:?}: {error:?}");
            }
        }
        irq::set_device_handler(interrupt);
        Self {
            ioapics: IoApics::new(&configs),
            pci: Vpci::new(&ecam),
            host: Host {
                ecam,
                msis: Vec::new(),
            },
        }
    }

    /// Splits into the parts that answer dom0 and the side that serves them.
    pub fn parts<'a>(
        &'a mut self,
        hv: &'a HvDomain,
        domain: &'a Domain,
    ) -> (&'a mut IoApics, &'a mut Vpci, Side<'a>) {
        (
            &mut self.ioapics,
            &mut self.pci,
            Side {
                hv,
                domain,
                host: &mut self.host,
            },
        )
    }
}

/// An interrupt of a device: into dom0's IO-APIC or straight to its local APICs.
fn interrupt(vector: u8) {
    let meaning = MEANINGS.lock()[usize::from(vector)];
    let Some(domain) = globals::get().machine.dom0() else {
        return;
    };
    let Some(hv) = hv_domain(&domain) else { return };
    match meaning {
        Some(Meaning::Gsi(gsi)) => {
            let Some(hardware) = &hv.hardware else { return };
            let mut hardware = hardware.lock();
            let (ioapics, _, mut side) = hardware.parts(hv, &domain);
            ioapics.arrive(gsi, &mut side);
        }
        Some(Meaning::Msi(message)) => {
            deliver(
                &ApicBus {
                    hv,
                    domain: &domain,
                },
                &message,
            );
        }
        None => log::debug!("interrupt {vector:#x} means nothing"),
    }
}

pub struct Side<'a> {
    hv: &'a HvDomain,
    domain: &'a Domain,
    host: &'a mut Host,
}

impl IoApicHost for Side<'_> {
    fn deliver(&mut self, message: &Message) -> bool {
        deliver(
            &ApicBus {
                hv: self.hv,
                domain: self.domain,
            },
            message,
        )
    }

    fn gsi_configure(&mut self, gsi: u32, trigger: Trigger, polarity: Polarity) -> bool {
        if globals::get().uart_gsi == Some(gsi) {
            return false;
        }
        let mut meanings = MEANINGS.lock();
        let old = meanings
            .iter()
            .position(|m| matches!(m, Some(Meaning::Gsi(other)) if *other == gsi));
        let Some(vector) = old.map(|v| v as u8).or_else(vectors::alloc) else {
            log::error!("no vector left for GSI {gsi}: its devices' interrupts are lost");
            return false;
        };
        meanings[usize::from(vector)] = Some(Meaning::Gsi(gsi));
        drop(meanings);
        io::route(gsi, vector, TARGET, trigger, polarity).is_ok()
    }

    fn gsi_mask(&mut self, gsi: u32) {
        // A line that no IO-APIC has was never configured.
        let _ = io::mask(gsi);
    }

    fn gsi_unmask(&mut self, gsi: u32) {
        let _ = io::unmask(gsi);
    }
}

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const LEGACY_CONFIG_SIZE: u16 = 256;

impl Side<'_> {
    /// The address of a register in memory-mapped configuration space.
    fn ecam(&self, sbdf: Sbdf, reg: u16) -> Option<Maddr> {
        let mut regions = self.host.ecam.iter();
        let region = regions.find(|region| region.has(sbdf.segment, sbdf.bus()))?;
        region
            .base
            .checked_add(u64::from(sbdf.bdf) << 12 | u64::from(reg & 0xfff))
    }

    /// Selects a register through port 0xcf8; the data port for it.
    fn select(sbdf: Sbdf, reg: u16) -> u16 {
        let address = 1 << 31 | u32::from(sbdf.bdf) << 8 | u32::from(reg & 0xfc);
        io_port::write_u32(CONFIG_ADDRESS, address);
        CONFIG_DATA + (reg & 3)
    }
}

impl PciHost for Side<'_> {
    fn config_read(&mut self, sbdf: Sbdf, reg: u16, size: u8) -> u32 {
        if let Some(at) = self.ecam(sbdf, reg) {
            return oxen_arch::mmio::read(at, size) as u32;
        }
        if sbdf.segment != 0 || reg >= LEGACY_CONFIG_SIZE {
            return u32::MAX;
        }
        let data = Self::select(sbdf, reg);
        io_port::read(data, size)
    }

    fn config_write(&mut self, sbdf: Sbdf, reg: u16, size: u8, value: u32) {
        if let Some(at) = self.ecam(sbdf, reg) {
            oxen_arch::mmio::write(at, size, value.into());
        } else if sbdf.segment == 0 && reg < LEGACY_CONFIG_SIZE {
            let data = Self::select(sbdf, reg);
            io_port::write(data, size, value);
        }
    }

    fn mmio_read(&mut self, addr: u64, size: u8) -> u64 {
        match map_page(addr) {
            true => oxen_arch::mmio::read(Maddr::new(addr), size),
            false => u64::MAX,
        }
    }

    fn mmio_write(&mut self, addr: u64, size: u8, value: u64) {
        if map_page(addr) {
            oxen_arch::mmio::write(Maddr::new(addr), size, value);
        }
    }

    fn map_identity(&mut self, first: Mfn, count: u64) -> bool {
        crate::dom0::may_map(first, count)
            && self
                .domain
                .memory
                .map_mmio(Gfn::new(first.raw()), first, count)
                .is_ok()
    }

    fn unmap_identity(&mut self, first: Mfn, count: u64) {
        // What is not mapped need not be unmapped.
        let _ = self.domain.memory.unmap_mmio(Gfn::new(first.raw()), count);
    }
}

/// Makes a page of device memory reachable for us.
fn map_page(addr: u64) -> bool {
    let page = Maddr::new(addr & !(PAGE_SIZE as u64 - 1));
    let mapped = globals::get().space.map_device(page, PAGE_SIZE as u64);
    if let Err(error) = mapped {
        oxen_arch::guest_log!(
            log::Level::Error,
            "dom0's device memory at {page:?} cannot be reached: {error:?}"
        );
    }
    mapped.is_ok()
}

/// Message address and data: fixed delivery, physical destination, edge (SDM 3, 11.11).
const MSI_ADDRESS: u64 = 0xfee0_0000;

impl MsiHost for Side<'_> {
    fn alloc(&mut self, sbdf: Sbdf, count: u8) -> Option<HostMsi> {
        if count != 1 {
            return None;
        }
        let destination = apic::icr_destination_of(TARGET)?;
        let Some(vector) = vectors::alloc() else {
            oxen_arch::guest_log!(
                log::Level::Error,
                "no vector left for an interrupt of {sbdf:?}"
            );
            return None;
        };
        let free = self.host.msis.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.host.msis.push(None);
            self.host.msis.len() - 1
        });
        *self.host.msis.get_mut(index)? = Some(Msi {
            vectors: alloc::vec![vector],
        });
        let address = MSI_ADDRESS | u64::from(destination) << 12;
        Some(HostMsi {
            handle: MsiHandle(index as u32),
            address,
            data: vector.into(),
        })
    }

    fn bind(&mut self, handle: MsiHandle, index: u8, target: Option<Message>) {
        let msi = self
            .host
            .msis
            .get(handle.0 as usize)
            .and_then(Option::as_ref);
        if let Some(vector) = msi.and_then(|msi| msi.vectors.get(usize::from(index))) {
            MEANINGS.lock()[usize::from(*vector)] = target.map(Meaning::Msi);
        }
    }

    fn free(&mut self, handle: MsiHandle) {
        let Some(msi) = self
            .host
            .msis
            .get_mut(handle.0 as usize)
            .and_then(Option::take)
        else {
            return;
        };
        for vector in msi.vectors {
            MEANINGS.lock()[usize::from(vector)] = None;
            vectors::free(vector);
        }
    }
}

/// Tells dom0's virtual PCI of every function on the buses that firmware tables name.
pub fn scan(hv: &HvDomain, domain: &Domain) -> usize {
    let Some(hardware) = &hv.hardware else {
        return 0;
    };
    let mut hardware = hardware.lock();
    let regions: Vec<(u16, u8, u8)> = hardware
        .host
        .ecam
        .iter()
        .map(|r| (r.segment, r.first_bus, r.last_bus))
        .collect();
    let (_, vpci, mut side) = hardware.parts(hv, domain);
    let mut found = 0;
    let buses = if regions.is_empty() {
        alloc::vec![(0, 0, 255)]
    } else {
        regions
    };
    for (segment, first, last) in buses {
        for sbdf in pci::scan(segment, first..=last, &mut side) {
            log::debug!("PCI {sbdf:?}");
            vpci.add(sbdf, &mut side);
            found += 1;
        }
    }
    found
}
