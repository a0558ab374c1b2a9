//! Walks of random entries in all formats, against a model that is written as the manuals' tables
//! are: for each kind of entry the ranges of bits that must be zero.

use super::*;
use proptest::prelude::*;

pub(crate) mod soak;

/// The outcome of a read: the address, or the error code.
type Outcome = Result<u64, u32>;

const NOT_PRESENT: u32 = 0;
const RESERVED: u32 = 0b1001;

/// The processor, and the entries on the way from the root down.
#[derive(Clone, Debug)]
struct Case {
    bits: u32,
    pages_1g: bool,
    nx: bool,
    pse: bool,
    entries: [u64; 4],
    linear: u64,
}

/// Whether one of the bits `ranges` (first and last, as in the manual's tables) is set.
fn any(entry: u64, ranges: &[(u32, u32)]) -> bool {
    ranges
        .iter()
        .flat_map(|&(first, last)| first..=last)
        .any(|bit| entry >> bit & 1 != 0)
}

/// The model of one level: `None` to go on, with the frame in the entry.
fn level(case: &Case, entry: u64, beyond: u32, ranges: &[(u32, u32)]) -> Result<(), u32> {
    if entry & 1 == 0 {
        return Err(NOT_PRESENT);
    }
    let high: &[(u32, u32)] = if case.bits <= beyond {
        &[(case.bits, beyond)]
    } else {
        &[]
    };
    let nx: &[(u32, u32)] = if case.nx { &[] } else { &[(63, 63)] };
    if any(entry, ranges) || any(entry, high) || any(entry, nx) {
        return Err(RESERVED);
    }
    Ok(())
}

fn page(case: &Case, entry: u64, shift: u32) -> u64 {
    let inside = (1u64 << shift) - 1;
    (entry & 0x000f_ffff_ffff_ffff & !inside) | case.linear & inside
}

/// SDM volume 3, tables 4-15 to 4-20.
fn long(case: &Case) -> Outcome {
    let [top, pointer, directory, table] = case.entries;
    level(case, top, 51, &[(7, 7)])?;
    if pointer >> 7 & 1 == 0 || !case.pages_1g {
        level(case, pointer, 51, &[(7, 7)])?;
    } else {
        level(case, pointer, 51, &[(13, 29)])?;
        return Ok(page(case, pointer, 30));
    }
    if directory >> 7 & 1 != 0 {
        level(case, directory, 51, &[(13, 20)])?;
        return Ok(page(case, directory, 21));
    }
    level(case, directory, 51, &[])?;
    level(case, table, 51, &[])?;
    Ok(page(case, table, 12))
}

/// Tables 4-8 to 4-11.
fn pae(case: &Case) -> Outcome {
    let [_, pointer, directory, table] = case.entries;
    if pointer & 1 == 0 {
        return Err(NOT_PRESENT);
    }
    if any(pointer, &[(1, 2), (5, 8), (case.bits, 63)]) {
        return Err(RESERVED);
    }
    if directory >> 7 & 1 != 0 {
        level(case, directory, 62, &[(13, 20)])?;
        return Ok(page(case, directory, 21));
    }
    level(case, directory, 62, &[])?;
    level(case, table, 62, &[])?;
    Ok(page(case, table, 12))
}

/// Tables 4-4 to 4-6, with PSE-36.
fn short(case: &Case) -> Outcome {
    let [_, _, directory, table] = case.entries.map(|entry| entry & 0xffff_ffff);
    if directory & 1 == 0 {
        return Err(NOT_PRESENT);
    }
    if directory >> 7 & 1 != 0 && case.pse {
        let most = case.bits.min(40);
        if any(directory, &[(most - 19, 21)]) {
            return Err(RESERVED);
        }
        let high = (directory >> 13 & 0xff) << 32;
        return Ok(directory & 0xffc0_0000 | high | case.linear & 0x3f_ffff);
    }
    if table & 1 == 0 {
        return Err(NOT_PRESENT);
    }
    Ok(table & 0xffff_f000 | case.linear & 0xfff)
}

