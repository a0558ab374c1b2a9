//! Model-specific registers: what a guest's RDMSR and WRMSR do. A register that is not listed
//! faults; the caller logs it, with a rate limit.

use super::cpuid::CpuidPolicy;
use super::hypervisor::MSR_HYPERCALL_PAGE;
use super::mtrr::Mtrr;
use crate::backend::{Reg, SegReg, VcpuEmulation};
use crate::features::{Ext1Edx, Ext8Ebx, Leaf7Ebx, Leaf7Edx};
use crate::spec::{
    self, MSR_ARCH_CAPABILITIES, MSR_FLUSH_CMD, MSR_PRED_CMD, MSR_SPEC_CTRL, MSR_VIRT_SPEC_CTRL,
};
use crate::x86::*;

const MSR_TSC_ADJUST: u32 = 0x3b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const MSR_UCODE_WRITE: u32 = 0x79;
const MSR_PATCH_LEVEL: u32 = 0x8b;
const MSR_MCG_CAP: u32 = 0x179;
const MSR_MCG_STATUS: u32 = 0x17a;
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MSR_XSS: u32 = 0xda0;
const MSR_SYSCFG: u32 = 0xc001_0010;
const MSR_HWCR: u32 = 0xc001_0015;
const MSR_TOP_MEM: u32 = 0xc001_001a;
const MSR_TOP_MEM2: u32 = 0xc001_001d;
const MSR_NB_CFG: u32 = 0xc001_001f;
const MSR_PATCH_LOADER: u32 = 0xc001_0020;
const MSR_INT_PENDING: u32 = 0xc001_0055;
const MSR_MMIO_CONF_BASE: u32 = 0xc001_0058;
const MSR_DE_CFG: u32 = 0xc001_1029;

/// Fixed ranges, TOM2 and its memory type: what tells dom0 how RAM is laid out.
const SYSCFG_SHOWN: u64 = 0x7 << 20;
/// The TSC counts at the P0 frequency.
const HWCR_TSC_FREQ_SEL: u64 = 1 << 24;
const DE_CFG_LFENCE_SERIALISE: u64 = 1 << 1;
/// SVM is off, and stays so.
const VM_CR_DISABLED: u64 = 1 << 4 | 1 << 3;

/// The instruction faults: #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsrFault;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrRead {
    Value(u64),
    /// A register of the local APIC (APIC_BASE, TSC_DEADLINE, x2APIC): ask it.
    Lapic,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MsrWrite {
    Done,
    Lapic,
    /// The guest wants the page of hypercall stubs at this guest physical address.
    HypercallPage(u64),
    /// The guest has predictions forgotten, or the first-level cache written back:
    /// `crate::spec::command`.
    Command(u32),
}

/// Host values that dom0 may see, read once at boot.
#[derive(Clone, Copy, Default, Debug)]
pub struct HostMsrs {
    pub patch_level: u64,
    pub syscfg: u64,
    pub top_mem: u64,
    pub top_mem2: u64,
}

impl HostMsrs {
    /// `rdmsr` is called for registers of the vendor's CPUs only.
    pub fn read(amd: bool, rdmsr: &mut dyn FnMut(u32) -> u64) -> Self {
        if !amd {
            return Self {
                patch_level: rdmsr(MSR_PATCH_LEVEL),
                ..Self::default()
            };
        }
        Self {
            patch_level: rdmsr(MSR_PATCH_LEVEL),
            syscfg: rdmsr(MSR_SYSCFG) & SYSCFG_SHOWN,
            top_mem: rdmsr(MSR_TOP_MEM),
            top_mem2: rdmsr(MSR_TOP_MEM2),
        }
    }
}

/// The settings that a domain's vcpus have in common.
#[derive(Clone, Copy, Default, Debug)]
pub struct MsrPolicy {
    pub dom0: bool,
    pub host: HostMsrs,
    /// ARCH_CAPABILITIES.
    pub arch_caps: u64,
}

