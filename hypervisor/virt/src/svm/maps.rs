//! Where an MSR's bits lie in the permission map (APM 15.11): two for each MSR of three ranges.

pub(crate) fn msr_bits(msr: u32) -> Option<[usize; 2]> {
    let (base, range) = match msr {
        0..=0x1fff => (0, 0),
        0xc000_0000..=0xc000_1fff => (0xc000_0000, 1),
        0xc001_0000..=0xc001_1fff => (0xc001_0000, 2),
        _ => return None,
    };
    let read = range * 0x800 * 8 + (msr - base) as usize * 2;
    Some([read, read + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msr_bits_lie_where_the_manual_says() {
        let read = |msr| msr_bits(msr).map(|[read, _]| read);
        assert_eq!(msr_bits(0), Some([0, 1]));
        assert_eq!(read(0x174), Some(0x174 * 2));
        assert_eq!(read(0x1fff), Some(0x800 * 8 - 2));
        assert_eq!(read(0xc000_0000), Some(0x800 * 8));
        assert_eq!(read(0xc001_0000), Some(0x1000 * 8));
        assert_eq!(read(0xc001_1fff), Some(0x1800 * 8 - 2));
        assert_eq!(
            [read(0x2000), read(0x4000_0000), read(0xc000_2000)],
            [None; 3]
        );
    }
}
