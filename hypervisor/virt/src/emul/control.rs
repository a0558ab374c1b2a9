//! MOV to CR4, decoded for CPUs that tell of it but not of its operand.

use super::fetch::fetch;
use super::space::GuestSpace;
use crate::backend::{CpuMode, VcpuBackend};

/// The value that the MOV to CR4 at RIP moves, and the instruction's length. `None` if another instruction is
/// there now.
pub fn mov_to_cr4(vcpu: &mut dyn VcpuBackend, space: &mut dyn GuestSpace) -> Option<(u64, u8)> {
    let long = vcpu.mode() == CpuMode::Long64;
    let bytes = fetch(vcpu, space).ok()?;
    let (register, len) = operand(bytes.as_slice(), long)?;
    let value = vcpu.gprs().get(register);
    Some((if long { value } else { value & 0xffff_ffff }, len))
}

/// The number of the general register that is moved to CR4 (opcode 0F 22), and the instruction's length.
fn operand(bytes: &[u8], long: bool) -> Option<(u8, u8)> {
    let legacy = |byte: &&u8| {
        matches!(
            **byte,
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65
        )
    };
    let prefixes = bytes.iter().take_while(legacy).count();
    let rest = bytes.get(prefixes..)?;
    let (rex, rest) = match rest.split_first()? {
        (rex, rest) if long && rex & 0xf0 == 0x40 => (*rex, rest),
        _ => (0, rest),
    };
    let &[0x0f, 0x22, operand, ..] = rest else {
        return None;
    };
    let len = prefixes + usize::from(rex != 0) + 3;
    let control = operand >> 3 & 7 | (rex & 4) << 1;
    (control == 4).then_some((operand & 7 | (rex & 1) << 3, len as u8))
}

#[cfg(test)]
mod tests {
    use super::operand;

    #[test]
    fn the_register_that_goes_to_cr4() {
        assert_eq!(operand(&[0x0f, 0x22, 0xe0], true), Some((0, 3)));
        assert_eq!(
            operand(&[0x41, 0x0f, 0x22, 0xe7, 0x90], true),
            Some((15, 4))
        );
        assert_eq!(operand(&[0x66, 0x0f, 0x22, 0xe3], false), Some((3, 4)));
        // CR0, CR12, and a read of CR4.
        assert_eq!(operand(&[0x0f, 0x22, 0xc0], true), None);
        assert_eq!(operand(&[0x44, 0x0f, 0x22, 0xe0], true), None);
        assert_eq!(operand(&[0x0f, 0x20, 0xe0], true), None);
        assert_eq!(operand(&[0x0f, 0x22], true), None);
    }
}
