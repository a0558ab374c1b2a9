//! The machine's devices as boot found them, for dom0.

use alloc::vec::Vec;
use oxen_arch::image::image;

use oxen_arch::acpi;
use oxen_arch::apic::io;
use oxen_arch::cpu::msr::rdmsr_safe;
use oxen_arch::{console, time};
use oxen_mm::HostSpace;
use oxen_types::EcamRegion;
use oxen_virt::dev::ioapic::IoApicConfig;
use oxen_virt::dev::ports::PortRules;
use oxen_virt::policy::Mtrr;
use oxen_vmm::{DeviceConfig, frames_of};

use crate::platform;

/// The interrupt controllers and the timer of the PC are the hypervisor's; nobody emulates them.
const LEGACY: [(u16, u16); 4] = [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61)];

/// The local APICs, and the window of message-signalled interrupts behind them.
const MSI_WINDOW: (u64, u64) = (0xfee0_0000, 0xfef0_0000);

/// Reads the machine's tables, and maps PCI's configuration space.
pub(crate) fn find(space: &HostSpace) -> DeviceConfig {
    let platform = acpi::info();
    let io_apics = platform.io_apics.iter().map(|io_apic| IoApicConfig {
        base: io_apic.address.raw(),
        id: io_apic.id,
        version: io::version(io_apic.gsi_base).unwrap_or(0x11),
        gsi_base: io_apic.gsi_base,
        pins: io::pins(io_apic.gsi_base).unwrap_or(24) as u8,
    });
    DeviceConfig {
        io_apics: io_apics.collect(),
        ecam: platform.mcfg.iter().map(|r| ecam(space, r)).collect(),
        ports: ports(platform),
        own_gsi: crate::console::gsi(),
        reserved: reserved(platform),
        frames_end: 1 << (platform::physical_bits() - 12),
        mtrr: Mtrr::of_host(&mut |msr| rdmsr_safe(msr).unwrap_or(0)),
    }
}

fn ecam(space: &HostSpace, region: &EcamRegion) -> EcamRegion {
    let (start, end) = region.range();
    let len = end.raw().saturating_sub(start.raw());
    if let Err(error) = space.map_device(start, len) {
        log::error!("the PCI configuration space at {start:?}: {error:?}");
    }
    *region
}

fn ports(platform: &acpi::AcpiInfo) -> PortRules {
    let mut denied = Vec::from(LEGACY);
    if let Some((first, count)) = console::serial_ports() {
        denied.push((first, first.saturating_add(count.saturating_sub(1))));
    }
    let fadt = platform.fadt.as_ref();
    let pm1 = fadt
        .into_iter()
        .flat_map(|fadt| [fadt.pm1a_control, fadt.pm1b_control])
        .flatten();
    PortRules {
        denied,
        pm1: pm1.collect(),
        s5: fadt.and_then(|fadt| fadt.s5),
    }
}

/// The machine's parts that are the hypervisor's.
fn reserved(platform: &acpi::AcpiInfo) -> Vec<core::ops::Range<u64>> {
    let page = |at: u64| frames_of(at, at + 1);
    let (image, image_end) = image().machine_range();
    let mut reserved = Vec::from([
        frames_of(MSI_WINDOW.0, MSI_WINDOW.1),
        frames_of(image.raw(), image_end.raw()),
    ]);
    let io_apics = platform.io_apics.iter();
    reserved.extend(io_apics.map(|io_apic| page(io_apic.address.raw())));
    if time::source() == time::ClockSource::Hpet {
        reserved.extend(platform.hpet.map(|hpet| page(hpet.raw())));
    }
    reserved
}
