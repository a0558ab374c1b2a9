//! Power management registers: the FADT (ACPI 6.5, 5.2.9), and `_S5` out of the DSDT.

use super::info::{AcpiInfo, Fadt, PmTimer, Register};
use super::root::Memory;
use super::s5;
use ::acpi::address::{AddressSpace, GenericAddress};
use ::acpi::{AcpiTable, AcpiTables};
use oxen_types::Maddr;

pub(super) fn read(tables: &AcpiTables<Memory>, memory: Memory, out: &mut AcpiInfo) {
    let Ok(found) = tables.find_table::<::acpi::fadt::Fadt>() else {
        return;
    };
    let table = &*found;
    let revision = table.header().revision;
    out.pm_timer = table
        .pm_timer_block()
        .ok()
        .flatten()
        .and_then(port)
        .map(|port| PmTimer {
            port,
            is_32_bit: { table.flags }.pm_timer_is_32_bit(),
        });
    // The register came with revision 2; older tables end before it.
    let reset = (revision >= 2 && { table.flags }.supports_system_reset_via_fadt())
        .then(|| table.reset_register().ok())
        .flatten()
        .and_then(register)
        .map(|register| (register, table.reset_value));
    let dsdt = table.dsdt_address().ok().map(|address| address as u64);
    out.fadt = Some(Fadt {
        smi_command: table.smi_cmd_port,
        acpi_enable: table.acpi_enable,
        pm1a_control: table.pm1a_control_block().ok().and_then(port),
        pm1b_control: table.pm1b_control_block().ok().flatten().and_then(port),
        reset,
        s5: dsdt.and_then(|dsdt| sleep_type(dsdt, memory)),
        century: table.century,
    });
}

fn sleep_type(dsdt: u64, memory: Memory) -> Option<(u8, u8)> {
    let header = memory.bytes(dsdt, 36)?;
    if !header.starts_with(b"DSDT") {
        return None;
    }
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?);
    s5::find(memory.bytes(dsdt, length as usize)?)
}

fn port(address: GenericAddress) -> Option<u16> {
    match register(address)? {
        Register::Port(port) => Some(port),
        _ => None,
    }
}

fn register(address: GenericAddress) -> Option<Register> {
    match address.address_space {
        _ if address.address == 0 => None,
        AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Register::Port),
        AddressSpace::SystemMemory => Some(Register::Memory(Maddr::new(address.address))),
        // ACPI 6.5, table 5.1: device, function and offset in the three low words.
        AddressSpace::PciConfigSpace => Some(Register::PciConfig(
            (address.address >> 32) as u8,
            (address.address >> 16) as u8,
            address.address as u16,
        )),
        _ => None,
    }
}
