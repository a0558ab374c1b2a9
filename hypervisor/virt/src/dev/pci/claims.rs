//! Which registers of a function are not the hardware's, and how an access is cut up among them.

use alloc::vec::Vec;

/// The register behind a claimed offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Register {
    Command,
    /// The low and high half of the `n`th memory BAR that the function has.
    BarLow(u8),
    BarHigh(u8),
    Rom,
    MsiControl,
    MsiAddressLow,
    MsiAddressHigh,
    MsiData,
    MsiMask,
    MsixControl,
    /// Reads as this; writes are dropped.
    Fixed(u32),
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    start: u16,
    end: u16,
    register: Register,
}

/// Sorted, without overlaps.
#[derive(Default, Debug)]
pub(super) struct Claims(Vec<Claim>);

/// A part of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// An aligned 1, 2 or 4 bytes of hardware.
    Hardware,
    /// `skip` bytes into a register of `width` bytes.
    Register {
        register: Register,
        skip: u8,
        width: u8,
    },
}

impl Claims {
    /// Registers are at most 4 bytes, except `Fixed(0)`. False: another register is there already
    /// (a device with overlapping capabilities); it wins.
    pub(super) fn add(&mut self, start: u16, width: u16, register: Register) -> bool {
        let Some(end) = start.checked_add(width).filter(|_| width > 0) else {
            return false;
        };
        let at = self.0.partition_point(|claim| claim.end <= start);
        if self.0.get(at).is_some_and(|next| next.start < end) {
            return false;
        }
        self.0.insert(
            at,
            Claim {
                start,
                end,
                register,
            },
        );
        true
    }

    /// The first part of the bytes from `reg` to `end`, and its length in bytes (at least 1).
    pub(super) fn split(&self, reg: u16, end: u16) -> (Part, u8) {
        let at = self.0.partition_point(|claim| claim.end <= reg);
        let next = self.0.get(at);
        if let Some(claim) = next.filter(|claim| claim.start <= reg) {
            let len = claim.end.min(end).saturating_sub(reg).clamp(1, 4);
            let part = Part::Register {
                register: claim.register,
                skip: (reg - claim.start).min(3) as u8,
                width: (claim.end - claim.start).min(4) as u8,
            };
            return (part, len as u8);
        }
        let gap = next.map_or(end, |claim| claim.start.min(end));
        let len = match gap.saturating_sub(reg) {
            4.. if reg & 3 == 0 => 4,
            2.. if reg & 1 == 0 => 2,
            _ => 1,
        };
        (Part::Hardware, len)
    }
}

/// The low `bytes` (1 to 4) of a register.
pub(super) fn low_bytes(bytes: u8) -> u32 {
    match bytes {
        0 => 0,
        1..=3 => (1 << (8 * bytes)) - 1,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_split_at_claims_and_stay_aligned() {
        let mut claims = Claims::default();
        assert!(claims.add(4, 2, Register::Command));
        assert!(claims.add(0x41, 1, Register::Fixed(0x50)));
        assert!(!claims.add(5, 4, Register::Rom));
        assert!(!claims.add(u16::MAX, 4, Register::Rom));
        let command = |skip| Part::Register {
            register: Register::Command,
            skip,
            width: 2,
        };
        assert_eq!(claims.split(4, 8), (command(0), 2));
        assert_eq!(claims.split(5, 6), (command(1), 1));
        assert_eq!(claims.split(6, 8), (Part::Hardware, 2));
        assert_eq!(claims.split(0, 4), (Part::Hardware, 4));
        assert_eq!(claims.split(0x40, 0x44), (Part::Hardware, 1));
        assert_eq!(claims.split(0x42, 0x44), (Part::Hardware, 2));
        assert_eq!(claims.split(1, 4), (Part::Hardware, 1));
    }

    #[test]
    fn a_long_hidden_block_reads_in_parts() {
        let mut claims = Claims::default();
        assert!(claims.add(0x100, 0x40, Register::Fixed(0)));
        let (part, len) = claims.split(0x13e, 0x142);
        assert!(matches!(
            part,
            Part::Register {
                register: Register::Fixed(0),
                ..
            }
        ));
        assert_eq!(len, 2);
    }
}
