//! A vcpu's state as records of a domain's HVM context (xen/arch-x86/hvm/save.h).
//!
//! Each record is declared once, in [`RECORDS`]. A record of fixed size implements [`VcpuRecord`]
//! for its type of the ABI crate.
//!
//! A record's content comes from a toolstack. No value can harm the hypervisor: a state that the
//! hardware refuses ends in `Exit::InvalidState`, and extended state is checked before XRSTOR reads
//! it.

mod cpu;
mod mtrr;
mod start;
mod xsave;

use bytemuck::Pod;
use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

pub use start::start;

use crate::backend::VcpuBackend;
use crate::policy::Mtrr;
use crate::tsc::TscOffsets;

/// A vcpu that is not loaded on a CPU, with all that its records are made of.
pub struct SavedVcpu<'a> {
    /// Registers, FPU state and pending event.
    pub backend: &'a mut dyn VcpuBackend,
    /// The memory type range registers.
    pub mtrr: &'a mut Mtrr,
    /// The TSC offsets of the domain's vcpus.
    pub tsc: &'a TscOffsets,
    /// The host's TSC now.
    pub host_tsc: u64,
    /// Bits of a physical address of the machine.
    pub phys_bits: u32,
    /// The components that the domain's CPUID policy lets XCR0 have.
    pub xcr0: u64,
}

/// Receives the bytes of a record, in one or more parts.
pub type Write<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// A kind of record, of which each vcpu has one.
struct Record {
    /// HVM_SAVE_CODE of the record.
    code: u16,
    save: fn(&SavedVcpu<'_>, Write<'_>) -> Result<()>,
    load: fn(&mut SavedVcpu<'_>, &[u8]) -> Result<()>,
}

/// A record of fixed size.
trait VcpuRecord: Pod {
    /// HVM_SAVE_CODE of the record.
    const CODE: u16;
    /// The record of a vcpu.
    fn save(vcpu: &SavedVcpu<'_>) -> Self;
    /// Sets the vcpu's state to that of the record.
    fn load(&self, vcpu: &mut SavedVcpu<'_>) -> core::result::Result<(), BadRecord>;
}

/// The content of a record is not a state that a vcpu can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BadRecord;

impl From<BadRecord> for Errno {
    fn from(_: BadRecord) -> Self {
        Self::Inval
    }
}

/// The records of a vcpu.
const RECORDS: [Record; 5] = [
    fixed::<abi::HvmHwCpu>(),
    fixed::<abi::HvmHwMtrr>(),
    xsave::RECORD,
    unsupported(abi::HVM_SAVE_CODE_LAPIC),
    unsupported(abi::HVM_SAVE_CODE_LAPIC_REGS),
];

const fn fixed<T: VcpuRecord>() -> Record {
    Record {
        code: T::CODE,
        save: |vcpu, write| write(bytemuck::bytes_of(&T::save(vcpu))),
        load: |vcpu, bytes| {
            let (record, _) = abi::take_first::<T>(bytes).ok_or(Errno::NoData)?;
            Ok(record.load(vcpu)?)
        },
    }
}

/// A record that is neither saved nor loaded. The local APIC of a new guest is as after reset;
/// restoring one comes with migration.
const fn unsupported(code: u16) -> Record {
    Record {
        code,
        save: |_, _| Err(Errno::NoEnt),
        load: |_, _| Err(Errno::OpNotSupp),
    }
}

fn record(code: u16) -> Result<&'static Record> {
    let found = RECORDS.iter().find(|record| record.code == code);
    found.ok_or(Errno::NoEnt)
}

/// Writes the record with this code.
///
/// # Errors
/// `NoEnt` if the vcpu has no such record, and any error of `write`.
pub fn save(vcpu: &SavedVcpu<'_>, code: u16, write: Write<'_>) -> Result<()> {
    (record(code)?.save)(vcpu, write)
}

/// Sets the part of the vcpu's state that the record with this code holds.
///
/// # Errors
/// `NoEnt` if there is no such record, `OpNotSupp` for a local APIC's, `NoData` if the record is
/// too short, `Inval` if its content is not a state that a vcpu can have.
pub fn load(vcpu: &mut SavedVcpu<'_>, code: u16, bytes: &[u8]) -> Result<()> {
    (record(code)?.load)(vcpu, bytes)
}

#[cfg(test)]
pub(crate) mod tests;
