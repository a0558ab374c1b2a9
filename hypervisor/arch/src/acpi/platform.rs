//! The machine as its tables describe it.

use alloc::vec::Vec;

use oxen_types::{EcamRegion, Maddr};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    pub apic_id: u32,
    pub uid: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    pub id: u8,
    pub address: Maddr,
    pub gsi_base: u32,
}

/// An ISA interrupt that is not the line of the same number, or not edge and active high.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    pub isa_irq: u8,
    pub gsi: u32,
    /// MPS INTI flags as in the table, which dom0's own table repeats.
    pub flags: u16,
}

impl Override {
    /// ISA's own convention is edge and high where the flags leave it to the bus.
    pub fn is_level(&self) -> bool {
        self.flags >> 2 & 3 == 3
    }

    pub fn is_active_low(&self) -> bool {
        self.flags & 3 == 3
    }
}

/// A local APIC input (0 or 1) that carries NMI; `uid` is `None` for all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalNmi {
    pub uid: Option<u32>,
    pub lint: u8,
    pub flags: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    pub port: u16,
    /// Else 24 bits.
    pub is_32_bit: bool,
}

/// A register by ACPI's generic address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    Port(u16),
    Memory(Maddr),
    /// PCI configuration space of bus 0: device, function, offset.
    PciConfig(u8, u8, u16),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fadt {
    pub address: Maddr,
    pub revision: u8,
    pub sci: u16,
    pub smi_command: u32,
    pub acpi_enable: u8,
    pub pm1a_event: Option<u16>,
    pub pm1a_control: Option<u16>,
    pub pm1b_control: Option<u16>,
    pub reset: Option<(Register, u8)>,
    pub dsdt: Option<Maddr>,
    pub facs: Option<Maddr>,
    /// SLP_TYPa and SLP_TYPb of `_S5`, if the DSDT has it in plain sight.
    pub s5: Option<(u8, u8)>,
    /// CMOS register of the century; 0 if there is none.
    pub century: u8,
}

/// A table that the root table names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    pub signature: [u8; 4],
    pub address: Maddr,
    pub length: u32,
}

#[derive(Default, Debug)]
pub struct Platform {
    /// Where the RSDP lies, if we found it ourselves; a loader hands over just a copy.
    pub rsdp: Option<Maddr>,
    pub acpi_revision: u8,
    pub tables: Vec<Table>,
    /// Enabled ones only, more than `MAX_CPUS` too.
    pub cpus: Vec<Cpu>,
    pub local_apic: Maddr,
    pub io_apics: Vec<IoApic>,
    pub overrides: Vec<Override>,
    pub local_nmis: Vec<LocalNmi>,
    pub has_8259: bool,
    pub hpet: Option<Maddr>,
    pub pm_timer: Option<PmTimer>,
    pub mcfg: Vec<EcamRegion>,
    pub fadt: Option<Fadt>,
}

impl Platform {
    /// The line, trigger (true: level) and polarity (true: low) of an ISA interrupt.
    pub fn isa_to_gsi(&self, isa_irq: u8) -> (u32, bool, bool) {
        match self.overrides.iter().find(|entry| entry.isa_irq == isa_irq) {
            Some(entry) => (entry.gsi, entry.is_level(), entry.is_active_low()),
            None => (isa_irq.into(), false, false),
        }
    }

    pub fn table(&self, signature: &[u8; 4]) -> Option<Table> {
        self.tables
            .iter()
            .find(|table| table.signature == *signature)
            .copied()
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
        let mut platform = Platform::default();
        platform.overrides.push(Override {
            isa_irq: 0,
            gsi: 2,
            flags: 0,
        });
        platform.overrides.push(Override {
            isa_irq: 9,
            gsi: 9,
            flags: 0xf,
        });
        assert_eq!(platform.isa_to_gsi(0), (2, false, false));
        assert_eq!(platform.isa_to_gsi(9), (9, true, true));
        assert_eq!(platform.isa_to_gsi(4), (4, false, false));
    }
}