/// The MSRs that a vcpu keeps besides its back end.
#[derive(Clone, Copy, Default, Debug)]
pub struct MsrState {
    pub tsc_adjust: u64,
    pub mtrr: Mtrr,
}

/// One access, with all that it depends on.
pub struct MsrAccess<'a> {
    pub vcpu: &'a mut dyn VcpuEmulation,
    pub state: &'a mut MsrState,
    pub policy: &'a MsrPolicy,
    pub cpuid: &'a CpuidPolicy,
    pub host_tsc: u64,
}

enum Slot {
    Reg(Reg),
    /// Holds a linear address: must be canonical.
    Pointer(Reg),
    Base(SegReg),
    Efer,
    Pat,
    Tsc,
    TscAdjust,
    Lapic,
    HypercallPage,
    /// A register in which the guest may set these bits.
    Masked(Reg, u64),
    /// Only bit 0 does anything, once; cannot be read.
    Command,
    /// Reads as this; writes are accepted and have no effect.
    Ignored(u64),
    /// Reads as this; only the same value may be written.
    Constant(u64),
    /// Writes are accepted and have no effect; cannot be read.
    WriteIgnored,
    Mtrr,
    Absent,
}

fn slot(msr: u32, policy: &MsrPolicy, cpuid: &CpuidPolicy) -> Slot {
    let amd = cpuid.is_amd();
    let host = if policy.dom0 {
        policy.host
    } else {
        HostMsrs::default()
    };
    match msr {
        MSR_TSC => Slot::Tsc,
        MSR_APIC_BASE | MSR_TSC_DEADLINE | 0x800..=0x8ff => Slot::Lapic,
        MSR_TSC_ADJUST if cpuid.has_7(Leaf7Ebx::TSC_ADJUST) => Slot::TscAdjust,
        MSR_SPEC_CTRL if spec_ctrl(cpuid) != 0 => Slot::Masked(Reg::SpecCtrl, spec_ctrl(cpuid)),
        MSR_VIRT_SPEC_CTRL if cpuid.has_ext8(Ext8Ebx::VIRT_SSBD) => {
            Slot::Masked(Reg::VirtSpecCtrl, spec::SSBD)
        }
        MSR_PRED_CMD if cpuid.has_7_edx(Leaf7Edx::IBRSB) || cpuid.has_ext8(Ext8Ebx::IBPB) => {
            Slot::Command
        }
        MSR_FLUSH_CMD if cpuid.has_7_edx(Leaf7Edx::L1D_FLUSH) => Slot::Command,
        MSR_ARCH_CAPABILITIES if cpuid.has_7_edx(Leaf7Edx::ARCH_CAPS) => {
            Slot::Constant(policy.arch_caps)
        }
        MSR_UCODE_WRITE => Slot::WriteIgnored,
        MSR_PATCH_LEVEL => Slot::Ignored(policy.host.patch_level),
        MSR_SYSENTER_CS => Slot::Reg(Reg::SysenterCs),
        MSR_SYSENTER_ESP => Slot::Pointer(Reg::SysenterEsp),
        MSR_SYSENTER_EIP => Slot::Pointer(Reg::SysenterEip),
        // No banks: machine checks are the hypervisor's.
        MSR_MCG_CAP => Slot::Constant(0),
        MSR_MCG_STATUS => Slot::Constant(0),
        // DEBUGCTL and the last branch records: no branch tracing.
        0x1d9 | 0x1db..=0x1de => Slot::Ignored(0),
        MSR_PAT => Slot::Pat,
        0xfe | 0x200..=0x21f | 0x250 | 0x258 | 0x259 | 0x268..=0x26f | 0x2ff => Slot::Mtrr,
        // No supervisor state.
        MSR_XSS if cpuid.has_xsaves() => Slot::Constant(0),
        MSR_HYPERCALL_PAGE => Slot::HypercallPage,
        MSR_EFER => Slot::Efer,
        MSR_STAR => Slot::Reg(Reg::Star),
        MSR_LSTAR => Slot::Pointer(Reg::Lstar),
        MSR_CSTAR => Slot::Pointer(Reg::Cstar),
        MSR_SFMASK => Slot::Reg(Reg::Sfmask),
        MSR_FS_BASE => Slot::Base(SegReg::Fs),
        MSR_GS_BASE => Slot::Base(SegReg::Gs),
        MSR_KERNEL_GS_BASE => Slot::Pointer(Reg::KernelGsBase),
        MSR_TSC_AUX if cpuid.has_tsc_aux() => Slot::Reg(Reg::TscAux),
        _ if amd => amd_slot(msr, &host),
        _ => intel_slot(msr),
    }
}

