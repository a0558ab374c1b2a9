//! The symbol table inside the image: which function an address lies in.
//!
//! Format, written by the build's second link (boot/src/symbols.rs), all little-endian:
//!   magic "OXSY", u32 count, u32 names (offset of the names' first byte from the table's start),
//!   count x { u32 address, as offset from the start of text; u32 name, offset into the names },
//!   sorted by address; then the names, each with a length byte in front, UTF-8, shortened to 255.

use core::fmt;

const MAGIC: &[u8; 4] = b"OXSY";
const HEADER: usize = 12;
const ENTRY: usize = 8;

/// A table, valid or empty.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a>(&'a [u8]);

impl<'a> Symbols<'a> {
    pub fn new(table: &'a [u8]) -> Self {
        Self(if table.starts_with(MAGIC) { table } else { &[] })
    }

    /// Name of, and distance from, the last symbol at or before `offset`.
    pub fn lookup(self, offset: u32) -> Option<(&'a str, u32)> {
        let count = word(self.0, 4)? as usize;
        let names = word(self.0, 8)? as usize;
        let address = |index: usize| word(self.0, HEADER + index * ENTRY);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if address(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = low.checked_sub(1)?;
        let at = names.checked_add(word(self.0, HEADER + found * ENTRY + 4)? as usize)?;
        let length = usize::from(*self.0.get(at)?);
        let name = core::str::from_utf8(self.0.get(at + 1..at + 1 + length)?).ok()?;
        Some((name, offset - address(found)?))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// Prints an address of our text as `address name+offset`.
pub struct Located(pub u64);

#[cfg(target_os = "none")]
impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = crate::layout::image().text.0.raw();
        let found = u32::try_from(self.0.wrapping_sub(start))
            .ok()
            .and_then(|offset| linked::table().lookup(offset));
        match found {
            Some((name, offset)) => write!(f, "{:016x} {name}+{offset:#x}", self.0),
            None => write!(f, "{:016x}", self.0),
        }
    }
}

#[cfg(not(target_os = "none"))]
impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(target_os = "none")]
#[allow(unsafe_code)] // the linker's table
mod linked {
    use super::Symbols;

    unsafe extern "C" {
        static __symbols_start: u8;
        static __symbols_end: u8;
    }

    pub(super) fn table() -> Symbols<'static> {
        let (start, end) = (&raw const __symbols_start, &raw const __symbols_end);
        // SAFETY: the linker script brackets the section with these symbols.
        Symbols::new(unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut names = vec![];
        let mut out = MAGIC.to_vec();
        out.extend((symbols.len() as u32).to_le_bytes());
        out.extend(((HEADER + symbols.len() * ENTRY) as u32).to_le_bytes());
        for (address, name) in symbols {
            out.extend(address.to_le_bytes());
            out.extend((names.len() as u32).to_le_bytes());
            names.push(name.len() as u8);
            names.extend(name.bytes());
        }
        out.extend(names);
        out
    }

    #[test]
    fn finds_the_symbol_before() {
        let bytes = table(&[(0x10, "start"), (0x40, "middle"), (0x100, "end")]);
        let symbols = Symbols::new(&bytes);
        assert_eq!(symbols.lookup(0xf), None);
        assert_eq!(symbols.lookup(0x10), Some(("start", 0)));
        assert_eq!(symbols.lookup(0x3f), Some(("start", 0x2f)));
        assert_eq!(symbols.lookup(0x40), Some(("middle", 0)));
        assert_eq!(symbols.lookup(0x1000), Some(("end", 0xf00)));
    }

    #[test]
    fn cut_or_absent_tables_find_nothing_and_do_not_panic() {
        assert_eq!(Symbols::new(&[]).lookup(1), None);
        assert_eq!(Symbols::new(b"junk").lookup(1), None);
        let bytes = table(&[(0x10, "start"), (0x40, "middle")]);
        for length in 0..bytes.len() {
            let found = Symbols::new(&bytes[..length]).lookup(0x50);
            assert_eq!(found, None, "cut at {length}");
        }
    }
}
