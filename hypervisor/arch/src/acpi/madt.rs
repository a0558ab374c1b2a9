//! CPUs and interrupt controllers: the MADT (ACPI 6.5, 5.2.12).

use super::checks::entries_are_sound;
use super::info::{AcpiInfo, Cpu, IoApic, LocalNmi, Override};
use super::root::Memory;
use ::acpi::madt::{Madt, MadtEntry};
use ::acpi::{AcpiError, AcpiTables, MadtError};
use oxen_types::Maddr;

const ENABLED: u32 = 1;

pub(super) fn read(
    tables: &AcpiTables<Memory>,
    memory: Memory,
    out: &mut AcpiInfo,
) -> Result<(), AcpiError> {
    let madt = tables.find_table::<Madt>()?;
    // The crate's iterator trusts the entries' lengths.
    let bytes = memory.bytes(madt.physical_start() as u64, madt.region_length());
    if !bytes.is_some_and(entries_are_sound) {
        return Err(AcpiError::InvalidMadt(MadtError::UnexpectedEntry));
    }
    let table = madt.get();
    out.local_apic = Maddr::new(table.local_apic_address.into());
    for entry in table.entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 && cpu.apic_id != 0xff => {
                add_cpu(out, cpu.apic_id.into(), cpu.processor_id.into());
            }
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => {
                add_cpu(out, cpu.x2apic_id, cpu.processor_uid);
            }
            MadtEntry::IoApic(found) => {
                let io_apic = IoApic {
                    id: found.io_apic_id,
                    address: Maddr::new(found.io_apic_address.into()),
                    gsi_base: found.global_system_interrupt_base,
                };
                out.io_apics.push(io_apic);
            }
            MadtEntry::InterruptSourceOverride(found) if found.bus == 0 => {
                let entry = Override {
                    isa_irq: found.irq,
                    gsi: found.global_system_interrupt,
                    flags: found.flags,
                };
                out.overrides.push(entry);
            }
            MadtEntry::LocalApicNmi(found) => {
                let uid = (found.processor_id != 0xff).then_some(found.processor_id.into());
                let nmi = LocalNmi {
                    uid,
                    lint: found.nmi_line,
                    flags: found.flags,
                };
                out.local_nmis.push(nmi);
            }
            MadtEntry::X2ApicNmi(found) => {
                let uid = Some(found.processor_uid).filter(|uid| *uid != u32::MAX);
                let nmi = LocalNmi {
                    uid,
                    lint: found.nmi_line,
                    flags: found.flags,
                };
                out.local_nmis.push(nmi);
            }
            MadtEntry::LocalApicAddressOverride(found) => {
                out.local_apic = Maddr::new(found.local_apic_address);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A CPU may have both kinds of entry.
fn add_cpu(out: &mut AcpiInfo, apic_id: u32, uid: u32) {
    if !out.cpus.iter().any(|cpu| cpu.apic_id == apic_id) {
        out.cpus.push(Cpu { apic_id, uid });
    }
}
