//! The CPU record: registers, segments, legacy FPU state, TSC and pending event.

use bytemuck::Zeroable;
use guest_pv_abi::{HVM_SAVE_CODE_CPU, HvmHwCpu, XEN_X86_FPU_INITIALISED};

use super::{BadRecord, SavedVcpu, VcpuRecord};
use crate::backend::{Event, Reg, SegReg, Segment, VcpuBackend};
use crate::fpu::XCR0_X87;

/// Bytes of the legacy area, and of the header that follows in the area of XSAVE.
const FXSAVE_SIZE: usize = 512;
const XSAVE_HEADER: usize = 64;

// The pending event, as EVENTINJ of a VMCB and VM_ENTRY_INTR_INFO of a VMCS have it: the vector in
// bits 0 to 7, the type in bits 8 to 10.
const INTERRUPT: u32 = 0;
const NMI: u32 = 2;
const EXCEPTION: u32 = 3;
const HAS_CODE: u32 = 1 << 11;
pub(super) const VALID: u32 = 1 << 31;

impl VcpuRecord for HvmHwCpu {
    const CODE: u16 = HVM_SAVE_CODE_CPU;

    fn save(state: &SavedVcpu<'_>) -> Self {
        let vcpu = &*state.backend;
        let mut r = Self::zeroed();
        for (to, from) in r.fpu_regs.iter_mut().zip(vcpu.fpu().area()) {
            *to = *from;
        }
        for (slot, number) in gprs(&mut r).into_iter().zip(0..) {
            *slot = vcpu.gprs().get(number);
        }
        for (reg, slot) in registers(&mut r) {
            *slot = vcpu.get(reg);
        }
        for (reg, slots) in segments(&mut r) {
            slots.save(vcpu.segment(reg));
        }
        r.tsc = state.host_tsc.wrapping_add(vcpu.tsc_offset());
        r.flags = XEN_X86_FPU_INITIALISED;
        (r.pending_event, r.error_code) = encode(vcpu.pending_event());
        r
    }

    /// Sets the TSC of all vcpus of the domain to go on from the record's.
    fn load(&self, state: &mut SavedVcpu<'_>) -> Result<(), BadRecord> {
        let vcpu = &mut *state.backend;
        let mut r = *self;
        let event = decode(r.pending_event, r.error_code)?;
        vcpu.reset(true);
        if r.flags & XEN_X86_FPU_INITIALISED != 0 {
            load_fpu(vcpu, &r.fpu_regs)?;
        }
        for (slot, number) in gprs(&mut r).into_iter().zip(0..) {
            vcpu.gprs_mut().set(number, *slot);
        }
        for (reg, slot) in registers(&mut r) {
            vcpu.set(reg, *slot);
        }
        for (reg, slots) in segments(&mut r) {
            vcpu.set_segment(reg, slots.load());
        }
        let offset = r.tsc.wrapping_sub(state.host_tsc);
        vcpu.set_tsc_offset(offset);
        state.tsc.set_all(offset);
        if let Some(event) = event {
            vcpu.inject(event);
        }
        vcpu.flush_tlb();
        Ok(())
    }
}

/// Sets x87 and SSE state. With XSAVE, a record of its own follows and replaces this.
fn load_fpu(vcpu: &mut dyn VcpuBackend, legacy: &[u8; FXSAVE_SIZE]) -> Result<(), BadRecord> {
    let mut area = [0; FXSAVE_SIZE + XSAVE_HEADER];
    for (to, from) in area.iter_mut().zip(legacy) {
        *to = *from;
    }
    let (len, both) = if vcpu.fpu().layout().xcr0 != 0 {
        // XSTATE_BV: the area has x87 and SSE state.
        area[FXSAVE_SIZE] = 3;
        (area.len(), 3)
    } else {
        (FXSAVE_SIZE, XCR0_X87)
    };
    vcpu.fpu_mut()
        .set_area(&area[..len], both, both)
        .map_err(|_| BadRecord)?;
    vcpu.set(Reg::Xcr0, XCR0_X87);
    Ok(())
}

