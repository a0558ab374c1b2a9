//! The bytes of the instruction at RIP, and its length where the hardware does not tell.

use oxen_types::Vaddr;

use super::space::{Fault, Memory, PhysAccess};
use crate::backend::{CpuMode, Exit, VcpuEmulation};
use oxen_paging::walk::Access;

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
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
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
    let state = vcpu.execution();
    let start = state.linear_rip();
    let memory = Memory::at(&state, vcpu.cpl(), space);
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
pub fn insn_len(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    exit: &Exit,
) -> Option<u8> {
    if let Some(len) = vcpu.insn_len() {
        return Some(len);
    }
    if let Exit::Io(io) = exit {
        let len = io.next_rip.wrapping_sub(vcpu.get(crate::Reg::Rip)) & 0xffff_ffff;
        return (1..=15).contains(&len).then_some(len as u8);
    }
    let opcode = Opcode::of(exit)?;
    let bytes = fetch(vcpu, space).ok()?;
    opcode.match_whole(&bytes).or_else(|| {
        let long = vcpu.execution().mode() == CpuMode::Long64;
        opcode.match_prefixed(bytes.as_slice(), long)
    })
}

/// An instruction without operands.
#[derive(Clone, Copy)]
struct Opcode {
    bytes: [u8; 3],
    len: u8,
}

impl Opcode {
    const fn new<const N: usize>(given: [u8; N]) -> Self {
        let mut bytes = [0; 3];
        let mut i = 0;
        while i < N {
            bytes[i] = given[i];
            i += 1;
        }
        let len = N as u8;
        Self { bytes, len }
    }

    fn of(exit: &Exit) -> Option<Self> {
        Some(match exit {
            Exit::Cpuid => Self::new([0x0f, 0xa2]),
            Exit::Rdmsr => Self::new([0x0f, 0x32]),
            Exit::Wrmsr => Self::new([0x0f, 0x30]),
            Exit::Hlt => Self::new([0xf4]),
            Exit::Pause => Self::new([0x90]),
            Exit::Icebp => Self::new([0xf1]),
            Exit::Hypercall => Self::new([0x0f, 0x01, 0xd9]),
            Exit::Xsetbv => Self::new([0x0f, 0x01, 0xd1]),
            Exit::Rdpmc => Self::new([0x0f, 0x33]),
            Exit::Invd => Self::new([0x0f, 0x08]),
            Exit::Wbinvd => Self::new([0x0f, 0x09]),
            Exit::Monitor => Self::new([0x0f, 0x01, 0xc8]),
            Exit::Mwait => Self::new([0x0f, 0x01, 0xc9]),
            _ => return None,
        })
    }

    /// Without prefixes, as nearly always: the first bytes compared as one word.
    fn match_whole(self, bytes: &Bytes) -> Option<u8> {
        let word = |[a, b, c]: [u8; 3]| u32::from_le_bytes([a, b, c, 0]);
        let [a, b, c, ..] = bytes.raw;
        let mask = u32::MAX >> (32 - 8 * u32::from(self.len));
        let same = word([a, b, c]) & mask == word(self.bytes);
        (same && bytes.len >= self.len).then_some(self.len)
    }

    fn match_prefixed(self, bytes: &[u8], long: bool) -> Option<u8> {
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
        let opcode = self.bytes.get(..usize::from(self.len))?;
        bytes
            .get(prefixes..)?
            .starts_with(opcode)
            .then_some(prefixes as u8 + self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUID: Opcode = Opcode::new([0x0f, 0xa2]);
    const VMMCALL: Opcode = Opcode::new([0x0f, 0x01, 0xd9]);

    #[test]
    fn prefixes_count_and_others_do_not_match() {
        let prefixed = |bytes: &[u8], long| CPUID.match_prefixed(bytes, long);
        assert_eq!(prefixed(&[0x0f, 0xa2, 0x90], true), Some(2));
        assert_eq!(prefixed(&[0xf3, 0x48, 0x0f, 0xa2], true), Some(4));
        assert_eq!(prefixed(&[0x48, 0x0f, 0xa2], false), None);
        assert_eq!(prefixed(&[0x0f], true), None);
        assert_eq!(VMMCALL.match_prefixed(&[0x0f, 0x01, 0xd9], true), Some(3));
    }

    #[test]
    fn the_plain_form_is_seen_at_once() {
        let bytes = |given: &[u8]| {
            let mut bytes = Bytes::default();
            bytes.raw[..given.len()].copy_from_slice(given);
            bytes.len = given.len() as u8;
            bytes
        };
        assert_eq!(CPUID.match_whole(&bytes(&[0x0f, 0xa2, 0x90])), Some(2));
        assert_eq!(VMMCALL.match_whole(&bytes(&[0x0f, 0x01, 0xd9])), Some(3));
        assert_eq!(VMMCALL.match_whole(&bytes(&[0x0f, 0x01, 0xd8])), None);
        assert_eq!(CPUID.match_whole(&bytes(&[0x48, 0x0f, 0xa2])), None);
        // What was not fetched is not compared.
        assert_eq!(CPUID.match_whole(&bytes(&[0x0f])), None);
        assert_eq!(Opcode::new([0x00]).match_whole(&bytes(&[])), None);
    }
}
