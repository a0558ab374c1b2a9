//! The machine as its ACPI tables describe it (ACPI 6.5).

use alloc::vec::Vec;

use oxen_types::{EcamRegion, Maddr};

/// A processor of the MADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Identifier of its local APIC.
    pub apic_id: u32,
    /// Number by which other tables name it.
    pub uid: u32,
}

/// An IO-APIC of the MADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Identifier of the IO-APIC.
    pub id: u8,
    /// Where its registers lie.
    pub address: Maddr,
    /// The global system interrupt of its first pin.
    pub gsi_base: u32,
}

/// An ISA interrupt that is not the line of the same number, or not edge and active high.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// The interrupt as the ISA bus numbers it.
    pub isa_irq: u8,
    /// The line that it arrives on.
    pub gsi: u32,
    /// MPS INTI flags as in the table, which dom0's own table repeats.
    pub flags: u16,
}

impl Override {
    /// Whether the line is level-triggered. ISA's own convention, where the flags leave it to the
    /// bus, is edge and active high.
    pub fn is_level(&self) -> bool {
        self.flags >> 2 & 3 == 3
    }

    /// Whether the line is active low.
    pub fn is_active_low(&self) -> bool {
        self.flags & 3 == 3
    }
}

/// A local APIC input that carries NMI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalNmi {
    /// The CPU that has it; `None` for all.
    pub uid: Option<u32>,
    /// Number of the input: 0 or 1.
    pub lint: u8,
    /// MPS INTI flags.
    pub flags: u16,
}

/// The power management timer (4.8.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    /// The I/O port of its counter.
    pub port: u16,
    /// Whether the counter has 32 bits; else it has 24.
    pub is_32_bit: bool,
}

/// A register by ACPI's generic address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A byte in memory.
    Memory(Maddr),
    /// PCI configuration space of bus 0: device, function, offset.
    PciConfig(u8, u8, u16),
}

/// The fixed hardware of the machine (5.2.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fadt {
    /// Port of the SMI command register; 0 if there is none.
    pub smi_command: u32,
    /// Written to the SMI command register, this makes the firmware give up the ACPI registers.
    pub acpi_enable: u8,
    /// Port of the PM1a control block.
    pub pm1a_control: Option<u16>,
    /// Port of the PM1b control block.
    pub pm1b_control: Option<u16>,
    /// The reset register, and the value that resets the machine.
    pub reset: Option<(Register, u8)>,
    /// SLP_TYPa and SLP_TYPb of `_S5`, if the DSDT has it in plain sight.
    pub s5: Option<(u8, u8)>,
    /// CMOS register of the century; 0 if there is none.
    pub century: u8,
}

/// A table that the root table names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Four letters.
    pub signature: [u8; 4],
    /// Where the table lies.
    pub address: Maddr,
    /// Bytes, with the header.
    pub length: u32,
}

/// Everything that the hypervisor takes from the tables.
#[derive(Default, Debug)]
pub struct AcpiInfo {
    /// Where the RSDP lies, if it was found in memory; a loader hands over just a copy.
    pub rsdp: Option<Maddr>,
    /// Revision of the RSDP: 0 for ACPI 1.0.
    pub acpi_revision: u8,
    /// All that the root table names.
    pub tables: Vec<Table>,
    /// Enabled ones only, more than `MAX_CPUS` too.
    pub cpus: Vec<Cpu>,
    /// Where the local APICs' registers lie.
    pub local_apic: Maddr,
    /// IO-APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that differ from the convention.
    pub overrides: Vec<Override>,
    /// NMI inputs of local APICs.
    pub local_nmis: Vec<LocalNmi>,
    /// Where the HPET's registers lie.
    pub hpet: Option<Maddr>,
    /// The PM timer, if its port is named.
    pub pm_timer: Option<PmTimer>,
    /// PCI configuration space in memory.
    pub mcfg: Vec<EcamRegion>,
    /// The FADT, if there is one.
    pub fadt: Option<Fadt>,
}

impl AcpiInfo {
    /// The line, trigger (true: level) and polarity (true: low) of an ISA interrupt.
    pub fn isa_to_gsi(&self, isa_irq: u8) -> (u32, bool, bool) {
        match self.overrides.iter().find(|entry| entry.isa_irq == isa_irq) {
            Some(entry) => (entry.gsi, entry.is_level(), entry.is_active_low()),
            None => (isa_irq.into(), false, false),
        }
    }

    /// The device pages that this crate accesses through the direct map, each of 4 KiB: `oxen-mm`
    /// maps them there, uncached.
    pub fn device_pages(&self) -> impl Iterator<Item = Maddr> {
        core::iter::once(self.local_apic)
            .chain(self.io_apics.iter().map(|apic| apic.address))
            .chain(self.hpet)
            .filter(|address| address.raw() != 0)
            .map(|address| Maddr::new(address.raw() & !oxen_types::PAGE_MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isa_interrupts_go_through_overrides() {
        let mut acpi = AcpiInfo::default();
        acpi.overrides.push(Override {
            isa_irq: 0,
            gsi: 2,
            flags: 0,
        });
        acpi.overrides.push(Override {
            isa_irq: 9,
            gsi: 9,
            flags: 0xf,
        });
        assert_eq!(acpi.isa_to_gsi(0), (2, false, false));
        assert_eq!(acpi.isa_to_gsi(9), (9, true, true));
        assert_eq!(acpi.isa_to_gsi(4), (4, false, false));
    }
}
