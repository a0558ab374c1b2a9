//! Random instructions on a device, against a model of what each does that is written from the
//! manual's words, not from the emulator: addresses from the decoder's parts, results and flags
//! from wide integers.

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};
use std::vec::Vec;

use super::decode::oracle::part as general;
use super::*;
use crate::backend::{BoxedVcpu, Gprs};
use crate::testing::{CODE, DEVICE, Space, vcpu};
use crate::x86::{RFLAGS_AF, RFLAGS_CF, RFLAGS_DF, RFLAGS_OF, RFLAGS_PF, RFLAGS_SF, RFLAGS_ZF};

/// Where the device lies in long mode.
const HIGH: u64 = 0x7fff_ffe0_0000;
const STATUS: u64 = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;

/// The cases that were tried, and those that the model could judge.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    pub(crate) judged: u64,
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Emulates that many instructions made from a seed.
pub(crate) fn run(seed: u64, instructions: u64) -> Counts {
    let mut random = Random(seed);
    let mut counts = Counts::default();
    let (mut flat, mut long) = (vcpu(), vcpu());
    Space::new(&[]).long_mode(&mut long);
    for _ in 0..instructions {
        let in_long_mode = random.below(2) == 0;
        let v = if in_long_mode { &mut long } else { &mut flat };
        counts.instructions += 1;
        counts.judged += u64::from(one(&mut random, v, in_long_mode));
    }
    counts
}

/// One instruction; true if the model could judge all of what it did.
fn one(random: &mut Random, v: &mut BoxedVcpu, long: bool) -> bool {
    let code = instruction(random, long);
    let mut space = Space::new(&code);
    if long {
        space.long_mode(v);
    }
    let base = if long { HIGH } else { DEVICE };
    for byte in &mut space.device {
        *byte = random.next() as u8;
    }
    set_registers(random, v, base, long);
    v.set(Reg::Rip, CODE);
    let status = random.next() & (STATUS | RFLAGS_DF);
    v.set(Reg::Rflags, status | 2);
    let before = Before {
        gprs: *v.gprs(),
        flags: v.get(Reg::Rflags),
        device: space.device,
        ram: space.ram.clone(),
        long,
    };
    let bits = if long { 64 } else { 32 };
    let insn = Decoder::with_ip(bits, &code, CODE, DecoderOptions::NONE).decode();
    let fault = NestedFault {
        gpa: Gaddr::new(DEVICE + random.below(4096)),
        write: true,
        fetch: false,
        present: false,
        table_walk: false,
    };
    let outcome = mmio(&mut **v, &mut space, &fault);
    let what = std::format!("{code:x?} {insn:?} from {:x?}: {outcome:x?}", before.gprs);
    let string = is_string(&insn);
    // Reads of a device have effects too: nothing is touched twice, or before it is known that it
    // should be.
    assert!(space.log.len() <= 2 * MAX_REPEAT as usize, "{what}");
    let inside = |at: &(char, u64, u8, u64)| at.1 & !0xfff == DEVICE;
    assert!(space.log.iter().all(inside), "{what}");
    match outcome {
        EmulOutcome::Unknown { .. } | EmulOutcome::Retry => {
            before.unchanged(v, &space, &what);
            assert!(space.log.is_empty(), "{what}");
            true
        }
        EmulOutcome::Inject(_) => {
            assert_eq!(v.get(Reg::Rip), CODE, "{what}");
            assert!(string || *v.gprs() == before.gprs, "{what}");
            assert!(string || v.get(Reg::Rflags) == before.flags, "{what}");
            true
        }
        EmulOutcome::Done if string => {
            let next = CODE + insn.len() as u64;
            assert!(v.get(Reg::Rip) == CODE || v.get(Reg::Rip) == next, "{what}");
            let count = before.gprs.rcx.wrapping_sub(v.gprs().rcx);
            assert!(
                count <= MAX_REPEAT.into() || v.get(Reg::Rip) == next,
                "{what}"
            );
            false
        }
        EmulOutcome::Done => {
            assert_eq!(v.get(Reg::Rip), CODE + insn.len() as u64, "{what}");
            judge(&before, v, &space, &insn, &what)
        }
    }
}

/// Bytes of an operand.
fn width(size: MemorySize) -> u32 {
    match size {
        MemorySize::UInt8 | MemorySize::Int8 => 1,
        MemorySize::UInt16 | MemorySize::Int16 => 2,
        MemorySize::UInt32 | MemorySize::Int32 => 4,
        MemorySize::UInt64 | MemorySize::Int64 => 8,
        other => panic!("an operand of {other:?}"),
    }
}