/// Memory in which each table holds one entry only, whatever its address: its level is told by the
/// order of reads.
struct Way {
    entries: [u64; 4],
    next: core::cell::Cell<usize>,
    short: bool,
}

impl PhysRead for Way {
    fn read_u64(&self, _: Gaddr) -> Option<u64> {
        let next = self.next.get();
        self.next.set(next + 1);
        let entry = *self.entries.get(next)?;
        Some(if self.short {
            entry & 0xffff_ffff | entry << 32
        } else {
            entry
        })
    }
}

fn walked(case: &Case, mode: PagingMode) -> Outcome {
    let (skip, efer, cr4) = match mode {
        PagingMode::Long => (0, EFER_LMA, CR4_PAE),
        PagingMode::Pae => (1, 0, CR4_PAE),
        PagingMode::Bits32 => (2, 0, if case.pse { CR4_PSE } else { 0 }),
        PagingMode::Off => panic!("no tables to walk"),
    };
    let way = Way {
        entries: case.entries,
        next: skip.into(),
        short: mode == PagingMode::Bits32,
    };
    let paging = Paging {
        cr0: CR0_PE | CR0_PG,
        cr3: 0x1000,
        cr4,
        efer: efer | if case.nx { EFER_NX } else { 0 },
        ac: false,
        limits: Limits {
            phys_bits: case.bits,
            pages_1g: case.pages_1g,
        },
    };
    match find(&way, &paging, Vaddr::new(case.linear), Access::READ) {
        Ok(found) => Ok(found.place.gpa.raw()),
        Err(WalkError::Fault { code }) => Err(code),
        other => panic!("{other:?}"),
    }
}

/// Mostly entries that are present and have few other bits.
fn entry() -> impl Strategy<Value = u64> {
    let sparse = prop::collection::vec(0u32..64, 0..3);
    (sparse, any_bool(), any_bool(), 0u64..1 << 20).prop_map(|(set, large, absent, frame)| {
        let few = set.iter().fold(0, |entry, bit| entry | 1 << bit);
        let present = u64::from(!(absent && set.is_empty()));
        few | frame << 21 & 0x1f_ffff_f000 | present | if large { LARGE } else { 0 }
    })
}

fn any_bool() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}

fn case() -> impl Strategy<Value = Case> {
    let entries = [entry(), entry(), entry(), entry()];
    let flags = (any_bool(), any_bool(), any_bool());
    (32u32..=52, flags, entries, 0u64..1 << 32).prop_map(
        |(bits, (pages_1g, nx, pse), entries, linear)| Case {
            bits,
            pages_1g,
            nx,
            pse,
            entries,
            linear,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn bits_that_must_be_zero_fault_as_the_manuals_say(case in case()) {
        prop_assert_eq!(walked(&case, PagingMode::Long), long(&case));
        prop_assert_eq!(walked(&case, PagingMode::Pae), pae(&case));
        prop_assert_eq!(walked(&case, PagingMode::Bits32), short(&case));
    }
}

/// XTF's xsa-173 and its like, one bit at a time.
#[test]
fn each_bit_of_an_address_that_the_cpu_has_not_faults() {
    let good = Case {
        bits: 40,
        pages_1g: true,
        nx: true,
        pse: true,
        entries: [0x1003, 0x2003, 0x3003, 0x4003],
        linear: 0x123,
    };
    assert_eq!(walked(&good, PagingMode::Long), Ok(0x4123));
    for level in 0..4 {
        for bit in 40..52 {
            let mut case = good.clone();
            case.entries[level] |= 1 << bit;
            assert_eq!(
                walked(&case, PagingMode::Long),
                Err(RESERVED),
                "{level} {bit}"
            );
            if level > 0 {
                assert_eq!(
                    walked(&case, PagingMode::Pae),
                    Err(RESERVED),
                    "{level} {bit}"
                );
            }
        }
    }
    let mut case = good;
    case.entries[0] |= LARGE;
    assert_eq!(walked(&case, PagingMode::Long), Err(RESERVED));
}