/// The bits of SPEC_CTRL that a guest may set.
fn spec_ctrl(cpuid: &CpuidPolicy) -> u64 {
    let has = |intel, amd| cpuid.has_7_edx(intel) || cpuid.has_ext8(amd);
    let bit = |on, bit| if on { bit } else { 0 };
    // Where there is one of IBRS and STIBP, setting the other is allowed, and has no effect.
    let branches = has(Leaf7Edx::IBRSB, Ext8Ebx::IBRS) || has(Leaf7Edx::STIBP, Ext8Ebx::STIBP);
    bit(branches, spec::IBRS | spec::STIBP)
        | bit(has(Leaf7Edx::SSBD, Ext8Ebx::SSBD), spec::SSBD)
        | bit(cpuid.has_ext8(Ext8Ebx::PSFD), spec::PSFD)
}

fn amd_slot(msr: u32, host: &HostMsrs) -> Slot {
    match msr {
        MSR_SYSCFG => Slot::Ignored(host.syscfg),
        MSR_HWCR => Slot::Ignored(HWCR_TSC_FREQ_SEL),
        MSR_TOP_MEM => Slot::Ignored(host.top_mem),
        MSR_TOP_MEM2 => Slot::Ignored(host.top_mem2),
        MSR_NB_CFG | MSR_INT_PENDING | MSR_MMIO_CONF_BASE => Slot::Ignored(0),
        MSR_PATCH_LOADER => Slot::WriteIgnored,
        MSR_VM_CR => Slot::Constant(VM_CR_DISABLED),
        MSR_VM_HSAVE_PA => Slot::Constant(0),
        MSR_DE_CFG => Slot::Ignored(DE_CFG_LFENCE_SERIALISE),
        // Configuration of the load-store, instruction and bus units.
        0xc001_1020..=0xc001_1028 | 0xc001_102a..=0xc001_102d => Slot::Ignored(0),
        _ => Slot::Absent,
    }
}

fn intel_slot(msr: u32) -> Slot {
    match msr {
        // PLATFORM_ID; FEATURE_CONTROL locked with all off; performance and thermal state.
        0x17 => Slot::Constant(0),
        0x3a => Slot::Constant(1),
        0xce | 0x140 => Slot::Constant(0),
        0x198 | 0x199 | 0x19c => Slot::Ignored(0),
        // Fast strings; no branch trace or event sampling.
        MSR_MISC_ENABLE => Slot::Ignored(1 | 1 << 11 | 1 << 12),
        _ => Slot::Absent,
    }
}

