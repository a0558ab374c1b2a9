//! Where an MSR's bits lie in the bitmap (SDM volume 3, 25.6.9): reads of low and of high MSRs, then writes, 1 KiB
//! each.

const WRITES: usize = 2048 * 8;

pub(crate) fn msr_bits(msr: u32) -> Option<[usize; 2]> {
    let read = match msr {
        0..=0x1fff => msr as usize,
        0xc000_0000..=0xc000_1fff => 1024 * 8 + (msr - 0xc000_0000) as usize,
        _ => return None,
    };
    Some([read, read + WRITES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msrs_outside_the_ranges_have_no_bit() {
        assert_eq!(
            [
                msr_bits(0x2000),
                msr_bits(0x4000_0000),
                msr_bits(0xc001_0000)
            ],
            [None; 3]
        );
        assert_eq!(msr_bits(0xc000_1fff), Some([2048 * 8 - 1, 4096 * 8 - 1]));
    }
}
