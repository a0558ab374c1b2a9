//! The machine's side of dom0's virtual IO-APICs and virtual PCI: the real lines, configuration
//! space, device memory and vectors.

use alloc::vec::Vec;

use oxen_core::domain::Domain;
use oxen_types::{Gfn, Maddr, Mfn, PAGE_SIZE, Polarity, Trigger};
use oxen_virt::dev::ioapic::IoApicHost;
use oxen_virt::dev::lapic::deliver;
use oxen_virt::dev::message::Message;
use oxen_virt::dev::pci::{HostMsi, MsiHandle, MsiHost, PciHost, Sbdf};

use crate::devices::Devices;
use crate::domain::{ApicBus, HvmDomain};
use crate::guest_log;
use crate::host::Host;
use crate::irq_routes::Route;

/// The host vector of each message-signalled interrupt, by handle.
#[derive(Default)]
pub(crate) struct Msis(Vec<Option<u8>>);

/// The machine, for the devices of one domain.
pub(crate) struct Side<'a, H: Host> {
    pub(crate) hvm: &'a HvmDomain<H>,
    pub(crate) domain: &'a Domain,
    pub(crate) devices: &'a Devices,
    pub(crate) msis: &'a mut Msis,
}

impl<H: Host> IoApicHost for Side<'_, H> {
    fn deliver(&mut self, message: &Message) -> bool {
        let (hvm, domain) = (self.hvm, self.domain);
        deliver(&ApicBus { hvm, domain }, message)
    }

    fn gsi_configure(&mut self, gsi: u32, trigger: Trigger, polarity: Polarity) -> bool {
        if self.devices.own_gsi == Some(gsi) {
            return false;
        }
        let vmm = self.hvm.vmm;
        let Some(vector) = vmm.irqs.gsi(gsi, || vmm.host.alloc_vector()) else {
            log::error!("no vector left for GSI {gsi}: its devices' interrupts are lost");
            return false;
        };
        vmm.host.route_gsi(gsi, vector, trigger, polarity)
    }

    fn gsi_mask(&mut self, gsi: u32) {
        self.hvm.vmm.host.mask_gsi(gsi);
    }

    fn gsi_unmask(&mut self, gsi: u32) {
        self.hvm.vmm.host.unmask_gsi(gsi);
    }
}

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const LEGACY_CONFIG_SIZE: u16 = 256;

impl<H: Host> Side<'_, H> {
    /// The address of a register in memory-mapped configuration space.
    fn ecam(&self, sbdf: Sbdf, reg: u16) -> Option<Maddr> {
        let mut regions = self.devices.ecam.iter();
        let region = regions.find(|region| region.has(sbdf.segment, sbdf.bus()))?;
        region
            .base
            .checked_add(u64::from(sbdf.bdf) << 12 | u64::from(reg & 0xfff))
    }

    /// Selects a register through port 0xcf8. Returns the data port for it.
    fn select(&self, sbdf: Sbdf, reg: u16) -> u16 {
        let address = 1 << 31 | u32::from(sbdf.bdf) << 8 | u32::from(reg & 0xfc);
        self.hvm.vmm.host.port_write(CONFIG_ADDRESS, 4, address);
        CONFIG_DATA + (reg & 3)
    }

    /// The address, if the page of it is reachable for the hypervisor.
    fn reach(&self, addr: u64) -> Option<Maddr> {
        let page = Maddr::new(addr & !(PAGE_SIZE as u64 - 1));
        self.hvm
            .vmm
            .host
            .map_device(page)
            .then_some(Maddr::new(addr))
    }
}

impl<H: Host> PciHost for Side<'_, H> {
    fn config_read(&mut self, sbdf: Sbdf, reg: u16, size: u8) -> u32 {
        let host = &self.hvm.vmm.host;
        if let Some(at) = self.ecam(sbdf, reg) {
            return host.mmio_read(at, size) as u32;
        }
        if sbdf.segment != 0 || reg >= LEGACY_CONFIG_SIZE {
            return u32::MAX;
        }
        host.port_read(self.select(sbdf, reg), size)
    }

    fn config_write(&mut self, sbdf: Sbdf, reg: u16, size: u8, value: u32) {
        let host = &self.hvm.vmm.host;
        if let Some(at) = self.ecam(sbdf, reg) {
            host.mmio_write(at, size, value.into());
        } else if sbdf.segment == 0 && reg < LEGACY_CONFIG_SIZE {
            host.port_write(self.select(sbdf, reg), size, value);
        }
    }

    fn mmio_read(&mut self, addr: u64, size: u8) -> u64 {
        let at = self.reach(addr);
        at.map_or(u64::MAX, |at| self.hvm.vmm.host.mmio_read(at, size))
    }

    fn mmio_write(&mut self, addr: u64, size: u8, value: u64) {
        if let Some(at) = self.reach(addr) {
            self.hvm.vmm.host.mmio_write(at, size, value);
        }
    }

    fn map_identity(&mut self, first: Mfn, count: u64) -> bool {
        let memory = &self.domain.memory;
        self.devices.may_map(first, count, self.hvm.vmm.frames)
            && memory.map_mmio(Gfn::new(first.raw()), first, count).is_ok()
    }

    fn unmap_identity(&mut self, first: Mfn, count: u64) {
        // A page that is not mapped need not be unmapped.
        let _ = self.domain.memory.unmap_mmio(Gfn::new(first.raw()), count);
    }
}

/// Message address and data: fixed delivery, physical destination, edge (SDM 3, 11.11).
const MSI_ADDRESS: u64 = 0xfee0_0000;

impl<H: Host> MsiHost for Side<'_, H> {
    fn alloc(&mut self, sbdf: Sbdf, count: u8) -> Option<HostMsi> {
        if count != 1 {
            return None;
        }
        let host = &self.hvm.vmm.host;
        let destination = host.message_destination()?;
        let list = &mut self.msis.0;
        let index = match list.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                list.try_reserve(1).ok()?;
                list.push(None);
                list.len() - 1
            }
        };
        let Some(vector) = host.alloc_vector() else {
            guest_log!(
                log::Level::Error,
                "no vector left for an interrupt of {sbdf:?}"
            );
            return None;
        };
        *list.get_mut(index)? = Some(vector);
        let address = MSI_ADDRESS | u64::from(destination) << 12;
        Some(HostMsi {
            handle: MsiHandle(index as u32),
            address,
            data: vector.into(),
        })
    }

    fn bind(&mut self, handle: MsiHandle, index: u8, target: Option<Message>) {
        let vector = self.msis.0.get(handle.0 as usize).copied().flatten();
        if let (0, Some(vector)) = (index, vector) {
            self.hvm.vmm.irqs.set(vector, target.map(Route::Msi));
        }
    }

    fn free(&mut self, handle: MsiHandle) {
        let slot = self.msis.0.get_mut(handle.0 as usize);
        if let Some(vector) = slot.and_then(Option::take) {
            self.hvm.vmm.irqs.set(vector, None);
            self.hvm.vmm.host.free_vector(vector);
        }
    }
}
