//! A vcpu as records of a domain's HVM context: xen/arch-x86/hvm/save.h (CPU, XSAVE, MTRR).
//!
//! A record is a toolstack's word. No value of it can harm the hypervisor: what the hardware
//! refuses ends in `Exit::InvalidState`, and extended state is checked before XRSTOR sees it.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::backend::{Event, Reg, SegReg, Segment, VcpuBackend};
use crate::fpu::{XCR0_SSE, XCR0_X87};
use crate::policy::Mtrr;
use crate::tsc::TscOffsets;

/// `struct hvm_hw_cpu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct CpuRecord {
    pub fpu: [u8; 512],
    /// RAX, RBX, RCX, RDX, RBP, RSI, RDI, RSP, R8 to R15.
    pub gprs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub dr: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    /// In the order of `SEGMENTS`; the descriptor tables have limits and bases only.
    pub selectors: [u32; 8],
    pub limits: [u32; 10],
    pub bases: [u64; 10],
    pub attributes: [u32; 8],
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub shadow_gs: u64,
    _flags: u64,
    pub lstar: u64,
    pub star: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub efer: u64,
    pub tsc_aux: u64,
    /// The guest's TSC at the time of the record.
    pub tsc: u64,
    /// Bits 0-7 vector, 8-10 type, 11 has a code, 31 valid.
    pub pending_event: u32,
    pub error_code: u32,
    pub flags: u32,
    _pad: u32,
}

const _: () = assert!(
    size_of::<CpuRecord>() == 1032
        && offset_of!(CpuRecord, rip) == 640
        && offset_of!(CpuRecord, attributes) == 888
        && offset_of!(CpuRecord, tsc) == 1008
);

/// `flags`: the FPU state is there.
const FPU_INITIALISED: u32 = 1;
/// Numbers of the record's general registers, in its order.
const GPRS: [u8; 16] = [0, 3, 1, 2, 5, 6, 7, 4, 8, 9, 10, 11, 12, 13, 14, 15];
const SEGMENTS: [SegReg; 10] = [
    SegReg::Cs,
    SegReg::Ds,
    SegReg::Es,
    SegReg::Fs,
    SegReg::Gs,
    SegReg::Ss,
    SegReg::Tr,
    SegReg::Ldtr,
    SegReg::Idtr,
    SegReg::Gdtr,
];

/// `struct hvm_hw_mtrr`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct MtrrRecord {
    pub pat: u64,
    pub variable: [u64; 16],
    pub fixed: [u64; 11],
    pub cap: u64,
    pub def_type: u64,
}

/// The state cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRecord;

/// The vcpu must not be loaded on a CPU.
pub fn save_cpu(vcpu: &dyn VcpuBackend, host_tsc: u64) -> CpuRecord {
    let mut r = CpuRecord::zeroed();
    for (to, from) in r.fpu.iter_mut().zip(vcpu.fpu().area()) {
        *to = *from;
    }
    for (slot, number) in r.gprs.iter_mut().zip(GPRS) {
        *slot = vcpu.gprs().get(number);
    }
    for (reg, slot) in registers(&mut r) {
        *slot = vcpu.get(reg);
    }
    for (i, reg) in SEGMENTS.into_iter().enumerate() {
        let s = vcpu.segment(reg);
        (r.limits[i], r.bases[i]) = (s.limit, s.base);
        if let (Some(selector), Some(attr)) = (r.selectors.get_mut(i), r.attributes.get_mut(i)) {
            (*selector, *attr) = (s.selector.into(), s.attr.into());
        }
    }
    r.tsc = host_tsc.wrapping_add(vcpu.tsc_offset());
    r.flags = FPU_INITIALISED;
    (r.pending_event, r.error_code) = encode(vcpu.pending_event());
    r
}

/// The legacy area, and the header that follows it in the area of XSAVE.
const FXSAVE_SIZE: usize = 512;
const XSAVE_HEADER: usize = 64;

