//! LZO1X, unpacking only (Documentation/staging/lzo.rst of Linux describes the stream).
//!
//! Linux still offers this format for its image (CONFIG_KERNEL_LZO), so it stays. No crate that
//! unpacks it can be linked: one panics on damaged data, one has a licence that excludes it, and
//! `lzokay-native` has had one release. The last is used by tests alone, to pack what this module
//! unpacks; nothing of it is in a program.

/// Unpacks one block that is `length` bytes long when unpacked.
pub(super) fn unpack(block: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut stream = Stream {
        input: block,
        output: Vec::with_capacity(length),
        limit: length,
    };
    stream.run().ok_or("a block is damaged")?;
    Ok(stream.output)
}

struct Stream<'a> {
    input: &'a [u8],
    output: Vec<u8>,
    limit: usize,
}

/// The literals that the previous instruction copied, which change the meaning of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    UpToThree,
    FourOrMore,
}

impl Before {
    fn of(literals: usize) -> Self {
        match literals {
            0 => Self::Nothing,
            1..=3 => Self::UpToThree,
            _ => Self::FourOrMore,
        }
    }
}

impl Stream<'_> {
    /// Unpacks the stream; `None` if the data is damaged.
    fn run(&mut self) -> Option<()> {
        let mut before = Before::Nothing;
        // Only the first byte can be a bare count of literals.
        if let Some(first) = self.input.first().filter(|first| **first > 17) {
            let literals = usize::from(*first) - 17;
            self.byte()?;
            self.literals(literals)?;
            before = Before::of(literals);
        }
        loop {
            let code = usize::from(self.byte()?);
            let (length, distance, literals) = match code {
                0..=15 => match before {
                    Before::Nothing => {
                        let run = self.length(code, 15)? + 3;
                        self.literals(run)?;
                        before = Before::FourOrMore;
                        continue;
                    }
                    Before::UpToThree => (2, self.near(code)? + 1, code & 3),
                    Before::FourOrMore => (3, self.near(code)? + 2049, code & 3),
                },
                16..=31 => {
                    let length = self.length(code & 7, 7)? + 2;
                    let word = self.word()?;
                    let distance = (code & 8) << 11 | word >> 2;
                    if distance == 0 {
                        // The end marker, which must be the end of the input.
                        return (self.input.is_empty() && self.output.len() == self.limit)
                            .then_some(());
                    }
                    (length, distance + 16384, word & 3)
                }
                32..=63 => {
                    let length = self.length(code & 31, 31)? + 2;
                    let word = self.word()?;
                    (length, (word >> 2) + 1, word & 3)
                }
                _ => {
                    let distance = (usize::from(self.byte()?) << 3 | code >> 2 & 7) + 1;
                    ((code >> 5) + 1, distance, code & 3)
                }
            };
            self.repeat(length, distance)?;
            self.literals(literals)?;
            before = Before::of(literals);
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.input.split_first()?;
        self.input = rest;
        Some(*byte)
    }

    fn word(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()?) | usize::from(self.byte()?) << 8)
    }

    fn near(&mut self, code: usize) -> Option<usize> {
        Some(usize::from(self.byte()?) << 2 | code >> 2)
    }

    /// A length whose field is zero goes on in bytes: each zero counts 255.
    fn length(&mut self, field: usize, full: usize) -> Option<usize> {
        if field != 0 {
            return Some(field);
        }
        let mut length = full;
        loop {
            match self.byte()? {
                0 => length += 255,
                last => return Some(length + usize::from(last)),
            }
        }
    }

    fn literals(&mut self, count: usize) -> Option<()> {
        let (run, rest) = self.input.split_at_checked(count)?;
        self.room(count)?;
        self.output.extend_from_slice(run);
        self.input = rest;
        Some(())
    }

    /// Repeats what was `distance` bytes ago; the two may overlap.
    fn repeat(&mut self, length: usize, distance: usize) -> Option<()> {
        self.room(length)?;
        let start = self.output.len().checked_sub(distance)?;
        for from in start..start + length {
            self.output.push(*self.output.get(from)?);
        }
        Some(())
    }

    fn room(&self, more: usize) -> Option<()> {
        (self.output.len().checked_add(more)? <= self.limit).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_another_packs_is_unpacked(
            seed in proptest::collection::vec(any::<u8>(), 0..600),
            repeats in proptest::collection::vec((0usize..600, 0usize..5000), 0..20),
        ) {
            let mut plain = seed;
            for (from, len) in repeats {
                let from = from.min(plain.len());
                let again: Vec<u8> = plain[from..].iter().copied().cycle().take(if plain.len() > from { len } else { 0 }).collect();
                plain.extend(again);
                plain.push(plain.len() as u8);
            }
            let packed = lzokay_native::compress(&plain).expect("it compresses");
            prop_assert_eq!(unpack(&packed, plain.len()), Ok(plain));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0usize..5000) {
            if let Ok(plain) = unpack(&bytes, length) {
                prop_assert_eq!(plain.len(), length);
            }
        }
    }
}
