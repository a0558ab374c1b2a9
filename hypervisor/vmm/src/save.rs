//! A vcpu's state as hvm save records (xen/arch-x86/hvm/save.h), and the start context of
//! VCPUOP_initialise, for the toolstack and the guest.

use oxen_arch::time;
use oxen_types::{Errno, Result};
use oxen_virt::hvmctx::{self, BadRecord};
use oxen_virt::x86::{CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, EFER_NX, EFER_SCE};
use oxen_virt::{Reg, SegReg, Segment};

use crate::globals;
use crate::vcpu::{Context, HvVcpu};

/// HVM_SAVE_CODE of the records that we have.
const CPU: u16 = 2;
const LAPIC: u16 = 5;
const LAPIC_REGS: u16 = 6;
const MTRR: u16 = 14;
const XSAVE: u16 = 16;

const EFER_VALID: u64 = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;

pub fn save(
    context: &mut Context,
    kind: u16,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let backend = &*context.backend;
    match kind {
        CPU => {
            let record = hvmctx::save_cpu(backend, time::rdtsc());
            write(bytemuck::bytes_of(&record))
        }
        MTRR => {
            let record = hvmctx::save_mtrr(backend, &context.msrs.mtrr);
            write(bytemuck::bytes_of(&record))
        }
        XSAVE => {
            let (words, area) = hvmctx::save_xsave(backend).ok_or(Errno::NoEnt)?;
            write(bytemuck::bytes_of(&words))?;
            write(area)
        }
        _ => Err(Errno::NoEnt),
    }
}

pub fn load(hv: &HvVcpu, context: &mut Context, kind: u16, record: &[u8]) -> Result<()> {
    let backend = &mut *context.backend;
    let phys_bits = globals::get().phys_bits;
    let done = match kind {
        CPU => {
            let (record, _) = guest_pv_abi::take_first(record).ok_or(Errno::NoData)?;
            hvmctx::load_cpu(backend, &record, time::rdtsc(), &hv.hv.tsc)
        }
        MTRR => {
            let (record, _) = guest_pv_abi::take_first(record).ok_or(Errno::NoData)?;
            hvmctx::load_mtrr(backend, &mut context.msrs.mtrr, &record, phys_bits)
        }
        XSAVE => hvmctx::load_xsave(backend, record, hv.hv.cpuid.read().xcr0()),
        // A new guest's local APIC is as after reset; a saved one's comes with migration.
        LAPIC | LAPIC_REGS => Ok(()),
        _ => return Err(Errno::NoEnt),
    };
    done.map_err(|BadRecord| Errno::Inval)
}

fn quad(record: &[u8], at: usize) -> u64 {
    record
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn word(record: &[u8], at: usize) -> u32 {
    record
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// `struct vcpu_hvm_context` (xen/hvm/hvm_vcpu.h).
mod start {
    pub const MODE_32: u32 = 0;
    pub const MODE_64: u32 = 1;
    pub const REGS: usize = 8;
}

/// VCPUOP_initialise.
pub fn start(context: &mut Context, record: &[u8]) -> Result<()> {
    match word(record, 0) {
        start::MODE_32 => start_32(context, record.get(start::REGS..).unwrap_or(&[])),
        start::MODE_64 => start_64(context, record.get(start::REGS..).unwrap_or(&[])),
        _ => Err(Errno::Inval),
    }
}

/// The order of both register sets: ax, cx, dx, bx, sp, bp, si, di.
fn start_32(context: &mut Context, regs: &[u8]) -> Result<()> {
    let (cr0, efer) = (word(regs, 40), quad(regs, 56));
    let paging = u64::from(cr0) & CR0_PG != 0;
    if efer & !EFER_VALID != 0 || (efer & EFER_LME != 0 && paging) {
        return Err(Errno::Inval);
    }
    let backend = &mut context.backend;
    backend.reset(true);
    for number in 0..8u8 {
        backend
            .gprs_mut()
            .set(number, word(regs, usize::from(number) * 4).into());
    }
    let plain = [
        (32, Reg::Rip),
        (36, Reg::Rflags),
        (40, Reg::Cr0),
        (44, Reg::Cr3),
        (48, Reg::Cr4),
    ];
    for (at, reg) in plain {
        backend.set(reg, word(regs, at).into());
    }
    backend.set(Reg::Rflags, u64::from(word(regs, 36)) | 2);
    backend.set(Reg::Efer, efer);
    let segments = [SegReg::Cs, SegReg::Ds, SegReg::Ss, SegReg::Es, SegReg::Tr];
    for (n, reg) in segments.into_iter().enumerate() {
        let (base, limit) = (word(regs, 64 + n * 4), word(regs, 84 + n * 4));
        let attr = word(regs, 104 + n * 2) as u16;
        backend.set_segment(reg, Segment::new(0, attr, limit, base.into()));
    }
    Ok(())
}

fn start_64(context: &mut Context, regs: &[u8]) -> Result<()> {
    let (cr0, cr4, efer) = (quad(regs, 80), quad(regs, 96), quad(regs, 104));
    let sound =
        cr0 & CR0_PG != 0 && cr4 & CR4_PAE != 0 && efer & EFER_LME != 0 && efer & !EFER_VALID == 0;
    if !sound {
        return Err(Errno::Inval);
    }
    let backend = &mut context.backend;
    backend.reset(true);
    for number in 0..8u8 {
        backend
            .gprs_mut()
            .set(number, quad(regs, usize::from(number) * 8));
    }
    for (at, reg) in [
        (64, Reg::Rip),
        (72, Reg::Rflags),
        (80, Reg::Cr0),
        (88, Reg::Cr3),
        (96, Reg::Cr4),
    ] {
        backend.set(reg, quad(regs, at));
    }
    backend.set(Reg::Rflags, quad(regs, 72) | 2);
    backend.set(Reg::Efer, efer | EFER_LMA);
    backend.set_segment(SegReg::Cs, Segment::new(0, 0xa9b, u32::MAX, 0));
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss] {
        backend.set_segment(reg, Segment::new(0, 0xc93, u32::MAX, 0));
    }
    backend.set_segment(SegReg::Tr, Segment::new(0, 0x8b, 0x67, 0));
    Ok(())
}
