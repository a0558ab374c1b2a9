//! The tables, read back as a guest would.

use super::*;
use crate::layout::ACPI_BASE;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn table(tables: &Tables, addr: u64) -> &[u8] {
    let at = (addr - ACPI_BASE) as usize;
    let length = u32_at(&tables.bytes, at + 4) as usize;
    let table = &tables.bytes[at..at + length];
    assert_eq!(
        table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
        0,
        "checksum"
    );
    table
}

#[test]
fn a_guest_finds_everything_from_the_rsdp() {
    let tables = build(ACPI_BASE, 4);
    let rsdp = &tables.bytes[..36];
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!(checksum(&rsdp[..20]), 0);
    assert_eq!(checksum(rsdp), 0);
    let xsdt = table(&tables, u64_at(rsdp, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let fadt = table(&tables, u64_at(xsdt, 36));
    assert_eq!((&fadt[..4], fadt.len()), (b"FACP".as_slice(), 268));
    assert_ne!(u32_at(fadt, 112) & (1 << 20), 0, "hardware-reduced");
    assert_eq!(fadt[109], 0x24);
    let dsdt = table(&tables, u64_at(fadt, 140));
    assert_eq!(&dsdt[..4], b"DSDT");
    let processors = dsdt.windows(8).filter(|bytes| bytes == b"ACPI0007").count();
    assert_eq!(processors, 4);
    let madt = table(&tables, u64_at(xsdt, 44));
    assert_eq!((&madt[..4], madt.len()), (b"APIC".as_slice(), 44 + 4 * 8));
    let cpus: Vec<_> = madt[44..]
        .chunks(8)
        .map(|c| (c[0], c[2], c[3], c[4]))
        .collect();
    assert_eq!(
        cpus,
        [(0, 0, 0, 1), (0, 1, 2, 1), (0, 2, 4, 1), (0, 3, 6, 1)]
    );
}

#[test]
fn the_most_processors_fit() {
    let tables = build(ACPI_BASE, 128);
    let dsdt = &tables.bytes[48..];
    assert_eq!(&dsdt[..4], b"DSDT");
    assert!(tables.bytes.len() < 16 * 4096);
}

/// The ACPI compiler agrees, where there is one.
#[test]
fn the_dsdt_disassembles_if_there_is_a_disassembler() {
    let tables = build(ACPI_BASE, 3);
    let length = u32_at(&tables.bytes, 48 + 4) as usize;
    let path = std::env::temp_dir().join(format!("oxen-dsdt-{}.aml", std::process::id()));
    std::fs::write(&path, &tables.bytes[48..48 + length]).expect("a scratch file");
    let out = std::process::Command::new("iasl")
        .arg("-d")
        .arg(&path)
        .output();
    let source = std::fs::read_to_string(path.with_extension("dsl"));
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_file(path.with_extension("dsl"));
    if out.is_ok() {
        let source = source.expect("the disassembly");
        assert!(
            source.contains("Device (C002)") && source.contains("ACPI0007"),
            "{source}"
        );
    }
}
