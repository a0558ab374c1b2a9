//! Switching VT-x on, and the flushes of all translations.
#![allow(
    unsafe_code,
    reason = "VMX is switched on by control registers and VMXON"
)]

use alloc::boxed::Box;

use bytemuck::Zeroable;
use oxen_types::{CpuId, Maddr};
use x86_64::registers::control::{Cr0, Cr4};

use super::caps::{self, VmxCaps, second};
use super::insn;
use crate::error::VirtError;
use crate::phys_cpu::PhysCpu;
use crate::spec::Controls;
use crate::zeroed::ToMaddr;
use crate::zeroed::zeroed_box;

const FEATURE_CONTROL: u32 = 0x3a;
/// VPIDs have 16 bits, and 0 is the host's.
const VPIDS: u32 = 1 << 16;

/// A VMXON region or a VMCS: the revision, and then what is the CPU's alone (SDM volume 3, 25.2).
#[derive(Zeroable)]
#[repr(C, align(4096))]
pub(super) struct Page([u32; 1024]);

impl Page {
    pub(super) fn new(revision: u32, to_maddr: ToMaddr) -> Result<(Box<Self>, Maddr), VirtError> {
        let mut page = zeroed_box::<Self>()?;
        page.0[0] = revision;
        // The CPU writes it from now on.
        let at = to_maddr(core::ptr::from_mut::<Self>(&mut page).expose_provenance());
        Ok((page, at))
    }
}

/// Switches VMX on for the CPU that runs this code. VMX stays on, and the VMXON region belongs to
/// the CPU, so that the region is never freed.
pub(super) fn enable(
    cpu: CpuId,
    caps: &VmxCaps,
    spec: &Controls,
    to_maddr: ToMaddr,
) -> Result<PhysCpu, VirtError> {
    // SAFETY: the CPU has VMX (`caps`), hence this register.
    if let Some(value) = caps::feature_control(unsafe { insn::rdmsr(FEATURE_CONTROL) })? {
        // SAFETY: the register is not locked, and the value only allows VMX.
        unsafe { insn::wrmsr(FEATURE_CONTROL, value) };
    }
    let (region, at) = Page::new(caps.revision, to_maddr)?;
    Box::leak(region);
    // SAFETY: only bits that VMX needs, and none that takes something away; the region is ours and
    // leaked.
    let on = unsafe {
        Cr0::write_raw(Cr0::read_raw() | caps.cr0_fixed);
        Cr4::write_raw(Cr4::read_raw() | caps.cr4_fixed);
        insn::vmxon(at)
    };
    on.map_err(|_| VirtError::VmxOnFailed)?;
    Ok(PhysCpu::new(cpu, VPIDS, spec, Maddr::new(0)))
}

/// The instructions by which all translations of all guests are flushed. Without VPIDs no
/// translation outlasts an entry or an exit, but for those of EPT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushes {
    ept: bool,
    vpid: bool,
}

impl Flushes {
    pub(super) fn of(caps: &VmxCaps) -> Self {
        Self {
            ept: caps.has_second(second::EPT),
            vpid: caps.has_second(second::VPID),
        }
    }

    /// Flushes all translations of all guests on this CPU.
    pub(super) fn all(self) {
        if self.ept {
            insn::invept(insn::Scope::All, 0);
        }
        if self.vpid {
            insn::invvpid_all();
        }
    }
}
