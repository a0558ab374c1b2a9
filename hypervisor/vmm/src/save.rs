//! A vcpu's state as records of its domain's HVM context, for the toolstack, and the start context
//! of VCPUOP_initialise, for the guest. The records are declared in `oxen_virt::save`.

use guest_pv_abi::{VcpuHvmContext, take_first};
use oxen_types::{Errno, Result};
use oxen_virt::save::{self, SavedVcpu, Write};

use crate::host::Host;
use crate::vcpu::{Context, HvmVcpu};

fn saved<'a, H: Host>(hvm: &'a HvmVcpu<H>, context: &'a mut Context) -> SavedVcpu<'a> {
    SavedVcpu {
        backend: &mut *context.backend,
        mtrr: &mut context.msrs.mtrr,
        tsc: &hvm.domain.tsc,
        host_tsc: hvm.domain.vmm.host.tsc(),
        phys_bits: hvm.domain.vmm.settings.phys_bits,
        xcr0: hvm.domain.cpuid.read().xcr0(),
    }
}

/// Writes the record with this HVM_SAVE_CODE.
///
/// # Errors
/// `NoEnt` if the vcpu has no such record, and any error of `write`.
pub(crate) fn save<H: Host>(
    hvm: &HvmVcpu<H>,
    context: &mut Context,
    code: u16,
    write: Write<'_>,
) -> Result<()> {
    save::save(&saved(hvm, context), code, write)
}

/// Sets the part of the vcpu's state that the record with this HVM_SAVE_CODE holds.
///
/// # Errors
/// `NoEnt` if there is no such record, `NoData` if the record is too short, `Inval` if its content
/// is not a state that a vcpu can have.
pub(crate) fn load<H: Host>(
    hvm: &HvmVcpu<H>,
    context: &mut Context,
    code: u16,
    record: &[u8],
) -> Result<()> {
    save::load(&mut saved(hvm, context), code, record)
}

/// VCPUOP_initialise: resets the vcpu and sets its registers to those of a `VcpuHvmContext`.
///
/// # Errors
/// `Inval` if the context is too short or not one that a vcpu can start with.
pub(crate) fn start(context: &mut Context, record: &[u8]) -> Result<()> {
    let (start, _) = take_first::<VcpuHvmContext>(record).ok_or(Errno::Inval)?;
    save::start(&mut *context.backend, &start)
}
