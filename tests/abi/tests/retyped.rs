//! No number of the ABI is typed again: the hypervisor and the toolset take numbers and offsets
//! from `guest-pv-abi`, which the other tests of this crate compare with the C headers.
//!
//! A constant counts as typed again if its value is a literal, and
//! - its name is that of a number of the ABI with the same value, or the end of such a name, or
//! - its name is that of a structure's field, or the end of one, and its value is the field's
//!   offset.
//!
//! Magic numbers and signatures are looked for everywhere, whatever they are called. Tests are left
//! out: their numbers are what they compare with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use guest_pv_abi::layout::Item;

/// Constants that are no copies, by file and a part of their name or line, each with the reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "hypervisor/mm/src/p2m/kind.rs",
        "RAM",
        "the p2m's own kinds of entries",
    ),
    (
        "hypervisor/mm/src/pt/format.rs",
        "READ",
        "a bit of EPT entries, as Intel's manual numbers it",
    ),
];

/// Offsets below this are too common to mean anything.
const LEAST_OFFSET: usize = 64;
/// Magic numbers up to this are too common to mean anything.
const LEAST_MAGIC: i128 = 0xffff;

/// The ABI, as this test looks at it.
struct Abi {
    numbers: Vec<(&'static str, i128)>,
    offsets: Vec<(String, i128)>,
    magic: BTreeMap<i128, &'static str>,
}

impl Abi {
    fn new() -> Self {
        let mut abi = Self {
            numbers: Vec::new(),
            offsets: Vec::new(),
            magic: BTreeMap::new(),
        };
        let blocks = guest_pv_abi::LAYOUT.iter().flat_map(|(_, blocks)| *blocks);
        for item in blocks.flat_map(|block| *block) {
            match *item {
                Item::Const { name, value, .. } => {
                    abi.numbers.push((name, value));
                    let is_magic = name.contains("MAGIC") || name.contains("SIGNATURE");
                    if is_magic && value > LEAST_MAGIC {
                        abi.magic.insert(value, name);
                    }
                }
                Item::Struct { name, fields, .. } => {
                    let far = fields.iter().filter(|field| field.offset >= LEAST_OFFSET);
                    let named = far.map(|field| {
                        let whole = format!("{name}.{}", field.name);
                        (whole, field.offset as i128)
                    });
                    abi.offsets.extend(named);
                }
                Item::Text { .. } | Item::Extra { .. } => {}
            }
        }
        abi
    }

