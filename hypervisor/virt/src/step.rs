//! The effect of an emulated instruction on RIP and RFLAGS, in both vendors' back ends.

use crate::x86::{RFLAGS_RF, RFLAGS_TF};

/// RIP as an entry takes it, and whether the guest's next fetch faults (#GP). Outside of 64-bit
/// code RIP has 32 bits, in it 48 of them count: an instruction that was stepped over at the end of
/// either space would leave another value, with which entries of VT-x fail (SDM volume 3, 27.3.1.4;
/// XSA-170).
pub(crate) fn enterable_rip(rip: u64, long_code: bool) -> (u64, bool) {
    if !long_code {
        return (rip & 0xffff_ffff, false);
    }
    let canonical = ((rip as i64) << 16 >> 16) as u64;
    (canonical, canonical != rip)
}

/// RFLAGS behind the instruction, and whether it raises #DB for single stepping. RF is cleared at
/// the end of each instruction (SDM volume 3, 18.3.1.1).
pub(crate) fn stepped_flags(rflags: u64) -> (u64, bool) {
    (rflags & !RFLAGS_RF, rflags & RFLAGS_TF != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rip_wraps_as_the_code_segment_says() {
        assert_eq!(enterable_rip(0x1_0000_0000, false), (0, false));
        assert_eq!(enterable_rip(0xffff_fffe, false), (0xffff_fffe, false));
        assert_eq!(enterable_rip(0x1_0000_0000, true), (0x1_0000_0000, false));
        let (rip, faults) = enterable_rip(0x8000_0000_0000, true);
        assert_eq!((rip, faults), (0xffff_8000_0000_0000, true));
        assert_eq!(enterable_rip(u64::MAX, true), (u64::MAX, false));
    }

    #[test]
    fn a_step_clears_rf_and_tells_of_tf() {
        assert_eq!(stepped_flags(RFLAGS_RF | 2), (2, false));
        assert_eq!(stepped_flags(RFLAGS_TF | 2), (RFLAGS_TF | 2, true));
    }
}
