//! The ACPI tables of a PVH guest: enough to find its processors and to know that there is no other
//! hardware (ACPI 6.3, chapter 5; the hardware-reduced model).
//!
//! RSDP, XSDT, FADT, MADT and a DSDT, one after the other, at the address that the caller names.
//! There is no `_S5`: a guest ends by the hypervisor's shutdown call, or by halting all processors.

mod aml;
mod table;

use table::{Table, checksum};

/// The local APIC of every vcpu.
const LAPIC: u32 = 0xfee0_0000;

/// The tables as they lie in memory, and where the RSDP is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    pub bytes: Vec<u8>,
    pub rsdp: u64,
}

/// Makes the tables for a number of processors.
///
/// All of them are there for ACPI, also those that the guest shall not use at first: Linux can
/// bring up later only what its boot-time tables call enabled. It takes the others out of use when
/// it reads `cpu/N/availability` in the store.
#[must_use]
pub fn build(base: u64, vcpus: u32) -> Tables {
    let mut area = Area {
        base,
        bytes: vec![0; RSDP_SIZE],
    };
    let dsdt = area.add(dsdt(vcpus));
    let fadt = area.add(fadt(dsdt));
    let madt = area.add(madt(vcpus));
    let xsdt = area.add(xsdt(&[fadt, madt]));
    let rsdp = rsdp(xsdt);
    let mut bytes = area.bytes;
    bytes.splice(..RSDP_SIZE, rsdp);
    Tables { bytes, rsdp: base }
}

const RSDP_SIZE: usize = 36;

struct Area {
    base: u64,
    bytes: Vec<u8>,
}

impl Area {
    /// Puts a table at the next multiple of 16 and says where.
    fn add(&mut self, table: Table) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let at = self.base + self.bytes.len() as u64;
        self.bytes.extend(table.finish());
        at
    }
}

fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut rsdp = b"RSD PTR ".to_vec();
    rsdp.push(0);
    rsdp.extend_from_slice(table::OEM);
    rsdp.push(2);
    rsdp.extend(0u32.to_le_bytes());
    rsdp.extend((RSDP_SIZE as u32).to_le_bytes());
    rsdp.extend(xsdt.to_le_bytes());
    rsdp.extend([0; 4]);
    rsdp[8] = checksum(&rsdp[..20]);
    rsdp[32] = checksum(&rsdp);
    rsdp
}

fn xsdt(tables: &[u64]) -> Table {
    let mut xsdt = Table::new(b"XSDT", 1);
    for table in tables {
        xsdt.u64(*table);
    }
    xsdt
}

fn fadt(dsdt: u64) -> Table {
    const NO_VGA: u16 = 1 << 2;
    const NO_CMOS_RTC: u16 = 1 << 5;
    const WBINVD: u32 = 1 << 0;
    const PROC_C1: u32 = 1 << 2;
    const NO_POWER_BUTTON: u32 = 1 << 4;
    const NO_SLEEP_BUTTON: u32 = 1 << 5;
    const HW_REDUCED: u32 = 1 << 20;
    let mut fadt = Table::new(b"FACP", 5);
    fadt.u32(0); // FACS
    fadt.u32(0); // DSDT, by its 64-bit pointer below
    fadt.zero_to(109);
    fadt.u16(NO_VGA | NO_CMOS_RTC);
    fadt.zero_to(112);
    fadt.u32(WBINVD | PROC_C1 | NO_POWER_BUTTON | NO_SLEEP_BUTTON | HW_REDUCED);
    fadt.zero_to(131);
    fadt.u8(1); // minor version: 5.1
    fadt.zero_to(140);
    fadt.u64(dsdt);
    fadt.zero_to(268);
    fadt
}

fn madt(vcpus: u32) -> Table {
    let mut madt = Table::new(b"APIC", 4);
    madt.u32(LAPIC);
    madt.u32(0); // no pair of 8259s
    for vcpu in 0..vcpus {
        // The guest takes the processor's UID for the hypervisor's vcpu number.
        madt.u8(0);
        madt.u8(8);
        madt.u8(vcpu as u8);
        madt.u8((vcpu * 2) as u8);
        madt.u32(1); // enabled
    }
    madt
}

fn dsdt(vcpus: u32) -> Table {
    let mut dsdt = Table::new(b"DSDT", 2);
    dsdt.bytes(&aml::processors(vcpus));
    dsdt
}

#[cfg(test)]
mod tests;
