//! The AMD-V back end: one virtual CPU as a VMCB, with the state that the VMCB has no field for.
#![allow(unsafe_code, reason = "writes TSC_AUX")]

mod backend;
mod enter;
mod events;
mod registers;

use alloc::boxed::Box;
use alloc::sync::Arc;

use oxen_types::Maddr;

use super::caps::{SvmCaps, SvmFeatures};
use super::insn;
use super::intercept::{self, g1};
use super::virtual_registers::VirtualRegisters;
use super::vmcb::{Clean, Vmcb, int_ctl};
use crate::backend::{Gprs, VcpuBackend};
use crate::error::VirtError;
use crate::fpu::Fpu;
use crate::permission_maps::DomainControls;
use crate::quirks::Quirks;
use crate::spec::SpecVcpu;
use crate::tags::Tag;
use crate::vendor::VcpuParts;
use crate::x86::MSR_TSC_AUX;
use crate::zeroed::zeroed_box;

/// A loop exits after this many PAUSEs, each less than `PAUSE_THRESHOLD` cycles behind the one
/// before (APM volume 2, 15.14.4).
const PAUSE_COUNT: u16 = 3000;
const PAUSE_THRESHOLD: u16 = 128;
/// In the VMCB's interrupt state: the guest is in an interrupt shadow.
const INTERRUPT_SHADOW: u64 = 1;

/// One virtual CPU on AMD-V.
pub(super) struct SvmVcpu {
    /// The general registers. The VMCB has RAX and RSP of its own, which are copied at each entry
    /// and exit.
    regs: Gprs,
    pub(super) vmcb: Box<Vmcb>,
    vmcb_maddr: Maddr,
    caps: SvmCaps,
    quirks: Quirks,
    /// The parts of the VMCB that have not changed since the last exit on this CPU.
    pub(super) clean: Clean,
    /// The ASID, valid on the CPU that gave it out.
    tag: Tag,
    /// The next entry flushes the translations of the ASID.
    flush_asid: bool,
    fpu: Fpu,
    /// DR0 to DR3, while they are not in the CPU.
    pub(super) dr: [u64; 4],
    /// DR0 to DR3 are in the CPU.
    pub(super) dr_loaded: bool,
    tsc_aux: u64,
    spec: SpecVcpu,
    /// The vcpu is on a CPU, between `load` and `unload`.
    loaded: bool,
    /// NMIs are blocked: from the delivery of one to the guest's IRET.
    nmi_blocked: bool,
    /// RIP of the IRET that will unblock NMIs once it has run.
    nmi_iret_at: Option<u64>,
    /// This CPU takes a virtual interrupt whose priority equals V_TPR, as QEMU's TCG does: see
    /// `note_priority`.
    takes_equal_priority: bool,
    /// With nested paging, the guest's CR4. The CPU's CR4 has MCE set whatever the guest sets.
    cr4: u64,
    /// Without nested paging, the guest's control registers.
    shadowed: Option<VirtualRegisters>,
    /// Keeps the permission maps alive that the VMCB points to.
    domain: Arc<DomainControls>,
}

impl SvmVcpu {
    /// A vcpu of `domain` in the state after power-on.
    ///
    /// # Errors
    /// `NoMemory` if there is no memory for the VMCB or the FPU state.
    pub(super) fn new(caps: SvmCaps, parts: VcpuParts) -> Result<Self, VirtError> {
        let VcpuParts {
            fpu,
            quirks,
            domain,
            to_maddr,
        } = parts;
        let mut vmcb = zeroed_box::<Vmcb>()?;
        // The CPU reads and writes the VMCB during `enter`, which the compiler does not see.
        let vmcb_maddr = to_maddr(core::ptr::from_mut::<Vmcb>(&mut vmcb).expose_provenance());
        let c = &mut vmcb.control;
        c.exceptions = intercept::EXCEPTIONS;
        c.general1 = g1::ALWAYS;
        c.general2 = intercept::G2_ALWAYS;
        c.general3 = if caps.invlpgb {
            intercept::G3_INVLPGB
        } else {
            0
        };
        c.cr_write = intercept::CR4;
        c.dr_read = intercept::DR_ALL;
        c.dr_write = intercept::DR_ALL;
        if caps.has(SvmFeatures::PAUSE_FILTER) {
            c.general1 |= g1::PAUSE;
            c.pause_count = PAUSE_COUNT;
            if caps.has(SvmFeatures::PAUSE_THRESHOLD) {
                c.pause_threshold = PAUSE_THRESHOLD;
            }
        }
        c.iopm = domain.io_map().raw();
        c.msrpm = domain.msr_map(0).raw();
        c.int_ctl = int_ctl::MASKING;
        c.nested_ctl = 1;
        let mut vcpu = Self {
            regs: Gprs::default(),
            vmcb,
            vmcb_maddr,
            caps,
            quirks,
            clean: Clean::empty(),
            tag: Tag::NONE,
            flush_asid: false,
            fpu: Fpu::new(fpu)?,
            dr: [0; 4],
            dr_loaded: false,
            tsc_aux: 0,
            spec: SpecVcpu::default(),
            loaded: false,
            nmi_blocked: false,
            nmi_iret_at: None,
            takes_equal_priority: false,
            cr4: 0,
            shadowed: None,
            domain,
        };
        vcpu.reset(true);
        Ok(vcpu)
    }

    /// Switches an intercept of the first vector of general intercepts on or off.
    fn intercept(&mut self, bit: u32, on: bool) {
        let general1 = &mut self.vmcb.control.general1;
        let new = if on {
            *general1 | bit
        } else {
            *general1 & !bit
        };
        if new != *general1 {
            *general1 = new;
            self.clean.remove(Clean::INTERCEPTS);
        }
    }

    fn write_tsc_aux(&self) {
        if self.caps.tsc_aux {
            // SAFETY: the MSR exists, and the hypervisor does not use it.
            unsafe { insn::wrmsr(MSR_TSC_AUX, self.tsc_aux & 0xffff_ffff) };
        }
    }
}

#[cfg(test)]
mod tests;
