//! A set of the 256 vectors, laid out like IRR, ISR and TMR: eight 32-bit words.

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Vectors(pub(super) [u32; 8]);

impl Vectors {
    pub(super) fn contains(&self, vector: u8) -> bool {
        let (word, bit) = place(vector);
        self.0[word] & bit != 0
    }

    pub(super) fn insert(&mut self, vector: u8) {
        let (word, bit) = place(vector);
        self.0[word] |= bit;
    }

    pub(super) fn remove(&mut self, vector: u8) {
        let (word, bit) = place(vector);
        self.0[word] &= !bit;
    }

    /// The highest vector: the one with the highest priority.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        // Mostly there is none.
        let [a, b, c, d, e, f, g, h] = self.0;
        if a | b | c | d | e | f | g | h == 0 {
            return None;
        }
        let (word, bits) = self.0.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        Some((word as u32 * 32 + bits.ilog2()) as u8)
    }

    /// One word, as a register shows it; zero past the end.
    pub(super) fn word(&self, index: u32) -> u32 {
        self.0.get(index as usize).copied().unwrap_or(0)
    }
}

/// Word and bit of a vector: the word is always below 8.
pub(super) const fn place(vector: u8) -> (usize, u32) {
    ((vector >> 5) as usize, 1 << (vector & 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highest_is_the_last_inserted_rank() {
        let mut set = Vectors::default();
        assert_eq!(set.highest(), None);
        for vector in 0..=255u8 {
            set.insert(vector);
            assert_eq!(set.highest(), Some(vector));
        }
        for vector in (1..=255u8).rev() {
            set.remove(vector);
            assert_eq!(set.highest(), Some(vector - 1));
        }
    }
}