struct Before {
    gprs: Gprs,
    flags: u64,
    device: [u8; 4096],
    ram: Vec<u8>,
    long: bool,
}

impl Before {
    fn unchanged(&self, v: &BoxedVcpu, space: &Space, what: &str) {
        assert_eq!(
            (v.get(Reg::Rip), v.get(Reg::Rflags)),
            (CODE, self.flags),
            "{what}"
        );
        assert!(
            *v.gprs() == self.gprs && space.device == self.device,
            "{what}"
        );
        assert!(space.ram == self.ram, "{what}");
    }
}

fn is_string(insn: &Instruction) -> bool {
    (0..2).any(|n| {
        !matches!(
            insn.op_kind(n),
            OpKind::Memory
                | OpKind::Register
                | OpKind::Immediate8
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
                | OpKind::NearBranch16
                | OpKind::NearBranch32
                | OpKind::NearBranch64
        )
    })
}

/// Mostly what the emulator knows, with a memory operand; else any bytes.
fn instruction(random: &mut Random, long: bool) -> Vec<u8> {
    const ONE: [u8; 44] = [
        0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x13, 0x19, 0x1b, 0x20, 0x21,
        0x23, 0x29, 0x2b, 0x31, 0x33, 0x38, 0x39, 0x3b, 0x63, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86,
        0x87, 0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff, 0xa5, 0xab, 0xa1,
    ];
    const TWO: [u8; 14] = [
        0xa3, 0xab, 0xb3, 0xbb, 0xba, 0xb0, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3,
    ];
    let mut code = Vec::new();
    for prefix in [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x64] {
        if random.below(10) == 0 {
            code.push(prefix);
        }
    }
    if long && random.below(2) == 0 {
        code.push(0x40 | random.below(16) as u8);
    }
    match random.below(8) {
        0 => {}
        1..5 => code.push(ONE[random.below(ONE.len() as u64) as usize]),
        _ => code.extend([0x0f, TWO[random.below(TWO.len() as u64) as usize]]),
    }
    // Mod 0 to 2: memory.
    code.push(random.below(0xc0) as u8);
    while code.len() < 15 {
        // Small displacements and immediates.
        let byte = random.next();
        code.push(if byte & 3 == 0 { (byte >> 8) as u8 } else { 0 });
    }
    code
}

/// Some point into the device, some are small.
fn set_registers(random: &mut Random, v: &mut BoxedVcpu, base: u64, long: bool) {
    let mut value = || {
        let value = match random.below(4) {
            0 => random.below(8),
            1 => random.next(),
            _ => base + random.below(4096),
        };
        if long { value } else { value & 0xffff_ffff }
    };
    let g = v.gprs_mut();
    for register in [
        &mut g.rax, &mut g.rcx, &mut g.rdx, &mut g.rbx, &mut g.rbp, &mut g.rsi, &mut g.rdi,
        &mut g.r8, &mut g.r9, &mut g.r10, &mut g.r11, &mut g.r12, &mut g.r13, &mut g.r14,
        &mut g.r15,
    ] {
        *register = value();
    }
    g.rsp = value();
}

/// Holds what was done to the model. False where an operand reaches out of the device: the rest is
/// not logged.
fn judge(before: &Before, v: &BoxedVcpu, space: &Space, insn: &Instruction, what: &str) -> bool {
    let width = width(insn.memory_size());
    let bits = width * 8;
    let mask = u64::MAX >> (64 - bits);
    let linear = linear(before, insn, bits);
    let device = if before.long {
        DEVICE + linear.wrapping_sub(HIGH)
    } else {
        linear
    };
    let at = device.wrapping_sub(DEVICE);
    if at + u64::from(width) > 4096 {
        return false;
    }
    assert_eq!(
        space.log.first().map(|entry| entry.1),
        Some(device),
        "{what}"
    );
    let bytes = |from: &[u8; 4096]| {
        let mut quad = [0; 8];
        quad[..width as usize].copy_from_slice(&from[at as usize..][..width as usize]);
        u64::from_le_bytes(quad)
    };
    let model = model(before, insn, bytes(&before.device), bits);
    let stored = model
        .memory
        .map_or(bytes(&before.device), |value| value & mask);
    assert_eq!(bytes(&space.device), stored, "{what}: memory");
    let mut rest = space.device;
    rest[at as usize..][..width as usize]
        .copy_from_slice(&before.device[at as usize..][..width as usize]);
    assert!(
        rest == before.device && space.ram == before.ram,
        "{what}: other memory"
    );
    let mut gprs = before.gprs;
    if let Some((register, value)) = model.register {
        let part = general(register).expect("a general register");
        operand::write(&mut gprs, part, value);
    }
    assert!(
        *v.gprs() == gprs,
        "{what}: registers {:x?}, not {gprs:x?}",
        v.gprs()
    );
    let defined = model.flags.map_or(0, |(_, defined)| defined);
    let flags = model.flags.map_or(0, |(flags, _)| flags);
    let now = v.get(Reg::Rflags);
    assert_eq!(now & defined, flags & defined, "{what}: flags");
    let kept = if defined == 0 { u64::MAX } else { !STATUS };
    assert_eq!(now & kept, before.flags & kept, "{what}: other flags");
    true
}

