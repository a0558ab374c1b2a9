//! Integer arithmetic with its flags.

use crate::x86::{RFLAGS_AF, RFLAGS_CF, RFLAGS_OF, RFLAGS_PF, RFLAGS_SF, RFLAGS_ZF};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Width {
    B1,
    B2,
    B4,
    B8,
}

impl Width {
    pub(super) const fn bytes(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }
    pub(super) const fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }
    pub(super) const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
    const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
    pub(super) const fn sign_extend(self, value: u64) -> u64 {
        let shift = 64 - self.bits();
        ((value << shift) as i64 >> shift) as u64
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alu {
    Add,
    Adc,
    Sub,
    Sbb,
    And,
    Or,
    Xor,
}

const RESULT_FLAGS: u64 = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;

/// The result, truncated, and the new RFLAGS.
pub(super) fn compute(alu: Alu, a: u64, b: u64, width: Width, flags: u64) -> (u64, u64) {
    let (a, b) = (a & width.mask(), b & width.mask());
    let carry = match alu {
        Alu::Adc | Alu::Sbb => flags & RFLAGS_CF,
        _ => 0,
    };
    let (wide, carry_out, overflow) = match alu {
        Alu::Add | Alu::Adc => {
            let wide = u128::from(a) + u128::from(b) + u128::from(carry);
            let r = wide as u64;
            (r, wide >> width.bits() != 0, (a ^ r) & (b ^ r))
        }
        Alu::Sub | Alu::Sbb => {
            let r = a.wrapping_sub(b).wrapping_sub(carry);
            (
                r,
                u128::from(a) < u128::from(b) + u128::from(carry),
                (a ^ b) & (a ^ r),
            )
        }
        Alu::And => (a & b, false, 0),
        Alu::Or => (a | b, false, 0),
        Alu::Xor => (a ^ b, false, 0),
    };
    let result = wide & width.mask();
    let mut new = flags & !RESULT_FLAGS | result_flags(result, width);
    let set = |on: bool, flag: u64| if on { flag } else { 0 };
    new |= set(carry_out, RFLAGS_CF) | set(overflow & width.sign() != 0, RFLAGS_OF);
    if !matches!(alu, Alu::And | Alu::Or | Alu::Xor) {
        new |= (a ^ b ^ result) & RFLAGS_AF;
    }
    (result, new)
}

fn result_flags(result: u64, width: Width) -> u64 {
    let mut flags = 0;
    if result == 0 {
        flags |= RFLAGS_ZF;
    }
    if result & width.sign() != 0 {
        flags |= RFLAGS_SF;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= RFLAGS_PF;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::asm;
    use proptest::prelude::*;

    const DEFINED: u64 = RFLAGS_CF | RFLAGS_PF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;

    macro_rules! real {
        ($insn:literal, $a:expr, $b:expr, $cf:expr) => {{
            let (mut r, mut f): (u64, u64) = ($a, $cf);
            #[allow(unsafe_code)]
            // SAFETY: arithmetic on registers, the flags through a balanced push and pop.
            unsafe {
                asm!("bt {f}, 0", $insn, "pushfq", "pop {f}", r = inout(reg) r, f = inout(reg) f,
                     b = in(reg) $b);
            }
            (r, f)
        }};
    }

    proptest! {
        #[test]
        fn as_the_cpu_does(a: u64, b: u64, cf in 0u64..2) {
            let cases = [
                (Alu::Add, real!("add {r}, {b}", a, b, cf), Width::B8),
                (Alu::Adc, real!("adc {r}, {b}", a, b, cf), Width::B8),
                (Alu::Sub, real!("sub {r}, {b}", a, b, cf), Width::B8),
                (Alu::Sbb, real!("sbb {r}, {b}", a, b, cf), Width::B8),
                (Alu::And, real!("and {r}, {b}", a, b, cf), Width::B8),
                (Alu::Or, real!("or {r}, {b}", a, b, cf), Width::B8),
                (Alu::Xor, real!("xor {r}, {b}", a, b, cf), Width::B8),
                (Alu::Adc, real!("adc {r:e}, {b:e}", a, b, cf), Width::B4),
                (Alu::Sbb, real!("sbb {r:e}, {b:e}", a, b, cf), Width::B4),
                (Alu::Sub, real!("sub {r:l}, {b:l}", a, b, cf), Width::B1),
                (Alu::Add, real!("add {r:x}, {b:x}", a, b, cf), Width::B2),
            ];
            for (alu, (result, flags), width) in cases {
                let (r, f) = compute(alu, a, b, width, cf | 2);
                prop_assert_eq!(r, result & width.mask(), "{:?} {:?}", alu, width);
                prop_assert_eq!(f & DEFINED, flags & DEFINED, "{:?} {:?}", alu, width);
                if !matches!(alu, Alu::And | Alu::Or | Alu::Xor) {
                    prop_assert_eq!(f & RFLAGS_AF, flags & RFLAGS_AF);
                }
            }
        }
    }
}
