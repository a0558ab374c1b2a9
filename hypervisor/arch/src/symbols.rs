//! The names of functions inside the image, by their addresses.
//!
//! The room is reserved here, as zeros in the section `.oxen.symbols`; the task runner fills it
//! after linking (boot/src/symbols.rs, which describes the format). Read through the linker's
//! symbols only: the compiler believes that the zeros stay.

use core::fmt;

const MAGIC: &[u8; 4] = b"OXS1";
const HEADER: usize = 24;
const NAME_MAX: usize = 96;

/// A name while it is put together from shared and own parts.
pub struct NameBuffer([u8; NAME_MAX]);

impl NameBuffer {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self([0; NAME_MAX])
    }
}

impl Default for NameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A table, filled or empty.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a>(&'a [u8]);

impl<'a> Symbols<'a> {
    /// The table in these bytes; without its mark it has no names.
    pub fn new(table: &'a [u8]) -> Self {
        Self(if table.starts_with(MAGIC) { table } else { &[] })
    }

    /// The function that `wanted` lies in, and the distance from its start.
    pub fn lookup(self, wanted: u64, name: &mut NameBuffer) -> Option<(&str, u64)> {
        let count = u32::from_le_bytes(self.field(4)?);
        let mut address = u64::from_le_bytes(self.field(16)?);
        let mut reader = Reader(self.0.get(HEADER..)?);
        let (mut length, mut found) = (0, None);
        for _ in 0..count {
            address = address.checked_add(reader.varint()?)?;
            if address > wanted {
                break;
            }
            let shared = usize::from(reader.byte()?);
            let own = reader.take(usize::from(reader.peek()?))?;
            if shared > length {
                return None;
            }
            length = shared + own.len();
            name.0.get_mut(shared..length)?.copy_from_slice(own);
            found = Some(address);
        }
        // An empty name marks the end of the code.
        let text = core::str::from_utf8(name.0.get(..length)?).ok()?;
        found
            .filter(|_| !text.is_empty())
            .map(|start| (text, wanted - start))
    }

    fn field<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Takes `length` bytes after the byte that names this length.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.0.get(1..1 + length)?;
        self.0 = &self.0[1 + length..];
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Prints an address as `address name+offset`.
pub struct Located(pub u64);

/// Prints a return address in the same form. A call that never returns may be its function's last
/// instruction, so the name is that of the byte before.
pub struct ReturnTo(pub u64);

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_located(f, self.0, 0)
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_located(f, self.0, 1)
    }
}

fn write_located(f: &mut fmt::Formatter<'_>, address: u64, back: u64) -> fmt::Result {
    let mut name = NameBuffer::new();
    match table().lookup(address.wrapping_sub(back), &mut name) {
        Some((name, offset)) => write!(f, "{address:016x} {name}+{:#x}", offset + back),
        None => write!(f, "{address:016x}"),
    }
}

#[cfg(not(all(target_os = "none", feature = "names")))]
fn table() -> Symbols<'static> {
    Symbols::new(&[])
}

#[cfg(all(target_os = "none", feature = "names"))]
use linked::table;

#[cfg(all(target_os = "none", feature = "names"))]
#[expect(unsafe_code, reason = "the linker's section")]
mod linked {
    use super::Symbols;

    /// Room for the names; the task runner says when it is too small.
    const ROOM: usize = 64 << 10;

    #[used]
    #[unsafe(link_section = ".oxen.symbols")]
    static RESERVED: [u8; ROOM] = [0; ROOM];

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

    /// As the task runner packs it: distance, shared length, own length, own part.
    fn table(entries: &[(u8, u8, &str)]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend((entries.len() as u32).to_le_bytes());
        out.extend([0; 8]);
        out.extend(0x1000u64.to_le_bytes());
        for (distance, shared, own) in entries {
            out.extend([*distance, *shared, own.len() as u8]);
            out.extend(own.bytes());
        }
        out
    }

    fn find(bytes: &[u8], address: u64) -> Option<(String, u64)> {
        let mut name = NameBuffer::new();
        let found = Symbols::new(bytes).lookup(address, &mut name);
        found.map(|(name, offset)| (name.to_owned(), offset))
    }

    #[test]
    fn finds_the_function_around() {
        let bytes = table(&[(0, 0, "oxen::start"), (0x10, 6, "top"), (0x40, 0, "")]);
        assert_eq!(find(&bytes, 0xfff), None);
        assert_eq!(find(&bytes, 0x1000), Some(("oxen::start".into(), 0)));
        assert_eq!(find(&bytes, 0x100f), Some(("oxen::start".into(), 15)));
        assert_eq!(find(&bytes, 0x1011), Some(("oxen::top".into(), 1)));
        assert_eq!(find(&bytes, 0x1050), None);
    }

    #[test]
    fn long_distances() {
        let mut bytes = table(&[(0, 0, "a")]);
        bytes[4] = 2;
        bytes.extend([0x80, 0x02, 0, 1, b'b']);
        assert_eq!(find(&bytes, 0x10ff), Some(("a".into(), 0xff)));
        assert_eq!(find(&bytes, 0x1100), Some(("b".into(), 0)));
    }

    #[test]
    fn cut_or_damaged_tables_find_nothing_and_do_not_panic() {
        assert_eq!(find(&[], 0x1000), None);
        assert_eq!(find(b"OXS1", 0x1000), None);
        let bytes = table(&[(0, 0, "oxen::start"), (0x10, 6, "top"), (0x40, 0, "")]);
        for length in 0..bytes.len() {
            let _ = find(&bytes[..length], 0x1011);
        }
        for at in 24..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] = 0xff;
            let _ = find(&damaged, 0x1011);
        }
        assert_eq!(
            find(&table(&[(0, 5, "x")]), 0x1000),
            None,
            "shares more than there is"
        );
    }
}