/// The address by the decoder's parts: displacement, base, index, and for a bit's number in a
/// register its distance.
fn linear(before: &Before, insn: &Instruction, bits: u32) -> u64 {
    let part = |register| match register {
        // What is relative to RIP, the decoder has added up.
        Register::None | Register::RIP | Register::EIP => None,
        other => general(other),
    };
    let value = |register| part(register).map_or(0, |part| operand::read(&before.gprs, part));
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let bytes = [base, index].map(|register| part(register).map_or(0, operand::GprPart::bytes));
    let size = match bytes.into_iter().max() {
        Some(2) => 0xffff,
        Some(4) => 0xffff_ffff,
        _ if before.long => u64::MAX,
        _ if insn.memory_displ_size() == 2 => 0xffff,
        _ => 0xffff_ffff,
    };
    let offset = insn
        .memory_displacement64()
        .wrapping_add(value(base))
        .wrapping_add(value(index).wrapping_mul(insn.memory_index_scale().into()))
        & size;
    let by_bit = matches!(
        insn.mnemonic(),
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
    ) && insn.op_kind(1) == OpKind::Register;
    let distance = if by_bit {
        let number = value(insn.op1_register());
        let number = ((number << (64 - bits)) as i64) >> (64 - bits);
        number
            .div_euclid(bits.into())
            .wrapping_mul(i64::from(bits / 8))
    } else {
        0
    };
    let all = if before.long { u64::MAX } else { 0xffff_ffff };
    offset.wrapping_add(distance as u64) & all
}

#[derive(Default)]
struct Model {
    memory: Option<u64>,
    register: Option<(Register, u64)>,
    /// And which of them the manual defines.
    flags: Option<(u64, u64)>,
}

