//! Records make the trip from one vcpu to another, and hostile ones are refused.

use bytemuck::{Zeroable, bytes_of};
use guest_pv_abi::{
    HVM_SAVE_CODE_CPU, HVM_SAVE_CODE_LAPIC, HVM_SAVE_CODE_MTRR, HVM_SAVE_CODE_VMCE_VCPU,
    HVM_SAVE_CODE_XSAVE, HvmHwCpu, HvmHwMtrr, UnionBytes, VCPU_HVM_MODE_32B, VCPU_HVM_MODE_64B,
    VcpuHvmContext, VcpuHvmX86_32, VcpuHvmX86_64,
};
use oxen_types::Errno;

use super::cpu::{VALID, registers};
use super::{BadRecord, SavedVcpu, VcpuRecord, load, record, save, start};
use crate::backend::{BoxedVcpu, Event, Reg, SegReg, Segment};
use crate::policy::Mtrr;
use crate::testing::vcpu;
use crate::tsc::TscOffsets;
use crate::x86::{CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, PAT_RESET};

/// The parts of a vcpu of which its records are made, with a TSC of the host that stands still.
pub(crate) struct Vcpu {
    pub(crate) backend: BoxedVcpu,
    pub(crate) mtrr: Mtrr,
}

impl Vcpu {
    pub(crate) fn new() -> Self {
        Self {
            backend: vcpu(),
            mtrr: Mtrr::write_back(),
        }
    }

    fn at<'a>(&'a mut self, host_tsc: u64, tsc: &'a TscOffsets) -> SavedVcpu<'a> {
        SavedVcpu {
            backend: &mut *self.backend,
            mtrr: &mut self.mtrr,
            tsc,
            host_tsc,
            phys_bits: 40,
            xcr0: 0,
        }
    }

    pub(crate) fn save_cpu(&mut self, host_tsc: u64) -> HvmHwCpu {
        HvmHwCpu::save(&self.at(host_tsc, &TscOffsets::new(0, 0)))
    }

    pub(crate) fn load_cpu(&mut self, record: &HvmHwCpu, host_tsc: u64, tsc: &TscOffsets) -> bool {
        record.load(&mut self.at(host_tsc, tsc)).is_ok()
    }
}

#[test]
fn a_cpu_survives_the_trip() {
    let (mut one, mut two) = (Vcpu::new(), Vcpu::new());
    let a = &mut one.backend;
    for n in 0..16 {
        a.gprs_mut().set(n, 0x100 + u64::from(n));
    }
    for (i, (reg, _)) in registers(&mut HvmHwCpu::zeroed()).into_iter().enumerate() {
        a.set(reg, 0x1000 + i as u64 * 2);
    }
    a.set_segment(SegReg::Gs, Segment::new(0x2b, 0xcf3, 0xfff, 1 << 40));
    a.set_segment(SegReg::Idtr, Segment::new(0, 0, 0xfff, !0xffff));
    a.set_tsc_offset(7);
    a.inject(Event::page_fault(2));
    let record = one.save_cpu(1_000);
    assert_eq!((record.rbx, record.rsp, record.tsc), (0x103, 0x104, 1_007));
    assert!(two.load_cpu(&record, 500, &TscOffsets::new(1, 0)));
    let b = &two.backend;
    assert_eq!(
        (b.tsc_offset(), b.pending_event()),
        (507, Some(Event::page_fault(2)))
    );
    assert_eq!(one.backend.segment(SegReg::Gs), b.segment(SegReg::Gs));
    assert_eq!(bytes_of(&two.save_cpu(500)), bytes_of(&record));
}

#[test]
fn hostile_records() {
    let (mut v, tsc) = (Vcpu::new(), TscOffsets::new(1, 0));
    let mut r = v.save_cpu(0);
    // MXCSR with a reserved bit: FXRSTOR would fault in the hypervisor.
    r.fpu_regs[27] = 1;
    assert_eq!(r.load(&mut v.at(0, &tsc)), Err(BadRecord));
    let mut r = HvmHwCpu::zeroed();
    r.pending_event = VALID | 7 << 8;
    assert_eq!(r.load(&mut v.at(0, &tsc)), Err(BadRecord));
    for (code, bytes, error) in [
        (HVM_SAVE_CODE_CPU, bytes_of(&r), Errno::Inval),
        (HVM_SAVE_CODE_CPU, &[0; 8], Errno::NoData),
        (HVM_SAVE_CODE_XSAVE, &[0; 24 + 576], Errno::Inval),
        (HVM_SAVE_CODE_XSAVE, &[0; 8], Errno::Inval),
        (HVM_SAVE_CODE_MTRR, &[0; 239], Errno::NoData),
        (HVM_SAVE_CODE_VMCE_VCPU, &[], Errno::NoEnt),
    ] {
        assert_eq!(load(&mut v.at(0, &tsc), code, bytes), Err(error), "{code}");
    }
}

