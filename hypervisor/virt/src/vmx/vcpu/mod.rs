//! The VT-x back end: one virtual CPU as a VMCS, with the state that the VMCS has no field for.

mod backend;
mod events;
mod exits;
mod registers;

use alloc::boxed::Box;
use alloc::sync::Arc;

use oxen_types::Maddr;

use super::apic::Apic;
use super::caps::{VmxCaps, second};
use super::cpu::{Flushes, Page};
use super::enter::EXCEPTIONS;
use super::exit::Info;
use super::state;
use super::virtual_registers::VirtualRegisters;
use crate::backend::{Event, Gprs, VcpuBackend};
use crate::error::VirtError;
use crate::fpu::Fpu;
use crate::permission_maps::DomainControls;
use crate::spec::SpecVcpu;
use crate::tags::Tag;
use crate::vendor::VcpuParts;
use crate::x86::DR6_RESET;
use crate::zeroed::ToMaddr;

/// In the interruptibility state: the interrupt shadows behind STI and MOV SS.
const INTERRUPT_SHADOW: u64 = 3;
/// In the pending debug exceptions: a single step (BS).
const SINGLE_STEP: u64 = 1 << 14;

/// One virtual CPU on VT-x.
pub(super) struct VmxVcpu {
    /// The general registers. The VMCS has RSP of its own, which is copied at each entry and exit.
    pub(super) regs: Gprs,
    pub(super) state: state::State,
    pub(super) info: Info,
    pub(super) caps: VmxCaps,
    _vmcs: Box<Page>,
    vmcs_maddr: Maddr,
    pub(super) apic: Apic,
    pub(super) to_maddr: ToMaddr,
    pub(super) domain: Arc<DomainControls>,
    /// The fields of the VMCS that never change have been written.
    pub(super) prepared: bool,
    /// The VMCS has been launched since it was loaded: the next entry is a VMRESUME.
    pub(super) launched: bool,
    /// INVEPT and INVVPID exist. Kept, as the capabilities of a guest on a shadow are without EPT.
    pub(super) flushes: Flushes,
    /// The VPID, valid on the CPU that gave it out.
    pub(super) tag: Tag,
    /// The next entry flushes the translations of the nested tables.
    pub(super) flush: bool,
    /// The event that the next entry delivers.
    pub(super) pending: Option<Event>,
    /// NMIs are blocked: from the delivery of one to the exit at the end of its handler. The VMCS
    /// has this too, but entries of Bochs 2.7 block NMIs and never unblock them, so that one
    /// guest's state gets into another guest.
    pub(super) nmi_blocked: bool,
    /// The value of the host's TSC at which runs end.
    pub(super) deadline: Option<u64>,
    fpu: Fpu,
    pub(super) cr2: u64,
    /// DR0 to DR3, while they are not in the CPU.
    pub(super) dr: [u64; 4],
    /// DR6, while it is not in the CPU.
    pub(super) dr6: u64,
    /// DR0 to DR3 and DR6 are in the CPU.
    pub(super) dr_loaded: bool,
    /// In the order of `LOADED_MSRS`, while they are not in the CPU.
    pub(super) msrs: [u64; 5],
    pub(super) tsc_aux: u64,
    pub(super) spec: SpecVcpu,
    /// Without nested paging, the guest's control registers.
    pub(super) shadowed: Option<VirtualRegisters>,
    /// The vcpu is on a CPU, between `load` and `unload`.
    pub(super) loaded: bool,
}

impl VmxVcpu {
    /// A vcpu of `domain` in the state after power-on.
    ///
    /// # Errors
    /// `NoMemory` if there is no memory for the VMCS, the APIC page or the FPU state.
    pub(super) fn new(caps: VmxCaps, parts: VcpuParts) -> Result<Self, VirtError> {
        let VcpuParts {
            fpu,
            domain,
            to_maddr,
            ..
        } = parts;
        let (vmcs, vmcs_maddr) = Page::new(caps.revision, to_maddr)?;
        let mut vcpu = Self {
            regs: Gprs::default(),
            state: state::State::new(),
            info: Info::default(),
            caps,
            _vmcs: vmcs,
            vmcs_maddr,
            apic: Apic::new(to_maddr)?,
            to_maddr,
            domain,
            prepared: false,
            launched: false,
            flushes: Flushes::of(&caps),
            tag: Tag::NONE,
            flush: false,
            pending: None,
            nmi_blocked: false,
            deadline: None,
            fpu: Fpu::new(fpu)?,
            cr2: 0,
            dr: [0; 4],
            dr6: DR6_RESET,
            dr_loaded: false,
            msrs: [0; 5],
            tsc_aux: 0,
            spec: SpecVcpu::default(),
            shadowed: None,
            loaded: false,
        };
        if !caps.has_second(second::VPID) {
            vcpu.state.lack(state::VPID);
        }
        let (proc, entry) = (u64::from(caps.proc), u64::from(caps.entry));
        vcpu.state.set(state::PROC_CONTROLS, proc);
        vcpu.state.set(state::ENTRY_CONTROLS, entry);
        vcpu.state.set(state::PIN_CONTROLS, caps.pin.into());
        vcpu.state.set(state::EXCEPTIONS, EXCEPTIONS);
        vcpu.reset(true);
        Ok(vcpu)
    }
}

#[cfg(test)]
mod tests;
