//! Instructions on control registers, decoded for CPUs that tell of them but not of their operands.

use super::fetch::fetch;
use super::space::GuestSpace;
use crate::backend::{CpuMode, VcpuBackend};

/// What an instruction does to a control register. General registers are named by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlOp {
    /// MOV from a control register.
    Read {
        control: u8,
        register: u8,
    },
    /// MOV to a control register.
    Write {
        control: u8,
        register: u8,
    },
    Clts,
    /// LMSW and SMSW with a register.
    LoadStatus {
        register: u8,
    },
    StoreStatus {
        register: u8,
    },
    /// INVLPG of what a register points to; `None` for other operands.
    Invlpg {
        register: Option<u8>,
    },
}

/// The value that the MOV to CR4 at RIP moves, and the instruction's length. `None` if another instruction is
/// there now.
pub fn mov_to_cr4(vcpu: &mut dyn VcpuBackend, space: &mut dyn GuestSpace) -> Option<(u64, u8)> {
    match control_op(vcpu, space)? {
        (
            ControlOp::Write {
                control: 4,
                register,
            },
            len,
        ) => {
            let value = vcpu.gprs().get(register);
            let long = vcpu.mode() == CpuMode::Long64;
            Some((if long { value } else { value & 0xffff_ffff }, len))
        }
        _ => None,
    }
}

/// The instruction on a control register at RIP, and its length. `None` if another one is there.
pub fn control_op(
    vcpu: &mut dyn VcpuBackend,
    space: &mut dyn GuestSpace,
) -> Option<(ControlOp, u8)> {
    let long = vcpu.mode() == CpuMode::Long64;
    let bytes = fetch(vcpu, space).ok()?;
    decode(bytes.as_slice(), long)
}

fn decode(bytes: &[u8], long: bool) -> Option<(ControlOp, u8)> {
    let legacy = |byte: &&u8| {
        matches!(
            **byte,
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf0
        )
    };
    let prefixes = bytes.iter().take_while(legacy).count();
    let rest = bytes.get(prefixes..)?;
    let (rex, rest) = match rest.split_first()? {
        (rex, rest) if long && rex & 0xf0 == 0x40 => (*rex, rest),
        _ => (0, rest),
    };
    let start = (prefixes + usize::from(rex != 0)) as u8;
    let (&0x0f, rest) = rest.split_first()? else {
        return None;
    };
    let (&opcode, rest) = rest.split_first()?;
    if opcode == 0x06 {
        return Some((ControlOp::Clts, start + 2));
    }
    let &operand = rest.first()?;
    let register = operand & 7 | (rex & 1) << 3;
    let control = operand >> 3 & 7 | (rex & 4) << 1;
    let is_register = operand >> 6 == 3;
    let op = match (opcode, operand >> 3 & 7) {
        // Without REX, a LOCK prefix names CR8: that register does not exit.
        (0x20, _) => ControlOp::Read { control, register },
        (0x22, _) => ControlOp::Write { control, register },
        (0x01, 4) if is_register => ControlOp::StoreStatus { register },
        (0x01, 6) if is_register => ControlOp::LoadStatus { register },
        (0x01, 7) if !is_register => return invlpg(bytes, start, operand, rex, rest.get(1)),
        _ => return None,
    };
    Some((op, start + 3))
}

/// The length comes of the operand's form, with 32 and 64-bit addresses.
fn invlpg(
    bytes: &[u8],
    start: u8,
    operand: u8,
    rex: u8,
    sib: Option<&u8>,
) -> Option<(ControlOp, u8)> {
    let (form, base) = (operand >> 6, operand & 7);
    let has_sib = base == 4;
    let sib_base = sib.filter(|_| has_sib).map(|sib| sib & 7);
    let displacement = match form {
        1 => 1,
        2 => 4,
        _ if base == 5 || sib_base == Some(5) => 4,
        _ => 0,
    };
    let plain = form == 0 && !has_sib && base != 5;
    let segment = bytes
        .iter()
        .take(start.into())
        .any(|b| matches!(b, 0x64 | 0x65 | 0x67));
    let register = (plain && !segment).then_some(base | (rex & 1) << 3);
    let len = start + 3 + u8::from(has_sib) + displacement;
    Some((ControlOp::Invlpg { register }, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_of(bytes: &[u8], long: bool) -> Option<(u8, u8, u8)> {
        match decode(bytes, long)? {
            (ControlOp::Write { control, register }, len) => Some((control, register, len)),
            _ => None,
        }
    }

    #[test]
    fn the_register_that_goes_to_a_control_register() {
        assert_eq!(write_of(&[0x0f, 0x22, 0xe0], true), Some((4, 0, 3)));
        assert_eq!(
            write_of(&[0x41, 0x0f, 0x22, 0xe7, 0x90], true),
            Some((4, 15, 4))
        );
        assert_eq!(write_of(&[0x66, 0x0f, 0x22, 0xe3], false), Some((4, 3, 4)));
        assert_eq!(write_of(&[0x0f, 0x22, 0xc0], true), Some((0, 0, 3)));
        assert_eq!(write_of(&[0x44, 0x0f, 0x22, 0xe0], true), Some((12, 0, 4)));
        assert_eq!(write_of(&[0x0f, 0x20, 0xe0], true), None);
        assert_eq!(write_of(&[0x0f, 0x22], true), None);
    }

    #[test]
    fn the_others() {
        let of = |bytes: &[u8]| decode(bytes, true);
        let (control, register) = (3, 1);
        assert_eq!(
            of(&[0x0f, 0x20, 0xd9]),
            Some((ControlOp::Read { control, register }, 3))
        );
        assert_eq!(of(&[0x0f, 0x06]), Some((ControlOp::Clts, 2)));
        assert_eq!(
            of(&[0x0f, 0x01, 0xf0]),
            Some((ControlOp::LoadStatus { register: 0 }, 3))
        );
        assert_eq!(
            of(&[0x0f, 0x01, 0xe3]),
            Some((ControlOp::StoreStatus { register: 3 }, 3))
        );
        let invlpg = |register, len| Some((ControlOp::Invlpg { register }, len));
        assert_eq!(of(&[0x0f, 0x01, 0x3f]), invlpg(Some(7), 3));
        assert_eq!(of(&[0x41, 0x0f, 0x01, 0x38]), invlpg(Some(8), 4));
        assert_eq!(of(&[0x0f, 0x01, 0x7d, 0x10]), invlpg(None, 4));
        assert_eq!(of(&[0x41, 0x0f, 0x01, 0x3c, 0x24]), invlpg(None, 5));
        assert_eq!(of(&[0x0f, 0x01, 0x3d, 1, 2, 3, 4]), invlpg(None, 7));
        // VMRUN is not one of them.
        assert_eq!(of(&[0x0f, 0x01, 0xd8]), None);
    }
}
