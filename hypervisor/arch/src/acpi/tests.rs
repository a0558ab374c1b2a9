//! A machine whose firmware keeps its tables above 4 GiB, and above 1 TiB.

use super::root::{Memory, read};
use super::*;
use crate::boot::{BootInfo, MemoryKind, MemoryRange};
use oxen_types::Maddr;
use std::sync::OnceLock;

const HIGH: u64 = 5 << 30;
const HIGHER: u64 = 3 << 40;

/// Pieces of firmware's memory by address.
static PIECES: OnceLock<Vec<(u64, Vec<u8>)>> = OnceLock::new();

fn memory(address: u64, length: usize) -> Option<&'static [u8]> {
    PIECES.get_or_init(pieces).iter().find_map(|(at, bytes)| {
        let offset = usize::try_from(address.checked_sub(*at)?).ok()?;
        bytes.get(offset..offset.checked_add(length)?)
    })
}

fn sealed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = bytes[at].wrapping_sub(sum);
    bytes
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.extend([2, 0]);
    bytes.extend(b"OXEN  OXENTEST");
    bytes.extend([0; 12]);
    bytes.extend(body);
    sealed(bytes, 9)
}

fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0OXEN  \x02".to_vec();
    bytes.extend([0; 4]);
    bytes.extend(36u32.to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    let first = sealed(bytes[..20].to_vec(), 8);
    bytes[..20].copy_from_slice(&first);
    sealed(bytes, 32)
}

fn pieces() -> Vec<(u64, Vec<u8>)> {
    let (xsdt, madt, mcfg, dsdt, facp) = (
        HIGH + 0x100,
        HIGH + 0x1000,
        HIGHER,
        HIGHER + 0x1000,
        HIGH + 0x2000,
    );
    // The local APIC's address, then one CPU and one IO-APIC.
    let mut cpus = 0xfee0_0000u32.to_le_bytes().to_vec();
    cpus.extend([1, 0, 0, 0]);
    cpus.extend([0, 8, 0, 7, 1, 0, 0, 0]);
    cpus.extend([1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    let mut config = vec![0; 8];
    config.extend(0x80_0000_0000u64.to_le_bytes());
    config.extend([0, 0, 0, 0xff, 0, 0, 0, 0]);
    // X_DSDT is at 140.
    let mut fixed = vec![0; 244 - 36];
    fixed[140 - 36..148 - 36].copy_from_slice(&dsdt.to_le_bytes());
    let mut entries = Vec::new();
    // The last one is where nothing can be reached.
    for address in [madt, mcfg, facp, 1 << 50] {
        entries.extend(address.to_le_bytes());
    }
    vec![
        // The BIOS' areas.
        (0, vec![0; 2 << 20]),
        // In ACPI memory, behind something else.
        (HIGH, [vec![0xaa; 0x40], rsdp(xsdt)].concat()),
        (xsdt, table(b"XSDT", &entries)),
        (madt, table(b"APIC", &cpus)),
        (mcfg, table(b"MCFG", &config)),
        (facp, table(b"FACP", &fixed)),
        (
            dsdt,
            table(b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05"),
        ),
    ]
}

fn info_of(range: (u64, u64)) -> BootInfo {
    let mut info = BootInfo::default();
    info.memory.push(MemoryRange {
        start: Maddr::new(range.0),
        end: Maddr::new(range.1),
        kind: MemoryKind::AcpiReclaim,
    });
    info
}

/// As multiboot 2: the loader hands over a copy of the RSDP.
fn handed_over(xsdt: u64) -> BootInfo {
    BootInfo {
        rsdp_copy: Some(rsdp(xsdt)),
        ..BootInfo::default()
    }
}

fn check(acpi: &AcpiInfo) {
    let cpus: Vec<_> = acpi.cpus.iter().map(|cpu| cpu.apic_id).collect();
    assert_eq!(cpus, [7]);
    assert_eq!(acpi.io_apics[0].address, Maddr::new(0xfec0_0000));
    assert_eq!(acpi.mcfg[0].base, Maddr::new(0x80_0000_0000));
    let named: Vec<_> = acpi.tables.iter().map(|t| t.address.raw()).collect();
    assert_eq!(named, [HIGH + 0x1000, HIGHER, HIGH + 0x2000]);
    assert_eq!(acpi.fadt.as_ref().unwrap().s5, Some((5, 5)));
}

#[test]
fn tables_above_4_gib_are_read() {
    let info = handed_over(HIGH + 0x100);
    check(&read(&info, Memory::new(memory)).unwrap());
}

/// As multiboot 1 on UEFI: nobody says where the RSDP is.
#[test]
fn an_rsdp_above_4_gib_is_found_in_acpi_memory() {
    let info = read(&info_of((HIGH, HIGH + 0x64)), Memory::new(memory)).unwrap();
    assert_eq!(info.rsdp, Some(Maddr::new(HIGH + 0x40)));
    check(&info);
}

#[test]
fn tables_out_of_reach_are_an_error() {
    let info = handed_over(1 << 51);
    assert!(read(&info, Memory::new(memory)).is_err());
    // Neither in ACPI memory nor below 1 MiB.
    assert!(read(&info_of((1 << 51, (1 << 51) + 0x1000)), Memory::new(memory)).is_err());
}
