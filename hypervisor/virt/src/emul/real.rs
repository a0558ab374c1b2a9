//! The privileged instructions of real mode, for CPUs on which guests only seem to be in it: what leads from there
//! into protected mode, and what kernels do on the way.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};
use oxen_types::Vaddr;

use super::alu::Width;
use super::fetch::fetch;
use super::operand;
use super::space::{Fault, GuestSpace, Memory};
use crate::backend::{Exit, Reg, SegReg, Segment, VcpuEmulation};
use crate::walk::Access;
use crate::x86::{CR0_PE, CR0_PG, CR0_TS};

/// What became of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RealMode {
    Done,
    /// On other CPUs it would have been this exit: handle it so.
    Exit(Exit),
    /// None that real mode may use, or one that is not emulated. The bytes are for the log.
    Unknown([u8; 15]),
}

/// Does the instruction at RIP, which raised #GP.
pub fn real_mode(vcpu: &mut dyn VcpuEmulation, space: &mut dyn GuestSpace) -> RealMode {
    let Ok(bytes) = fetch(vcpu, space) else {
        return RealMode::Unknown([0; 15]);
    };
    let mut insn = Instruction::default();
    let rip = vcpu.get(Reg::Rip);
    Decoder::with_ip(16, bytes.as_slice(), rip, DecoderOptions::NONE).decode_out(&mut insn);
    let done = match insn.code() {
        Code::Rdmsr => return RealMode::Exit(Exit::Rdmsr),
        Code::Wrmsr => return RealMode::Exit(Exit::Wrmsr),
        Code::Invd => return RealMode::Exit(Exit::Invd),
        Code::Wbinvd => return RealMode::Exit(Exit::Wbinvd),
        Code::Hlt => return RealMode::Exit(Exit::Hlt),
        Code::Lgdt_m1632_16 | Code::Lgdt_m1632 => load_table(vcpu, space, &insn, SegReg::Gdtr),
        Code::Lidt_m1632_16 | Code::Lidt_m1632 => load_table(vcpu, space, &insn, SegReg::Idtr),
        Code::Mov_cr_r32 | Code::Mov_r32_cr => move_control(vcpu, &insn),
        Code::Clts => {
            vcpu.set(Reg::Cr0, vcpu.get(Reg::Cr0) & !CR0_TS);
            Some(())
        }
        _ => None,
    };
    match done {
        Some(()) => {
            vcpu.advance_rip(insn.len() as u8);
            RealMode::Done
        }
        None => RealMode::Unknown(bytes.raw),
    }
}

/// LGDT and LIDT: 16 bits of limit, then 32 bits of base, of which a 16-bit operand has 24.
fn load_table(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn GuestSpace,
    insn: &Instruction,
    table: SegReg,
) -> Option<()> {
    let at = operand::address(vcpu, insn)?;
    let mut read = |offset: u64, width| -> Result<u64, Fault> {
        let mut memory = Memory::new(vcpu, space);
        let place = memory.translate(Vaddr::new(at.raw() + offset), width, Access::READ)?;
        memory.read(&place)
    };
    let (limit, base) = (read(0, Width::B2).ok()?, read(2, Width::B4).ok()?);
    let narrow = matches!(insn.code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16);
    let base = if narrow { base & 0xff_ffff } else { base };
    vcpu.set_segment(table, Segment::new(0, 0, limit as u32, base));
    Some(())
}

/// MOV from and to CR0, CR3 and CR4. Paging without protection does not exist.
fn move_control(vcpu: &mut dyn VcpuEmulation, insn: &Instruction) -> Option<()> {
    let (to, from) = (insn.op_register(0), insn.op_register(1));
    if let Some(control) = control(to) {
        let value = operand::read(vcpu.gprs(), operand::part(from)?);
        if control == Reg::Cr0 && value & (CR0_PE | CR0_PG) == CR0_PG {
            return None;
        }
        vcpu.set(control, value);
    } else {
        let value = vcpu.get(control(from)?);
        operand::write(vcpu.gprs_mut(), operand::part(to)?, value);
    }
    Some(())
}

fn control(register: Register) -> Option<Reg> {
    match register {
        Register::CR0 => Some(Reg::Cr0),
        Register::CR3 => Some(Reg::Cr3),
        Register::CR4 => Some(Reg::Cr4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start;
    use crate::testing::{CODE, Space, vcpu};

    /// What code for starting a second CPU does: tables, then protection.
    #[test]
    fn from_real_to_protected_mode() {
        let code = [
            0x0f, 0x01, 0x1e, 0x30, 0x00, // lidt [0x30]
            0x66, 0x0f, 0x01, 0x16, 0x30, 0x00, // lgdtl [0x30]
            0x0f, 0x20, 0xc0, // mov eax, cr0
            0x0f, 0x22, 0xc3, // mov cr0, ebx
            0x0f, 0x09, // wbinvd
            0x0f, 0x32, // rdmsr
            0x90,
        ];
        let (mut v, mut s) = (vcpu(), Space::new(&code));
        s.ram[CODE as usize + 0x30..][..6].copy_from_slice(&[0x7f, 0, 0x78, 0x56, 0x34, 0x12]);
        v.reset(true);
        start::sipi(&mut *v, (CODE >> 12) as u8);
        v.set_segment(SegReg::Ds, v.segment(SegReg::Cs));
        v.gprs_mut().rbx = 0x6000_0011;
        let mut next = |v: &mut crate::BoxedVcpu| real_mode(&mut **v, &mut s);
        assert_eq!(next(&mut v), RealMode::Done);
        assert_eq!(v.segment(SegReg::Idtr), Segment::new(0, 0, 0x7f, 0x34_5678));
        assert_eq!(next(&mut v), RealMode::Done);
        assert_eq!(
            v.segment(SegReg::Gdtr),
            Segment::new(0, 0, 0x7f, 0x1234_5678)
        );
        assert_eq!(next(&mut v), RealMode::Done);
        assert_eq!(v.gprs().rax & CR0_PE, 0);
        assert_eq!(next(&mut v), RealMode::Done);
        assert_eq!(v.get(Reg::Cr0) & CR0_PE, CR0_PE);
        v.set(Reg::Cr0, 0);
        assert_eq!(next(&mut v), RealMode::Exit(Exit::Wbinvd));
        v.advance_rip(2);
        assert_eq!(next(&mut v), RealMode::Exit(Exit::Rdmsr));
        v.advance_rip(2);
        assert!(matches!(next(&mut v), RealMode::Unknown([0x90, ..])));
        assert_eq!(v.get(Reg::Rip), code.len() as u64 - 1);
    }
}
