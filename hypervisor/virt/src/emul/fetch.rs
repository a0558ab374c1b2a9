//! The bytes of the instruction at RIP, and its length where the hardware does not tell.

use oxen_types::Vaddr;

use super::space::{Fault, GuestSpace, Memory};
use crate::backend::{CpuMode, Exit, VcpuBackend};
use crate::walk::Access;

#[derive(Clone, Copy, Default)]
pub(super) struct Bytes {
    pub(super) raw: [u8; 15],
    pub(super) len: u8,
}

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.raw.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// Up to 15 bytes: fewer if the next page cannot be fetched from, which matters only to a decoder
/// that needs it.
pub(super) fn fetch(
    vcpu: &mut dyn VcpuBackend,
    space: &mut dyn GuestSpace,
) -> Result<Bytes, Fault> {
    let mut bytes = Bytes::default();
    let given = vcpu.insn_bytes();
    if !given.is_empty() {
        for (slot, byte) in bytes.raw.iter_mut().zip(given) {
            *slot = *byte;
            bytes.len += 1;
        }
        return Ok(bytes);
    }
    let start = vcpu.linear_rip();
    let memory = Memory::new(vcpu, space);
    while usize::from(bytes.len) < bytes.raw.len() {
        let at = Vaddr::new(start.wrapping_add(u64::from(bytes.len)));
        let page = match memory.walk(at, Access::FETCH) {
            Ok(page) => page,
            Err(fault) if bytes.len == 0 => return Err(fault),
            Err(_) => return Ok(bytes),
        };
        let rest = bytes
            .raw
            .get_mut(usize::from(bytes.len)..)
            .unwrap_or(&mut []);
        let wanted = rest.len().min(page.left_in_page as usize);
        let (part, _) = rest.split_at_mut(wanted);
        if !memory.fetch(page.gpa, part) {
            return match bytes.len {
                0 => Err(Fault::NoMemory(page.gpa)),
                _ => Ok(bytes),
            };
        }
        bytes.len += wanted as u8;
    }
    Ok(bytes)
}

/// The length of the instruction that caused `exit`. `None` if what is at RIP now is another one:
/// it changed under our hands, and the guest may run it again.
pub fn insn_len(vcpu: &mut dyn VcpuBackend, space: &mut dyn GuestSpace, exit: &Exit) -> Option<u8> {
    if let Some(len) = vcpu.insn_len() {
        return Some(len);
    }
    if let Exit::Io(io) = exit {
        let len = io.next_rip.wrapping_sub(vcpu.get(crate::Reg::Rip)) & 0xffff_ffff;
        return (1..=15).contains(&len).then_some(len as u8);
    }
    let opcode = opcode(exit)?;
    let long = vcpu.mode() == CpuMode::Long64;
    let bytes = fetch(vcpu, space).ok()?;
    match_opcode(bytes.as_slice(), opcode, long)
}

fn opcode(exit: &Exit) -> Option<&'static [u8]> {
    Some(match exit {
        Exit::Cpuid => &[0x0f, 0xa2],
        Exit::Rdmsr => &[0x0f, 0x32],
        Exit::Wrmsr => &[0x0f, 0x30],
        Exit::Hlt => &[0xf4],
        Exit::Pause => &[0x90],
        Exit::Hypercall => &[0x0f, 0x01, 0xd9],
        Exit::Xsetbv => &[0x0f, 0x01, 0xd1],
        Exit::Rdpmc => &[0x0f, 0x33],
        Exit::Invd => &[0x0f, 0x08],
        Exit::Wbinvd => &[0x0f, 0x09],
        Exit::Monitor => &[0x0f, 0x01, 0xc8],
        Exit::Mwait => &[0x0f, 0x01, 0xc9],
        _ => return None,
    })
}

fn match_opcode(bytes: &[u8], opcode: &[u8], long: bool) -> Option<u8> {
    let legacy = |b: &u8| {
        matches!(
            b,
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf0
        )
    };
    let mut prefixes = bytes.iter().take_while(|b| legacy(b)).count();
    if long && bytes.get(prefixes).is_some_and(|b| b & 0xf0 == 0x40) {
        prefixes += 1;
    }
    bytes
        .get(prefixes..)?
        .starts_with(opcode)
        .then_some((prefixes + opcode.len()) as u8)
}

#[cfg(test)]
mod tests {
    use super::match_opcode;

    #[test]
    fn prefixes_count_and_others_do_not_match() {
        assert_eq!(
            match_opcode(&[0x0f, 0xa2, 0x90], &[0x0f, 0xa2], true),
            Some(2)
        );
        assert_eq!(
            match_opcode(&[0xf3, 0x48, 0x0f, 0xa2], &[0x0f, 0xa2], true),
            Some(4)
        );
        assert_eq!(
            match_opcode(&[0x48, 0x0f, 0xa2], &[0x0f, 0xa2], false),
            None
        );
        assert_eq!(match_opcode(&[0x0f], &[0x0f, 0xa2], true), None);
        assert_eq!(
            match_opcode(&[0x0f, 0x01, 0xd9], &[0x0f, 0x01, 0xd9], true),
            Some(3)
        );
    }
}
