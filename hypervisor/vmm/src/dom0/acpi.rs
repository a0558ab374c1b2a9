//! dom0's ACPI tables: the machine's own, but for a MADT that lists dom0's vcpus, and without those
//! that describe what is ours (ACPI 6.5, 5.2).

use alloc::vec::Vec;

use oxen_arch::acpi::AcpiInfo;
use oxen_types::Errno;

/// Tables that dom0 may see. FADT leads it to FACS and DSDT.
const SHOWN: [&[u8; 4]; 10] = [
    b"FACP", b"SSDT", b"PSDT", b"SBST", b"MCFG", b"SLIC", b"MSDM", b"WDAT", b"FPDT", b"S3PT",
];

const HEADER: usize = 36;
const RSDP: usize = 36;
const CHECKSUM: usize = 9;
const LAPIC: u32 = 0xfee0_0000;

/// Puts bytes at a guest-physical address.
pub(crate) type Writer<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Errno> + 'a;

/// The tables that are made for dom0, and the addresses of the machine's that it sees.
pub(crate) struct Tables {
    madt: Vec<u8>,
    shown: Vec<u64>,
}

impl Tables {
    /// For a dom0 of so many vcpus.
    pub(crate) fn new(acpi: &AcpiInfo, vcpus: u32) -> Self {
        let shown = acpi
            .tables
            .iter()
            .filter(|t| SHOWN.contains(&&t.signature))
            .map(|t| t.address.raw())
            .collect();
        Self {
            madt: madt(acpi, vcpus),
            shown,
        }
    }

    /// Bytes of the tables that are made.
    pub(crate) fn len(&self) -> u64 {
        (RSDP.next_multiple_of(64)
            + self.madt.len().next_multiple_of(64)
            + HEADER
            + 8 * (self.shown.len() + 1)) as u64
    }

    /// Writes the tables at `at`. Returns the address of the RSDP.
    ///
    /// # Errors
    /// Those of `write`.
    pub(crate) fn install(&self, at: u64, write: &mut Writer<'_>) -> Result<u64, Errno> {
        let madt_at = at + RSDP.next_multiple_of(64) as u64;
        let xsdt_at = madt_at + self.madt.len().next_multiple_of(64) as u64;
        let mut xsdt = header(b"XSDT", 1);
        for entry in self.shown.iter().copied().chain([madt_at]) {
            xsdt.extend_from_slice(&entry.to_le_bytes());
        }
        seal(&mut xsdt);
        write(madt_at, &self.madt)?;
        write(xsdt_at, &xsdt)?;
        write(at, &rsdp(xsdt_at))?;
        Ok(at)
    }
}

fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut bytes = Vec::from(*b"RSD PTR ");
    bytes.push(0);
    bytes.extend_from_slice(b"OXEN  ");
    bytes.push(2);
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&(RSDP as u32).to_le_bytes());
    bytes.extend_from_slice(&xsdt.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes[8] = checksum(&bytes[..20]);
    bytes[32] = checksum(&bytes);
    bytes
}

fn header(signature: &[u8; 4], revision: u8) -> Vec<u8> {
    let mut bytes = Vec::from(*signature);
    bytes.extend_from_slice(&[0; 4]);
    bytes.push(revision);
    bytes.push(0);
    bytes.extend_from_slice(b"OXEN  DOM0    ");
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(b"OXEN");
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes
}

/// Sets length and checksum.
fn seal(table: &mut [u8]) {
    let len = table.len() as u32;
    table[4..8].copy_from_slice(&len.to_le_bytes());
    table[CHECKSUM] = 0;
    table[CHECKSUM] = checksum(table);
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

/// dom0's processors as x2APIC entries (uid = vcpu, id = 2 * vcpu), the machine's IO-APICs and
/// overrides.
fn madt(acpi: &AcpiInfo, vcpus: u32) -> Vec<u8> {
    let mut table = header(b"APIC", 4);
    table.extend_from_slice(&LAPIC.to_le_bytes());
    table.extend_from_slice(&0u32.to_le_bytes());
    for io_apic in &acpi.io_apics {
        table.extend_from_slice(&[1, 12, io_apic.id, 0]);
        table.extend_from_slice(&(io_apic.address.raw() as u32).to_le_bytes());
        table.extend_from_slice(&io_apic.gsi_base.to_le_bytes());
    }
    for vcpu in 0..vcpus {
        table.extend_from_slice(&[9, 16, 0, 0]);
        for word in [vcpu * 2, 1, vcpu] {
            table.extend_from_slice(&word.to_le_bytes());
        }
    }
    for entry in &acpi.overrides {
        table.extend_from_slice(&[2, 10, 0, entry.isa_irq]);
        table.extend_from_slice(&entry.gsi.to_le_bytes());
        table.extend_from_slice(&entry.flags.to_le_bytes());
    }
    seal(&mut table);
    table
}