fn model(before: &Before, insn: &Instruction, old: u64, bits: u32) -> Model {
    let mask = u64::MAX >> (64 - bits);
    let to_memory = insn.op_kind(0) == OpKind::Memory;
    let other = u32::from(to_memory);
    let register = match insn.op_count() {
        1 => Register::None,
        _ => insn.op_register(other),
    };
    let source = match insn.op_kind(other) {
        _ if insn.op_count() == 1 => 0,
        OpKind::Register => {
            let part = general(register).expect("a general register");
            operand::read(&before.gprs, part)
        }
        _ => insn.immediate(other),
    } & mask;
    let carry = before.flags & RFLAGS_CF;
    let (left, right) = if to_memory {
        (old, source)
    } else {
        (source, old)
    };
    let result = |value: u64, flags: (u64, u64)| Model {
        memory: to_memory.then_some(value),
        register: (!to_memory).then_some((register, value)),
        flags: Some(flags),
    };
    let logic = |value: u64| (value, (of_result(value, bits), STATUS & !RFLAGS_AF));
    match insn.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti if to_memory => Model {
            memory: Some(source),
            ..Model::default()
        },
        Mnemonic::Mov | Mnemonic::Movzx => Model {
            register: Some((register_of(insn), old)),
            ..Model::default()
        },
        Mnemonic::Movsx | Mnemonic::Movsxd => {
            let signed = ((old << (64 - bits)) as i64) >> (64 - bits);
            Model {
                register: Some((register_of(insn), signed as u64)),
                ..Model::default()
            }
        }
        Mnemonic::Add | Mnemonic::Adc => {
            let carry = if insn.mnemonic() == Mnemonic::Adc {
                carry
            } else {
                0
            };
            let (value, flags) = sum(left, right, carry, bits);
            result(value, flags)
        }
        Mnemonic::Sub | Mnemonic::Sbb => {
            let carry = if insn.mnemonic() == Mnemonic::Sbb {
                carry
            } else {
                0
            };
            let (value, flags) = difference(left, right, carry, bits);
            result(value, flags)
        }
        Mnemonic::And => {
            let (value, flags) = logic(left & right);
            result(value, flags)
        }
        Mnemonic::Or => {
            let (value, flags) = logic(left | right);
            result(value, flags)
        }
        Mnemonic::Xor => {
            let (value, flags) = logic(left ^ right);
            result(value, flags)
        }
        Mnemonic::Test => Model {
            flags: Some(logic(left & right).1),
            ..Model::default()
        },
        Mnemonic::Cmp => Model {
            flags: Some(difference(left, right, 0, bits).1),
            ..Model::default()
        },
        Mnemonic::Xchg => Model {
            memory: Some(source),
            register: Some((register, old)),
            flags: None,
        },
        Mnemonic::Xadd => {
            let (value, flags) = sum(old, source, 0, bits);
            Model {
                memory: Some(value),
                register: Some((register, old)),
                flags: Some(flags),
            }
        }
        Mnemonic::Cmpxchg => {
            let accumulator = match bits {
                8 => Register::AL,
                16 => Register::AX,
                32 => Register::EAX,
                _ => Register::RAX,
            };
            let flags = difference(before.gprs.rax & mask, old, 0, bits).1;
            let equal = before.gprs.rax & mask == old;
            Model {
                memory: Some(if equal { source } else { old }),
                register: (!equal).then_some((accumulator, old)),
                flags: Some(flags),
            }
        }
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => {
            let bit = 1u64 << (source % u64::from(bits));
            let memory = match insn.mnemonic() {
                Mnemonic::Bts => Some(old | bit),
                Mnemonic::Btr => Some(old & !bit),
                Mnemonic::Btc => Some(old ^ bit),
                _ => None,
            };
            let carry = if old & bit == 0 { 0 } else { RFLAGS_CF };
            Model {
                memory,
                register: None,
                flags: Some((carry, RFLAGS_CF)),
            }
        }
        Mnemonic::Inc | Mnemonic::Dec => {
            let (value, (flags, _)) = if insn.mnemonic() == Mnemonic::Inc {
                sum(old, 1, 0, bits)
            } else {
                difference(old, 1, 0, bits)
            };
            result(value, (flags & !RFLAGS_CF | carry, STATUS))
        }
        Mnemonic::Not => Model {
            memory: Some(!old & mask),
            ..Model::default()
        },
        Mnemonic::Neg => {
            let (value, flags) = difference(0, old, 0, bits);
            result(value, flags)
        }
        other => panic!("the model does not know {other:?}"),
    }
}

fn register_of(insn: &Instruction) -> Register {
    insn.op0_register()
}

fn set(on: bool, flag: u64) -> u64 {
    if on { flag } else { 0 }
}

/// The flags that only the result decides.
fn of_result(value: u64, bits: u32) -> u64 {
    let ones = (0..8).filter(|bit| value >> bit & 1 == 1).count();
    set(value == 0, RFLAGS_ZF)
        | set(value >> (bits - 1) & 1 == 1, RFLAGS_SF)
        | set(ones % 2 == 0, RFLAGS_PF)
}

/// As a signed number.
fn signed(value: u64, bits: u32) -> i128 {
    let value = i128::from(value);
    if value >> (bits - 1) & 1 == 1 {
        value - (1 << bits)
    } else {
        value
    }
}

fn sum(a: u64, b: u64, carry: u64, bits: u32) -> (u64, (u64, u64)) {
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    let value = (wide % (1 << bits)) as u64;
    let exact = signed(a, bits) + signed(b, bits) + i128::from(carry);
    let flags = of_result(value, bits)
        | set(wide >> bits != 0, RFLAGS_CF)
        | set(exact != signed(value, bits), RFLAGS_OF)
        | set(a % 16 + b % 16 + carry > 15, RFLAGS_AF);
    (value, (flags, STATUS))
}

fn difference(a: u64, b: u64, borrow: u64, bits: u32) -> (u64, (u64, u64)) {
    let wide = i128::from(a) - i128::from(b) - i128::from(borrow);
    let value = wide.rem_euclid(1 << bits) as u64;
    let exact = signed(a, bits) - signed(b, bits) - i128::from(borrow);
    let flags = of_result(value, bits)
        | set(wide < 0, RFLAGS_CF)
        | set(exact != signed(value, bits), RFLAGS_OF)
        | set(a % 16 < b % 16 + borrow, RFLAGS_AF);
    (value, (flags, STATUS))
}
