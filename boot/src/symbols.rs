//! The table of function names inside the image, for backtraces.
//!
//! The hypervisor reserves zero bytes between the linker's symbols `__symbols_start` and
//! `__symbols_end` (a static array in the section `.oxen.symbols`); they are filled in after
//! linking, so that nothing moves and no second link is needed. It must read them through these two
//! symbols, lest the compiler take the zeros for granted. Where they are missing or hold nothing,
//! the image has no names; where the table is too large, the last functions have none. Either is
//! said.
//!
//! Layout, little-endian, without padding:
//!
//! ```text
//! 0   [u8; 4]  magic "OXS1"
//! 4   u32      number of entries
//! 8   u32      bytes of entries that follow the header
//! 12  u32      zero
//! 16  u64      address of the first function
//! 24  entries, by rising address:
//!       varint  distance from the previous function's address (0 for the first); LEB128, unsigned
//!       u8      how many leading bytes the name shares with the previous name
//!       u8      how many bytes follow
//!       [u8]    the rest of the name, ASCII
//! ```
//!
//! A name is at most [`NAME_MAX`] bytes. To look an address up, decode from the start with a buffer
//! of that size, and stop before the first entry above it. The last entry has an empty name: it
//! marks the end of the code.

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSegment, ObjectSymbol, SymbolKind};

const PLACE: [&str; 2] = ["__symbols_start", "__symbols_end"];
const NAME_MAX: usize = 96;
const MAGIC: &[u8; 4] = b"OXS1";
const HEADER: usize = 24;

type Elf<'data> = ElfFile64<'data, Endianness>;

/// Fills the place in an ELF image; returns a note for people.
pub(crate) fn embed(elf: &mut [u8]) -> Result<String> {
    let file = Elf::parse(&*elf).context("the hypervisor is not an ELF file")?;
    let Some((offset, size)) = place(&file).filter(|(_, size)| *size > 0) else {
        return Ok("no names for backtraces (the image has no place for them)".to_owned());
    };
    let mut functions = functions(&file);
    let mut table = pack(&functions)?;
    let all = functions.len();
    while table.len() > size && functions.len() > 1 {
        // The marker of the end stays; names at the end of the code go.
        functions.remove(functions.len() - 2);
        table = pack(&functions)?;
    }
    if table.len() > size {
        bail!("the place for symbols holds {size} bytes: too few for any name");
    }
    let room = elf
        .get_mut(offset..offset + size)
        .context("the place for symbols is beyond the file's end")?;
    room.fill(0);
    room[..table.len()].copy_from_slice(&table);
    let left_out = all - functions.len();
    let note = if left_out == 0 {
        String::new()
    } else {
        format!("; {left_out} DO NOT FIT")
    };
    Ok(format!(
        "{} names, {} of {size} bytes{note}",
        functions.len().saturating_sub(1),
        table.len()
    ))
}

/// The functions of a file, one a line behind its address, and their number; the last line is the
/// end of the code.
pub(crate) fn list(file: &Elf<'_>) -> (String, usize) {
    use std::fmt::Write;
    let functions = functions(file);
    let mut text = String::new();
    for (address, name) in &functions {
        let _ = writeln!(text, "{address:016x} {name}");
    }
    (text, functions.len().saturating_sub(1))
}

/// [`list`] of a file that is not parsed yet.
pub(crate) fn list_of(elf: &[u8]) -> Result<String> {
    Ok(list(&Elf::parse(elf).context("no ELF file")?).0)
}

/// The functions that addresses lie in, from the lines of [`list`].
pub(crate) fn find(list: &str, address: u64) -> Option<(&str, u64)> {
    let mut lines = list.lines().filter_map(|line| {
        let (start, name) = line.split_once(' ')?;
        Some((u64::from_str_radix(start, 16).ok()?, name))
    });
    let (start, name) = lines.rfind(|(start, _)| *start <= address)?;
    (!name.is_empty()).then_some((name, address - start))
}

/// `./x names`: prints the functions that these addresses of a panic lie in.
pub(crate) fn print(list: &str, addresses: &[String]) -> Result<()> {
    for text in addresses {
        let digits = text.trim_start_matches("0x");
        let address = u64::from_str_radix(digits, 16)
            .with_context(|| format!("{text:?} is no hexadecimal address"))?;
        match find(list, address) {
            Some((name, offset)) => println!("{address:016x} {name}+{offset:#x}"),
            None => println!("{address:016x} outside of the image's code"),
        }
    }
    Ok(())
}

/// Offset in the file and size of the reserved bytes.
fn place(file: &Elf<'_>) -> Option<(usize, usize)> {
    let [start, end] = PLACE.map(|name| file.symbol_by_name(name).map(|symbol| symbol.address()));
    let (start, end) = (start?, end?);
    let segment = file.segments().find(|segment| {
        let (_, length) = segment.file_range();
        segment.address() <= start && end <= segment.address() + length
    })?;
    let offset = segment.file_range().0 + (start - segment.address());
    Some((
        usize::try_from(offset).ok()?,
        usize::try_from(end.checked_sub(start)?).ok()?,
    ))
}

/// Functions by address, with one entry at the end of the code.
fn functions(file: &Elf<'_>) -> Vec<(u64, String)> {
    let mut found: Vec<_> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.address() != 0)
        .filter_map(|symbol| {
            Some((
                symbol.address(),
                symbol.address() + symbol.size(),
                short(symbol.name().ok()?),
            ))
        })
        .collect();
    found.sort();
    found.dedup_by_key(|(address, ..)| *address);
    let end = found.iter().map(|(_, end, _)| *end).max();
    let mut functions: Vec<_> = found
        .into_iter()
        .map(|(address, _, name)| (address, name))
        .collect();
    if let Some(end) = end {
        functions.push((end, String::new()));
    }
    functions
}