/// The vcpu must not be loaded on a CPU. The record's TSC is used too: the guest's clock goes on from
/// there, on all its vcpus.
pub fn load_cpu(
    vcpu: &mut dyn VcpuBackend,
    record: &CpuRecord,
    host_tsc: u64,
    tsc: &TscOffsets,
) -> Result<(), BadRecord> {
    let mut r = *record;
    let event = decode(r.pending_event, r.error_code)?;
    vcpu.reset(true);
    if r.flags & FPU_INITIALISED != 0 {
        // With XSAVE a record of its own brings the rest, and replaces this.
        let mut area = [0; FXSAVE_SIZE + XSAVE_HEADER];
        for (to, from) in area.iter_mut().zip(r.fpu) {
            *to = from;
        }
        let (len, both) = if vcpu.fpu().layout().xcr0 != 0 {
            area[FXSAVE_SIZE] = 3;
            (area.len(), 3)
        } else {
            (FXSAVE_SIZE, XCR0_X87)
        };
        vcpu.fpu_mut()
            .set_area(&area[..len], both, both)
            .map_err(|_| BadRecord)?;
        vcpu.set(Reg::Xcr0, XCR0_X87);
    }
    for (number, value) in GPRS.into_iter().zip(r.gprs) {
        vcpu.gprs_mut().set(number, value);
    }
    for (reg, slot) in registers(&mut r) {
        vcpu.set(reg, *slot);
    }
    for (i, reg) in SEGMENTS.into_iter().enumerate() {
        let part = |parts: &[u32; 8]| parts.get(i).map_or(0, |&p| p as u16);
        let segment = Segment::new(
            part(&r.selectors),
            part(&r.attributes),
            r.limits[i],
            r.bases[i],
        );
        vcpu.set_segment(reg, segment);
    }
    let offset = r.tsc.wrapping_sub(host_tsc);
    vcpu.set_tsc_offset(offset);
    tsc.set_all(offset);
    if let Some(event) = event {
        vcpu.inject(event);
    }
    vcpu.flush_tlb();
    Ok(())
}

fn registers(r: &mut CpuRecord) -> [(Reg, &mut u64); 22] {
    let [dr0, dr1, dr2, dr3] = &mut r.dr;
    [
        (Reg::Rip, &mut r.rip),
        (Reg::Rflags, &mut r.rflags),
        (Reg::Cr0, &mut r.cr0),
        (Reg::Cr2, &mut r.cr2),
        (Reg::Cr3, &mut r.cr3),
        (Reg::Cr4, &mut r.cr4),
        (Reg::Dr0, dr0),
        (Reg::Dr1, dr1),
        (Reg::Dr2, dr2),
        (Reg::Dr3, dr3),
        (Reg::Dr6, &mut r.dr6),
        (Reg::Dr7, &mut r.dr7),
        (Reg::SysenterCs, &mut r.sysenter_cs),
        (Reg::SysenterEsp, &mut r.sysenter_esp),
        (Reg::SysenterEip, &mut r.sysenter_eip),
        (Reg::KernelGsBase, &mut r.shadow_gs),
        (Reg::Lstar, &mut r.lstar),
        (Reg::Star, &mut r.star),
        (Reg::Cstar, &mut r.cstar),
        (Reg::Sfmask, &mut r.sfmask),
        (Reg::Efer, &mut r.efer),
        (Reg::TscAux, &mut r.tsc_aux),
    ]
}

// Of EVENTINJ and VM_ENTRY_INTR_INFO alike.
const INTERRUPT: u32 = 0;
const NMI: u32 = 2;
const EXCEPTION: u32 = 3;
const HAS_CODE: u32 = 1 << 11;
const VALID: u32 = 1 << 31;

fn encode(event: Option<Event>) -> (u32, u32) {
    match event {
        None => (0, 0),
        Some(Event::Interrupt(vector)) => (VALID | INTERRUPT << 8 | u32::from(vector), 0),
        Some(Event::Nmi) => (VALID | NMI << 8 | 2, 0),
        Some(Event::Exception { vector, code }) => {
            let has_code = if code.is_some() { HAS_CODE } else { 0 };
            (
                VALID | EXCEPTION << 8 | has_code | u32::from(vector),
                code.unwrap_or(0),
            )
        }
    }
}

fn decode(info: u32, code: u32) -> Result<Option<Event>, BadRecord> {
    if info & VALID == 0 {
        return Ok(None);
    }
    let vector = info as u8;
    match info >> 8 & 7 {
        INTERRUPT => Ok(Some(Event::Interrupt(vector))),
        NMI => Ok(Some(Event::Nmi)),
        EXCEPTION if vector < 32 && vector != 2 => {
            let code = (info & HAS_CODE != 0).then_some(code);
            Ok(Some(Event::Exception { vector, code }))
        }
        _ => Err(BadRecord),
    }
}

/// Words before the area of an XSAVE record: a mask that nobody reads, XCR0, all it ever was.
const XSAVE_WORDS: usize = 3;

/// `struct hvm_hw_cpu_xsave` with its whole area, in two parts; `None` where there is no XSAVE.
pub fn save_xsave(vcpu: &dyn VcpuBackend) -> Option<([u64; XSAVE_WORDS], &[u8])> {
    let fpu = vcpu.fpu();
    let layout = fpu.layout();
    if layout.xcr0 == 0 {
        return None;
    }
    let words = [layout.xcr0, fpu.xcr0(), fpu.accumulated()];
    Some((words, fpu.area().get(..layout.size)?))
}