/// The general registers, in the order of their numbers.
fn gprs(r: &mut HvmHwCpu) -> [&mut u64; 16] {
    [
        &mut r.rax, &mut r.rcx, &mut r.rdx, &mut r.rbx, &mut r.rsp, &mut r.rbp, &mut r.rsi,
        &mut r.rdi, &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13,
        &mut r.r14, &mut r.r15,
    ]
}

pub(super) fn registers(r: &mut HvmHwCpu) -> [(Reg, &mut u64); 22] {
    [
        (Reg::Rip, &mut r.rip),
        (Reg::Rflags, &mut r.rflags),
        (Reg::Cr0, &mut r.cr0),
        (Reg::Cr2, &mut r.cr2),
        (Reg::Cr3, &mut r.cr3),
        (Reg::Cr4, &mut r.cr4),
        (Reg::Dr0, &mut r.dr0),
        (Reg::Dr1, &mut r.dr1),
        (Reg::Dr2, &mut r.dr2),
        (Reg::Dr3, &mut r.dr3),
        (Reg::Dr6, &mut r.dr6),
        (Reg::Dr7, &mut r.dr7),
        (Reg::SysenterCs, &mut r.sysenter_cs),
        (Reg::SysenterEsp, &mut r.sysenter_esp),
        (Reg::SysenterEip, &mut r.sysenter_eip),
        (Reg::KernelGsBase, &mut r.shadow_gs),
        (Reg::Lstar, &mut r.msr_lstar),
        (Reg::Star, &mut r.msr_star),
        (Reg::Cstar, &mut r.msr_cstar),
        (Reg::Sfmask, &mut r.msr_syscall_mask),
        (Reg::Efer, &mut r.msr_efer),
        (Reg::TscAux, &mut r.msr_tsc_aux),
    ]
}

/// The fields of the record that hold a segment. The descriptor tables have a limit and a base
/// only.
struct Slots<'a> {
    visible: Option<(&'a mut u32, &'a mut u32)>,
    limit: &'a mut u32,
    base: &'a mut u64,
}

impl Slots<'_> {
    fn save(self, segment: Segment) {
        (*self.limit, *self.base) = (segment.limit, segment.base);
        if let Some((selector, attr)) = self.visible {
            (*selector, *attr) = (segment.selector.into(), segment.attr.into());
        }
    }

    fn load(self) -> Segment {
        let (selector, attr) = match self.visible {
            Some((selector, attr)) => (*selector as u16, *attr as u16),
            None => (0, 0),
        };
        Segment::new(selector, attr, *self.limit, *self.base)
    }
}

fn segments(r: &mut HvmHwCpu) -> [(SegReg, Slots<'_>); 10] {
    macro_rules! segment {
        ($reg:ident: $selector:ident, $attr:ident, $limit:ident, $base:ident) => {{
            let visible = Some((&mut r.$selector, &mut r.$attr));
            let (limit, base) = (&mut r.$limit, &mut r.$base);
            let slots = Slots {
                visible,
                limit,
                base,
            };
            (SegReg::$reg, slots)
        }};
        ($reg:ident: $limit:ident, $base:ident) => {{
            let (limit, base) = (&mut r.$limit, &mut r.$base);
            let slots = Slots {
                visible: None,
                limit,
                base,
            };
            (SegReg::$reg, slots)
        }};
    }
    [
        segment!(Cs: cs_sel, cs_arbytes, cs_limit, cs_base),
        segment!(Ds: ds_sel, ds_arbytes, ds_limit, ds_base),
        segment!(Es: es_sel, es_arbytes, es_limit, es_base),
        segment!(Fs: fs_sel, fs_arbytes, fs_limit, fs_base),
        segment!(Gs: gs_sel, gs_arbytes, gs_limit, gs_base),
        segment!(Ss: ss_sel, ss_arbytes, ss_limit, ss_base),
        segment!(Tr: tr_sel, tr_arbytes, tr_limit, tr_base),
        segment!(Ldtr: ldtr_sel, ldtr_arbytes, ldtr_limit, ldtr_base),
        segment!(Idtr: idtr_limit, idtr_base),
        segment!(Gdtr: gdtr_limit, gdtr_base),
    ]
}

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
