//! The decoder against another one.

use std::vec;
use std::vec::Vec;

use oxen_types::Vaddr;
use proptest::prelude::*;

use super::*;
use crate::backend::{BoxedVcpu, Segment};
use crate::testing::{Space, vcpu};

/// A prefix may stand anywhere before the opcode; a REX prefix is one in 64-bit mode only.
const PREFIXES: &[u8] = &[
    0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x41, 0x42, 0x44, 0x48,
    0x4d, 0x4f,
];

/// Different bases for all, so that a wrong segment is a wrong address.
fn set_segments(vcpu: &mut BoxedVcpu, cs_attr: u16) {
    let segments = [
        SegReg::Es,
        SegReg::Cs,
        SegReg::Ss,
        SegReg::Ds,
        SegReg::Fs,
        SegReg::Gs,
    ];
    for (n, register) in segments.into_iter().enumerate() {
        let attr = if register == SegReg::Cs {
            cs_attr
        } else {
            0xc93
        };
        let base = (n as u64 + 1) << 24;
        vcpu.set_segment(register, Segment::new(8, attr, u32::MAX, base));
    }
}

fn in_mode(mode: CpuMode, registers: &[u64]) -> BoxedVcpu {
    let mut v = vcpu();
    let attr = match mode {
        CpuMode::Long64 => {
            Space::new(&[]).long_mode(&mut v);
            0x29b
        }
        CpuMode::Prot32 => 0xc9b,
        CpuMode::Prot16 | CpuMode::Real16 => 0x9b,
    };
    set_segments(&mut v, attr);
    for (number, value) in (0..).zip(registers) {
        v.gprs_mut().set(number, *value);
    }
    assert_eq!(v.execution().mode(), mode);
    v
}

/// The parts of an instruction that matter: of those that are no strings, more has no meaning.
#[derive(Debug, PartialEq)]
struct Meaning {
    len: u8,
    kind: Kind,
    string: Option<(bool, u8, Option<Vaddr>)>,
}

fn meaning(vcpu: &BoxedVcpu, insn: &Insn) -> Meaning {
    let source = || operand::linear(&**vcpu, insn.segment, 0);
    let string = |source| Some((insn.rep, insn.address_bytes, source));
    Meaning {
        len: insn.len,
        kind: insn.kind,
        string: match insn.kind {
            Kind::Memory { .. } => None,
            Kind::Stos(_) | Kind::Ins(_) => string(None),
            Kind::Movs(_) | Kind::Outs(_) => string(Some(source())),
        },
    }
}

fn modes() -> impl Strategy<Value = CpuMode> {
    prop_oneof![
        Just(CpuMode::Long64),
        Just(CpuMode::Prot32),
        Just(CpuMode::Prot16)
    ]
}

fn code() -> impl Strategy<Value = Vec<u8>> {
    let prefixes = prop::collection::vec(prop::sample::select(PREFIXES), 0..4);
    let opcode = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<u8>().prop_map(|byte| vec![0x0f, byte]),
    ];
    let rest = prop::collection::vec(any::<u8>(), 0..13);
    (prefixes, opcode, rest).prop_map(|(mut bytes, opcode, rest)| {
        bytes.extend(opcode);
        bytes.extend(rest);
        bytes.truncate(15);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_instruction_means_what_another_decoder_says(
        mode in modes(),
        code in code(),
        registers in prop::array::uniform16(any::<u64>()),
    ) {
        let v = in_mode(mode, &registers);
        let ours = decode(&*v, &code).map(|insn| meaning(&v, &insn));
        let theirs = oracle::decode(&*v, &code).map(|insn| meaning(&v, &insn));
        prop_assert_eq!(ours, theirs, "{:?}: {:02x?}", mode, code);
    }
}

/// All opcodes with all forms of their operand: nothing is left to chance.
#[test]
fn every_opcode_with_every_operand() {
    let registers: Vec<u64> = (0..16).map(|n| 0x1111_0000_8421_0000 * n + n).collect();
    for mode in [CpuMode::Long64, CpuMode::Prot32, CpuMode::Prot16] {
        let v = in_mode(mode, &registers);
        for opcode in 0..0x200_u16 {
            for modrm in 0..=0xff {
                let mut code = vec![0x0f, opcode as u8, modrm, 0x5c, 0x92, 0x83, 0x74, 0x65];
                code.extend([0x96, 0x87, 0x78, 0x69, 0x5a, 0x4b, 0x3c]);
                if opcode < 0x100 {
                    code.remove(0);
                }
                let ours = decode(&*v, &code).map(|insn| meaning(&v, &insn));
                let theirs = oracle::decode(&*v, &code).map(|insn| meaning(&v, &insn));
                assert_eq!(ours, theirs, "{mode:?}: {code:02x?}");
            }
        }
    }
}