impl MsrAccess<'_> {
    pub fn read(&mut self, msr: u32) -> Result<MsrRead, MsrFault> {
        let value = match slot(msr, self.policy, self.cpuid) {
            Slot::Reg(reg) | Slot::Pointer(reg) | Slot::Masked(reg, _) => self.vcpu.get(reg),
            Slot::Base(seg) => self.vcpu.segment(seg).base,
            Slot::Efer => self.vcpu.get(Reg::Efer),
            Slot::Pat => self.vcpu.get(Reg::Pat),
            Slot::Tsc => self.host_tsc.wrapping_add(self.vcpu.tsc_offset()),
            Slot::TscAdjust => self.state.tsc_adjust,
            Slot::Lapic => return Ok(MsrRead::Lapic),
            Slot::HypercallPage => 0,
            Slot::Ignored(value) | Slot::Constant(value) => value,
            Slot::Mtrr => self.state.mtrr.read(msr).ok_or(MsrFault)?,
            Slot::WriteIgnored | Slot::Command | Slot::Absent => return Err(MsrFault),
        };
        Ok(MsrRead::Value(value))
    }

    pub fn write(&mut self, msr: u32, value: u64) -> Result<MsrWrite, MsrFault> {
        match slot(msr, self.policy, self.cpuid) {
            Slot::Reg(reg) => self.vcpu.set(reg, value),
            Slot::Pointer(reg) => self.vcpu.set(reg, canonical(value)?),
            Slot::Base(seg) => {
                let mut segment = self.vcpu.segment(seg);
                segment.base = canonical(value)?;
                self.vcpu.set_segment(seg, segment);
            }
            Slot::Masked(reg, bits) if value & !bits == 0 => self.vcpu.set(reg, value),
            Slot::Command if value == 1 => return Ok(MsrWrite::Command(msr)),
            Slot::Command if value == 0 => (),
            Slot::Efer => self.write_efer(value)?,
            Slot::Pat => {
                if !pat_is_valid(value) {
                    return Err(MsrFault);
                }
                self.vcpu.set(Reg::Pat, value);
            }
            Slot::Tsc => {
                let now = self.host_tsc.wrapping_add(self.vcpu.tsc_offset());
                self.shift_tsc(value.wrapping_sub(now));
            }
            Slot::TscAdjust => self.shift_tsc(value.wrapping_sub(self.state.tsc_adjust)),
            Slot::Lapic => return Ok(MsrWrite::Lapic),
            Slot::HypercallPage if value & 0xfff == 0 => {
                return Ok(MsrWrite::HypercallPage(value));
            }
            Slot::Ignored(_) | Slot::WriteIgnored => (),
            Slot::Constant(same) if same == value => (),
            Slot::Mtrr => self
                .state
                .mtrr
                .write(msr, value, self.cpuid.phys_bits())
                .ok_or(MsrFault)?,
            Slot::HypercallPage
            | Slot::Masked(..)
            | Slot::Command
            | Slot::Constant(_)
            | Slot::Absent => return Err(MsrFault),
        }
        Ok(MsrWrite::Done)
    }

    /// A write to either TSC register moves both.
    fn shift_tsc(&mut self, delta: u64) {
        self.state.tsc_adjust = self.state.tsc_adjust.wrapping_add(delta);
        self.vcpu
            .set_tsc_offset(self.vcpu.tsc_offset().wrapping_add(delta));
    }

    fn write_efer(&mut self, value: u64) -> Result<(), MsrFault> {
        let old = self.vcpu.get(Reg::Efer);
        let feature = |feature, bits| {
            if self.cpuid.has_ext1(feature) {
                bits
            } else {
                0
            }
        };
        let valid = feature(Ext1Edx::SYSCALL, EFER_SCE)
            | feature(Ext1Edx::LM, EFER_LME | EFER_LMA)
            | feature(Ext1Edx::NX, EFER_NX)
            | feature(Ext1Edx::FFXSR, EFER_FFXSR);
        let paging = self.vcpu.get(Reg::Cr0) & CR0_PG != 0;
        if value & !valid != 0 || (paging && (value ^ old) & EFER_LME != 0) {
            return Err(MsrFault);
        }
        // LMA is the CPU's to set.
        self.vcpu.set(Reg::Efer, value & !EFER_LMA | old & EFER_LMA);
        if (value ^ old) & EFER_NX != 0 {
            self.vcpu.flush_tlb();
        }
        Ok(())
    }
}

pub(crate) fn pat_is_valid(value: u64) -> bool {
    value
        .to_le_bytes()
        .into_iter()
        .all(|t| matches!(t, 0 | 1 | 4..=7))
}

fn canonical(value: u64) -> Result<u64, MsrFault> {
    if (value as i64) << 16 >> 16 == value as i64 {
        Ok(value)
    } else {
        Err(MsrFault)
    }
}