#[test]
fn each_code_has_one_record() {
    let (mut v, tsc) = (Vcpu::new(), TscOffsets::new(1, 0));
    let mut len = |code| {
        let mut len = 0;
        let done = save(&v.at(0, &tsc), code, &mut |bytes| {
            len += bytes.len();
            Ok(())
        });
        done.map(|()| len)
    };
    assert_eq!(len(HVM_SAVE_CODE_CPU), Ok(1032));
    assert_eq!(len(HVM_SAVE_CODE_MTRR), Ok(240));
    // The vcpu of the tests has no XSAVE.
    assert_eq!(len(HVM_SAVE_CODE_XSAVE), Err(Errno::NoEnt));
    assert_eq!(len(HVM_SAVE_CODE_LAPIC), Err(Errno::NoEnt));
    let lapic = load(&mut v.at(0, &tsc), HVM_SAVE_CODE_LAPIC, &[]);
    assert_eq!(lapic, Err(Errno::OpNotSupp), "it would be dropped");
    for code in 0..32 {
        let count = super::RECORDS.iter().filter(|r| r.code == code).count();
        assert_eq!(count, usize::from(record(code).is_ok()), "{code}");
    }
}

#[test]
fn memory_types() {
    let (mut v, tsc) = (Vcpu::new(), TscOffsets::new(1, 0));
    let good = HvmHwMtrr::save(&v.at(0, &tsc));
    assert_eq!(
        (good.msr_pat_cr, good.msr_mtrr_def_type, good.msr_mtrr_cap),
        (PAT_RESET, 0x806, 0x508)
    );
    let bad = HvmHwMtrr {
        msr_mtrr_def_type: 2,
        ..good
    };
    assert_eq!(bad.load(&mut v.at(0, &tsc)), Err(BadRecord));
    let new = HvmHwMtrr {
        msr_mtrr_def_type: 0x800,
        ..good
    };
    assert_eq!(new.load(&mut v.at(0, &tsc)), Ok(()));
    assert_eq!(v.mtrr.def_type, 0x800);
}

#[test]
fn a_vcpu_starts_in_the_mode_that_its_context_names() {
    let mut v = vcpu();
    let long = VcpuHvmX86_64 {
        rdi: 7,
        rsp: 8,
        rip: 0xffff_8000_0000_1000,
        cr0: CR0_PG | CR0_PE,
        cr4: CR4_PAE,
        efer: EFER_LME,
        ..VcpuHvmX86_64::zeroed()
    };
    let mut context = VcpuHvmContext {
        mode: VCPU_HVM_MODE_64B,
        pad: 0,
        regs: UnionBytes::holding(&long),
    };
    assert_eq!(start(&mut *v, &context), Ok(()));
    assert_eq!((v.gprs().rdi, v.gprs().rsp), (7, 8));
    assert_eq!(v.get(Reg::Efer), EFER_LME | EFER_LMA);
    assert_eq!((v.get(Reg::Rip), v.get(Reg::Rflags)), (long.rip, 2));
    assert!(v.segment(SegReg::Cs).long());
    let flat = VcpuHvmX86_32 {
        ebx: 9,
        eip: 0x10_0000,
        cr0: CR0_PE as u32,
        tr_limit: 0x67,
        tr_ar: 0x8b,
        ..VcpuHvmX86_32::zeroed()
    };
    context.mode = VCPU_HVM_MODE_32B;
    context.regs = UnionBytes::holding(&flat);
    assert_eq!(start(&mut *v, &context), Ok(()));
    assert_eq!((v.gprs().rbx, v.get(Reg::Rip)), (9, 0x10_0000));
    assert_eq!(v.segment(SegReg::Tr), Segment::new(0, 0x8b, 0x67, 0));
    // Paging with LME is long mode, which a 32-bit context cannot have.
    let both = VcpuHvmX86_32 {
        cr0: (CR0_PE | CR0_PG) as u32,
        efer: EFER_LME,
        ..flat
    };
    context.regs = UnionBytes::holding(&both);
    assert_eq!(start(&mut *v, &context), Err(Errno::Inval));
    context.mode = 2;
    assert_eq!(start(&mut *v, &context), Err(Errno::Inval));
}
