//! The privileged instructions of real mode, for CPUs on which guests only seem to be in it: what
//! leads from there into protected mode, and what kernels do on the way.

use oxen_types::Vaddr;

use super::alu::Width;
use super::encoding::Encoding;
use super::fetch::fetch;
use super::operand;
use super::space::{Fault, Memory, PhysAccess};
use crate::backend::{CpuMode, Exit, Reg, SegReg, Segment, VcpuEmulation};
use crate::x86::{CR0_PE, CR0_PG, CR0_TS};
use oxen_paging::walk::Access;

/// The outcome of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RealMode {
    Done,
    /// On other CPUs it would have been this exit: handle it so.
    Exit(Exit),
    /// None that real mode may use, or one that is not emulated. The bytes are for the log.
    Unknown([u8; 15]),
}

/// Does the instruction at RIP, which raised #GP.
pub fn real_mode(vcpu: &mut dyn VcpuEmulation, space: &mut dyn PhysAccess) -> RealMode {
    let Ok(bytes) = fetch(vcpu, space) else {
        return RealMode::Unknown([0; 15]);
    };
    let rip = vcpu.get(Reg::Rip);
    let insn = Encoding::parse(bytes.as_slice(), CpuMode::Real16, rip);
    let done = insn.filter(is_known).and_then(|insn| {
        let exit = match (insn.opcode, insn.reg) {
            (0x0f32, _) => Exit::Rdmsr,
            (0x0f30, _) => Exit::Wrmsr,
            (0x0f08, _) => Exit::Invd,
            (0x0f09, _) => Exit::Wbinvd,
            (0xf4, _) => Exit::Hlt,
            (0x0f01, 2) => return load_table(vcpu, space, &insn, SegReg::Gdtr),
            (0x0f01, 3) => return load_table(vcpu, space, &insn, SegReg::Idtr),
            (0x0f20 | 0x0f22, _) => return move_control(vcpu, &insn),
            (0x0f06, _) => {
                vcpu.set(Reg::Cr0, vcpu.get(Reg::Cr0) & !CR0_TS);
                return Some(Next::After(insn.len));
            }
            _ => return None,
        };
        Some(Next::Exit(exit))
    });
    match done {
        Some(Next::After(len)) => {
            vcpu.advance_rip(len);
            RealMode::Done
        }
        Some(Next::Exit(exit)) => RealMode::Exit(exit),
        None => RealMode::Unknown(bytes.raw),
    }
}

/// The way on from an instruction.
enum Next {
    /// The instruction behind it, which has this length.
    After(u8),
    Exit(Exit),
}

/// None of these instructions may be locked. With the prefix F3h, WBINVD is WBNOINVD.
fn is_known(insn: &Encoding) -> bool {
    !(insn.prefixes.lock || insn.prefixes.f3 && insn.opcode == 0x0f09)
}

/// LGDT and LIDT: 16 bits of limit, then 32 bits of base, of which a 16-bit operand has 24.
fn load_table(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    insn: &Encoding,
    table: SegReg,
) -> Option<Next> {
    let at = operand::address(vcpu, insn)?;
    let mut read = |offset: u64, width| -> Result<u64, Fault> {
        let mut memory = Memory::new(vcpu, space);
        let place = memory.translate(Vaddr::new(at.raw() + offset), width, Access::READ)?;
        memory.read(&place)
    };
    let (limit, base) = (read(0, Width::B2).ok()?, read(2, Width::B4).ok()?);
    let narrow = insn.prefixes.operand_bytes == 2;
    let base = if narrow { base & 0xff_ffff } else { base };
    vcpu.set_segment(table, Segment::new(0, 0, limit as u32, base));
    Some(Next::After(insn.len))
}

/// MOV from and to CR0, CR3 and CR4. Paging without protection does not exist.
fn move_control(vcpu: &mut dyn VcpuEmulation, insn: &Encoding) -> Option<Next> {
    let control = match insn.reg {
        0 => Reg::Cr0,
        3 => Reg::Cr3,
        4 => Reg::Cr4,
        _ => return None,
    };
    let register = operand::part(insn.rm, 4, false);
    if insn.opcode == 0x0f22 {
        let value = operand::read(vcpu.gprs(), register);
        if control == Reg::Cr0 && value & (CR0_PE | CR0_PG) == CR0_PG {
            return None;
        }
        vcpu.set(control, value);
    } else {
        let value = vcpu.get(control);
        operand::write(vcpu.gprs_mut(), register, value);
    }
    Some(Next::After(insn.len))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use iced_x86::{Code, Decoder, DecoderOptions};
    use proptest::prelude::*;

    use super::*;
    use crate::start;
    use crate::testing::{CODE, Space, vcpu};

    /// Whether iced-x86 takes the bytes for an instruction that is emulated here, and its length.
    fn judged(code: &[u8]) -> Option<usize> {
        let insn = Decoder::new(16, code, DecoderOptions::NONE).decode();
        let known = matches!(
            insn.code(),
            Code::Rdmsr | Code::Wrmsr | Code::Invd | Code::Wbinvd | Code::Hlt | Code::Clts
        ) || matches!(insn.code(), Code::Lgdt_m1632_16 | Code::Lgdt_m1632)
            || matches!(insn.code(), Code::Lidt_m1632_16 | Code::Lidt_m1632)
            || matches!(insn.code(), Code::Mov_cr_r32 | Code::Mov_r32_cr);
        known.then_some(insn.len())
    }

    fn known(insn: &Encoding) -> bool {
        is_known(insn)
            && match insn.opcode {
                0x0f01 => insn.place.is_some() && matches!(insn.reg, 2 | 3),
                // No other register exists on the CPUs that need this, but CR2 and CR8, which
                // iced-x86 knows.
                0x0f20 | 0x0f22 => matches!(insn.reg, 0 | 2 | 3 | 4),
                0x0f06 | 0x0f08 | 0x0f09 | 0x0f30 | 0x0f32 | 0xf4 => true,
                _ => false,
            }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn another_decoder_knows_the_same_instructions(
            prefixes in prop::collection::vec(
                prop::sample::select(&[0x26u8, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3][..]),
                0..4,
            ),
            opcode in prop::sample::select(&[0x01u8, 0x06, 0x08, 0x09, 0x20, 0x22, 0x30, 0x32][..]),
            rest in prop::collection::vec(any::<u8>(), 8),
        ) {
            let code: Vec<u8> = prefixes.into_iter().chain([0x0f, opcode]).chain(rest).collect();
            let ours = Encoding::parse(&code, CpuMode::Real16, 0).filter(known);
            prop_assert_eq!(ours.map(|insn| usize::from(insn.len)), judged(&code), "{:02x?}", code);
        }
    }

    /// The code that starts a second CPU: tables, then protection.
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