/// A readable name without hash and generic arguments, in ASCII.
fn short(mangled: &str) -> String {
    let full = format!("{:#}", rustc_demangle::demangle(mangled));
    let mut name = String::new();
    let mut depth = 0_usize;
    for character in full.chars() {
        match character {
            // `<Type as Trait>::method` at the start of a path is kept, `::<arguments>` is not.
            '<' if depth > 0 || name.ends_with("::") => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            other if other.is_ascii() => name.push(other),
            _ => name.push('?'),
        }
    }
    let mut name = name.replace("::::", "::");
    if name.ends_with("::") {
        name.truncate(name.len() - 2);
    }
    name.truncate(NAME_MAX);
    name
}

fn pack(functions: &[(u64, String)]) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    let first = functions.first().map_or(0, |(address, _)| *address);
    let (mut last_address, mut last_name) = (first, "");
    for (address, name) in functions {
        varint(&mut entries, address - last_address);
        let shared = name
            .bytes()
            .zip(last_name.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let rest = &name.as_bytes()[shared..];
        entries.extend([u8::try_from(shared)?, u8::try_from(rest.len())?]);
        entries.extend(rest);
        (last_address, last_name) = (*address, name);
    }
    let mut table = Vec::with_capacity(HEADER + entries.len());
    table.extend(MAGIC);
    table.extend(u32::try_from(functions.len())?.to_le_bytes());
    table.extend(u32::try_from(entries.len())?.to_le_bytes());
    table.extend(0_u32.to_le_bytes());
    table.extend(first.to_le_bytes());
    table.extend(entries);
    Ok(table)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reader, as the hypervisor does it.
    fn look_up(table: &[u8], wanted: u64) -> Option<(String, u64)> {
        assert_eq!(&table[..4], MAGIC);
        let word =
            |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().expect("four bytes"));
        let mut address = u64::from_le_bytes(table[16..24].try_into().expect("eight bytes"));
        let mut bytes = table[HEADER..HEADER + word(8) as usize].iter().copied();
        let mut name: Vec<u8> = Vec::new();
        let mut best = None;
        for _ in 0..word(4) {
            let (mut delta, mut shift) = (0_u64, 0);
            loop {
                let byte = bytes.next()?;
                delta |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            address += delta;
            if address > wanted {
                break;
            }
            let (shared, more) = (bytes.next()?, bytes.next()?);
            name.truncate(shared.into());
            for _ in 0..more {
                name.push(bytes.next()?);
            }
            best = Some((String::from_utf8(name.clone()).ok()?, wanted - address));
        }
        best.filter(|(name, _)| !name.is_empty())
    }

    #[test]
    fn every_address_finds_its_function() {
        let base = 0xffff_82d0_4020_0000;
        let functions = vec![
            (base, "oxen::start".to_owned()),
            (base + 0x10, "oxen::stop".to_owned()),
            (base + 0x4_0000, "core::fmt::write".to_owned()),
            (base + 0x4_0100, String::new()),
        ];
        let table = pack(&functions).expect("a small table");
        assert_eq!(look_up(&table, base - 1), None);
        assert_eq!(look_up(&table, base), Some(("oxen::start".into(), 0)));
        assert_eq!(
            look_up(&table, base + 0x1f),
            Some(("oxen::stop".into(), 0xf))
        );
        assert_eq!(
            look_up(&table, base + 0x4_00ff),
            Some(("core::fmt::write".into(), 0xff))
        );
        assert_eq!(look_up(&table, base + 0x4_0100), None);
    }

    #[test]
    fn addresses_of_a_panic_get_their_names() {
        let list = "ffff82d080200000 oxen::start\nffff82d080200010 oxen::stop\nffff82d080200040 \n";
        let base = 0xffff_82d0_8020_0000;
        assert_eq!(find(list, base - 1), None);
        assert_eq!(find(list, base + 0xf), Some(("oxen::start", 0xf)));
        assert_eq!(find(list, base + 0x3f), Some(("oxen::stop", 0x2f)));
        assert_eq!(find(list, base + 0x40), None);
        assert!(print(list, &["0xffff82d080200000".to_owned()]).is_ok());
        assert!(print(list, &["stop".to_owned()]).is_err());
    }

    #[test]
    fn names_lose_hash_and_arguments_but_keep_traits() {
        assert_eq!(short("_ZN4oxen4main17h0123456789abcdefE"), "oxen::main");
        assert_eq!(short("memcpy"), "memcpy");
        let method =
            "_ZN47_$LT$oxen..Uart$u20$as$u20$core..fmt..Write$GT$9write_str17h0123456789abcdefE";
        assert_eq!(short(method), "<oxen::Uart as core::fmt::Write>::write_str");
        assert_eq!(
            short("_ZN4core3ptr23drop_in_place$LT$u8$GT$17h0123456789abcdefE"),
            "core::ptr::drop_in_place<u8>"
        );
    }

    #[test]
    fn an_image_without_the_place_is_left_alone() {
        let mut this =
            std::fs::read(std::env::current_exe().expect("a path")).expect("the test program");
        let before = this.clone();
        let note = embed(&mut this).expect("an ELF file");
        assert!(note.contains("no names"));
        assert!(this == before);
    }
}
