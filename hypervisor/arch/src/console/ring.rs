//! The last bytes of the log, by a running index as sysctl's readconsole counts them.

/// Bytes of the log that are kept.
pub const RING_SIZE: usize = 1 << 16;

/// The last `N` bytes of a stream.
pub struct Ring<const N: usize = RING_SIZE> {
    bytes: [u8; N],
    /// Bytes ever written, modulo 2^32. N divides 2^32, so index modulo N is the place.
    produced: u32,
    /// Where readers start who do not say from where.
    consumed: u32,
}

impl<const N: usize> Ring<N> {
    /// An empty ring.
    pub const fn new() -> Self {
        assert!(N.is_power_of_two() && N <= 1 << 31);
        Self {
            bytes: [0; N],
            produced: 0,
            consumed: 0,
        }
    }

    /// Adds bytes; the oldest ones go.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes[self.produced as usize % N] = *byte;
            self.produced = self.produced.wrapping_add(1);
        }
        if self.produced.wrapping_sub(self.consumed) as usize > N {
            self.consumed = self.produced.wrapping_sub(N as u32);
        }
    }

    /// Forgets all bytes, for readers without an index.
    pub fn clear(&mut self) {
        self.consumed = self.produced;
    }

    /// Copies from index `from` on, or from the last `clear` without one: bytes copied, and the
    /// index to go on from. Too old an index starts at the oldest byte.
    pub fn read(&self, from: Option<u32>, out: &mut [u8]) -> (usize, u32) {
        let mut at = from.unwrap_or(self.consumed);
        if self.produced.wrapping_sub(at) as usize > N {
            at = self.consumed;
        }
        let count = (self.produced.wrapping_sub(at) as usize).min(out.len());
        for slot in &mut out[..count] {
            *slot = self.bytes[at as usize % N];
            at = at.wrapping_add(1);
        }
        (count, at)
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_on_from_an_index() {
        let mut ring = Ring::<16>::new();
        ring.write(b"hello ");
        let mut out = [0; 4];
        assert_eq!(ring.read(None, &mut out), (4, 4));
        assert_eq!(&out, b"hell");
        ring.write(b"you");
        assert_eq!(ring.read(Some(4), &mut out), (4, 8));
        assert_eq!(&out, b"o yo");
        assert_eq!(ring.read(Some(8), &mut out), (1, 9));
        assert_eq!(ring.read(Some(9), &mut out), (0, 9));
    }

    #[test]
    fn overrun_starts_at_the_oldest() {
        let mut ring = Ring::<8>::new();
        ring.write(b"0123456789");
        let mut out = [0; 16];
        assert_eq!(ring.read(Some(0), &mut out), (8, 10));
        assert_eq!(&out[..8], b"23456789");
        // An index from the future is as good as a too old one.
        assert_eq!(ring.read(Some(11), &mut out), (8, 10));
    }

    #[test]
    fn clear_hides_from_readers_without_index() {
        let mut ring = Ring::<8>::new();
        ring.write(b"abc");
        ring.clear();
        ring.write(b"d");
        let mut out = [0; 8];
        assert_eq!(ring.read(None, &mut out), (1, 4));
        assert_eq!(ring.read(Some(0), &mut out), (4, 4));
    }

    #[test]
    fn index_wraps() {
        let mut ring = Ring::<8>::new();
        ring.produced = u32::MAX - 1;
        ring.consumed = u32::MAX - 1;
        ring.write(b"wrap");
        let mut out = [0; 8];
        assert_eq!(ring.read(None, &mut out), (4, 2));
        assert_eq!(&out[..4], b"wrap");
    }
}