/// `allowed` is what the domain's policy lets XCR0 be.
pub fn load_xsave(
    vcpu: &mut dyn VcpuBackend,
    record: &[u8],
    allowed: u64,
) -> Result<(), BadRecord> {
    let (words, area) = record.split_at_checked(XSAVE_WORDS * 8).ok_or(BadRecord)?;
    let [_, xcr0, accumulated] = bytemuck::pod_read_unaligned::<[u64; XSAVE_WORDS]>(words);
    // A guest without XSAVE has x87 and SSE state too.
    if (xcr0 | accumulated) & !(allowed | XCR0_X87 | XCR0_SSE) != 0 {
        return Err(BadRecord);
    }
    vcpu.fpu_mut()
        .set_area(area, xcr0, accumulated)
        .map_err(|_| BadRecord)
}

pub fn save_mtrr(vcpu: &dyn VcpuBackend, mtrr: &Mtrr) -> MtrrRecord {
    MtrrRecord {
        pat: vcpu.get(Reg::Pat),
        variable: mtrr.record(),
        fixed: mtrr.fixed,
        cap: mtrr.cap(),
        def_type: mtrr.def_type,
    }
}

/// Writes each register as the guest would. A record without PAT leaves it as it is.
pub fn load_mtrr(
    vcpu: &mut dyn VcpuBackend,
    mtrr: &mut Mtrr,
    record: &MtrrRecord,
    phys_bits: u32,
) -> Result<(), BadRecord> {
    *mtrr = Mtrr::from_record(record.def_type, record.fixed, record.variable, phys_bits)
        .ok_or(BadRecord)?;
    if record.pat != 0 {
        if !crate::policy::msr::pat_is_valid(record.pat) {
            return Err(BadRecord);
        }
        vcpu.set(Reg::Pat, record.pat);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vcpu;
    use crate::x86::PAT_RESET;

    #[test]
    fn a_cpu_survives_the_trip() {
        let mut a = vcpu();
        for n in 0..16 {
            a.gprs_mut().set(n, 0x100 + u64::from(n));
        }
        for (i, (reg, _)) in registers(&mut CpuRecord::zeroed()).into_iter().enumerate() {
            a.set(reg, 0x1000 + i as u64 * 2);
        }
        a.set_segment(SegReg::Gs, Segment::new(0x2b, 0xcf3, 0xfff, 1 << 40));
        a.set_segment(SegReg::Idtr, Segment::new(0, 0, 0xfff, !0xffff));
        a.set_tsc_offset(7);
        a.inject(Event::page_fault(2));
        let record = save_cpu(&*a, 1_000);
        assert_eq!(
            (record.gprs[1], record.gprs[7], record.tsc),
            (0x103, 0x104, 1_007)
        );
        let mut b = vcpu();
        load_cpu(&mut *b, &record, 500, &TscOffsets::new(1, 0)).unwrap();
        assert_eq!(
            (b.tsc_offset(), b.pending_event()),
            (507, Some(Event::page_fault(2)))
        );
        assert_eq!(
            bytemuck::bytes_of(&save_cpu(&*b, 500)),
            bytemuck::bytes_of(&record)
        );
        assert_eq!(a.segment(SegReg::Gs), b.segment(SegReg::Gs));
    }

    #[test]
    fn hostile_records() {
        let (mut v, tsc) = (vcpu(), TscOffsets::new(1, 0));
        let mut r = save_cpu(&*v, 0);
        // MXCSR with a reserved bit: FXRSTOR would fault in the hypervisor.
        r.fpu[27] = 1;
        assert_eq!(load_cpu(&mut *v, &r, 0, &tsc), Err(BadRecord));
        let mut r = CpuRecord::zeroed();
        r.pending_event = VALID | 7 << 8;
        assert_eq!(load_cpu(&mut *v, &r, 0, &tsc), Err(BadRecord));
        assert_eq!(load_xsave(&mut *v, &[0; 24 + 576], 0), Err(BadRecord));
    }

    #[test]
    fn memory_types() {
        let (mut v, mut m) = (vcpu(), Mtrr::write_back());
        let good = save_mtrr(&*v, &m);
        assert_eq!(
            (good.pat, good.def_type, good.cap),
            (PAT_RESET, 0x806, 0x508)
        );
        let bad = MtrrRecord {
            def_type: 2,
            ..good
        };
        assert_eq!(load_mtrr(&mut *v, &mut m, &bad, 40), Err(BadRecord));
        let new = MtrrRecord {
            def_type: 0x800,
            ..good
        };
        assert_eq!(load_mtrr(&mut *v, &mut m, &new, 40), Ok(()));
        assert_eq!(m.def_type, 0x800);
    }
}
