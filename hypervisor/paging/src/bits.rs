//! Bits of control registers that rule a guest's paging, as the crate `x86_64` numbers them.

use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::registers::model_specific::EferFlags;

pub(crate) const CR0_WP: u64 = Cr0Flags::WRITE_PROTECT.bits();
pub(crate) const CR0_PG: u64 = Cr0Flags::PAGING.bits();

pub(crate) const CR4_PSE: u64 = Cr4Flags::PAGE_SIZE_EXTENSION.bits();
pub(crate) const CR4_PAE: u64 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits();
pub(crate) const CR4_PGE: u64 = Cr4Flags::PAGE_GLOBAL.bits();
pub(crate) const CR4_LA57: u64 = Cr4Flags::L5_PAGING.bits();
pub(crate) const CR4_PCIDE: u64 = Cr4Flags::PCID.bits();
pub(crate) const CR4_SMEP: u64 = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits();
pub(crate) const CR4_SMAP: u64 = Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION.bits();

pub(crate) const EFER_LMA: u64 = EferFlags::LONG_MODE_ACTIVE.bits();
pub(crate) const EFER_NX: u64 = EferFlags::NO_EXECUTE_ENABLE.bits();

#[cfg(test)]
pub(crate) const CR0_PE: u64 = Cr0Flags::PROTECTED_MODE_ENABLE.bits();
#[cfg(test)]
pub(crate) const EFER_LME: u64 = EferFlags::LONG_MODE_ENABLE.bits();