    /// The item of the ABI that a constant repeats.
    fn original(&self, name: &str, value: i128) -> Option<String> {
        let number = self
            .numbers
            .iter()
            .find(|(abi, number)| *number == value && is_name_of(name, abi));
        if let Some((abi, _)) = number {
            return Some((*abi).to_owned());
        }
        let field = name.to_ascii_lowercase();
        let offset = self.offsets.iter().find(|(whole, offset)| {
            let last = whole.split('.').next_back().unwrap_or_default();
            *offset == value && (last == field || last.ends_with(&format!("_{field}")))
        });
        offset.map(|(whole, _)| format!("the offset of {whole}"))
    }
}

/// Whether `name` is `abi`, or enough of its end: two words, or one word behind a prefix of one.
fn is_name_of(name: &str, abi: &str) -> bool {
    if name == abi {
        return true;
    }
    let Some(prefix) = abi
        .strip_suffix(name)
        .and_then(|rest| rest.strip_suffix('_'))
    else {
        return false;
    };
    name.contains('_') || !prefix.contains('_')
}

/// The value of an expression of literals, `<<` and `|`.
fn value(expression: &str) -> Option<i128> {
    expression.split('|').try_fold(0, |all, part| {
        let mut shifted = part.split("<<").map(|word| integer(word.trim()));
        let first = shifted.next()??;
        let bits = shifted.try_fold(0, |bits, more| Some(bits + more?))?;
        first
            .checked_shl(u32::try_from(bits).ok()?)
            .map(|part| all | part)
    })
}

fn integer(word: &str) -> Option<i128> {
    let mut digits = word.replace('_', "");
    for suffix in ["u8", "u16", "u32", "u64", "usize", "i32", "i64"] {
        if let Some(bare) = digits.strip_suffix(suffix) {
            digits = bare.to_owned();
        }
    }
    match digits.split_at_checked(2) {
        Some(("0x", hex)) => i128::from_str_radix(hex, 16).ok(),
        Some(("0b", binary)) => i128::from_str_radix(binary, 2).ok(),
        _ => digits.parse().ok(),
    }
}

/// The name and the value of a constant that stands on one line.
fn constant(line: &str) -> Option<(&str, i128)> {
    let line = line.trim();
    let declared = match line.split_once("const ") {
        Some((before, rest)) if before.is_empty() || before.starts_with("pub") => rest,
        _ => return None,
    };
    let (name, rest) = declared.split_once(": ")?;
    let (_, expression) = rest.split_once(" = ")?;
    Some((name, value(expression.split(';').next()?)?))
}

/// The integers of a line, as long as they are hexadecimal.
fn hexadecimals(line: &str) -> impl Iterator<Item = i128> {
    let code = line.split("//").next().unwrap_or_default();
    let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("0x"))
        .filter_map(integer)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a file is of tests, or of their doubles.
fn is_test(path: &Path) -> bool {
    let mut parts = path
        .components()
        .filter_map(|part| part.as_os_str().to_str());
    parts.any(|part| {
        let stem = part.strip_suffix(".rs").unwrap_or(part);
        matches!(stem, "tests" | "testing" | "fuzz") || stem.ends_with("_tests")
    })
}

fn copies(abi: &Abi, text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some((name, value)) = constant(line)
            && let Some(original) = abi.original(name, value)
        {
            found.push((name.to_owned(), original));
        }
        for value in hexadecimals(line) {
            if let Some(name) = abi.magic.get(&value) {
                found.push((line.trim().to_owned(), (*name).to_owned()));
            }
        }
    }
    found
}

#[test]
fn copies_of_numbers_offsets_and_magic_are_seen() {
    let abi = Abi::new();
    for line in [
        "const E820_RAM: u32 = 1;",
        "    pub(super) const READING: u32 = 1 << 3;",
        "const FIFO_LINK_BITS: u32 = 17;",
        "pub const EVTCHN_PENDING: usize = 2048;",
        "const MINE: u32 = 0x336e_c578;",
        "let words = [0x566e_6558_u32];",
    ] {
        assert_eq!(copies(&abi, line).len(), 1, "{line}");
    }
    for line in [
        "const E820_RAM: u32 = abi::E820_RAM;",
        "const RAM: u32 = 7;",
        "// 0x336e_c578 is the magic of PVH",
        "const PENDING: usize = offset_of!(SharedInfo, evtchn_pending);",
    ] {
        assert_eq!(copies(&abi, line), [], "{line}");
    }
}

#[test]
fn no_number_of_the_abi_is_typed_again() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).expect("the checkout");
    let abi = Abi::new();
    let mut files = Vec::new();
    for room in ["hypervisor", "dom0-tools"] {
        sources(&root.join(room), &mut files);
    }
    let mut found = Vec::new();
    for file in &files {
        let path = file
            .strip_prefix(root)
            .expect("below the root")
            .to_string_lossy()
            .into_owned();
        if is_test(Path::new(&path)) {
            continue;
        }
        let text = fs::read_to_string(file).expect("a source");
        for (name, original) in copies(&abi, &text) {
            let allowed = ALLOWED
                .iter()
                .any(|(file, item, _)| *file == path && name.contains(item));
            if !allowed {
                found.push(format!("{path}: {name} is {original}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "take these from guest-pv-abi:\n{}",
        found.join("\n")
    );
}
