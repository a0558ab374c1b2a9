//! Numbers that look random and depend on the seed only (SplitMix64), and values that tend to hurt.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A value from the edges of integer types, or anything.
    pub fn nasty(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            2,
            0x7f,
            0xff,
            0xfff,
            0x1000,
            0x7fff,
            0x7ff0,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.pick(&EDGES),
            1 => self.below(64),
            2 => 1 << self.below(64),
            _ => self.next(),
        }
    }

    /// A linear address: good, absent, of devices, of the hypervisor's half, not canonical, at the
    /// end of a page.
    pub fn address(&mut self) -> u64 {
        let inside = self.below(0x1000);
        match self.below(12) {
            0 => 0,
            1 => 0x0040_0000 + self.below(0x0100_0000),
            2 => 0x1000 * (0x400 + self.below(0x1000)) - self.below(64),
            3 => 0x1_0000_0000 + self.next() % (1 << 40),
            4 => 0xffff_8000_0000_0000 + self.below(1 << 46),
            5 => 0x0000_8000_0000_0000 + self.below(1 << 62),
            6 => 0xfee0_0000 + inside,
            7 => 0xfec0_0000 + inside,
            8 => 0xfeff_8000 + self.below(0x8000),
            9 => u64::MAX - self.below(64),
            10 => super::cpu::cr3() + inside,
            _ => 0x1_0000_0000 - self.below(64),
        }
    }
}
