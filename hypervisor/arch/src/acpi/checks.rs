//! Checks on plain bytes of all that the crate `acpi` takes on trust, before it gets to see them.

use oxen_types::Maddr;

/// The root table: RSDT (revision 0) or XSDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Root {
    pub(super) rsdp: Option<Maddr>,
    pub(super) revision: u8,
    pub(super) table: u64,
}

/// Multiboot 2 hands over the RSDP's bytes, not its place. Checksum as in ACPI 6.5, 5.2.5.3.
pub(super) fn from_copy(copy: &[u8]) -> Option<Root> {
    let old = copy.get(..20)?;
    let sum = old.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if !old.starts_with(b"RSD PTR ") || sum != 0 {
        return None;
    }
    let xsdt = copy
        .get(24..32)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes);
    let rsdt = u32::from_le_bytes(old[16..20].try_into().ok()?);
    let revision = old[15];
    if revision >= 2 && xsdt != 0 {
        Some(Root {
            rsdp: None,
            revision,
            table: xsdt,
        })
    } else {
        Some(Root {
            rsdp: None,
            revision: 0,
            table: rsdt.into(),
        })
    }
}

/// Whether the MADT's entries, each with a type and a length of at least 2, end where the table
/// ends.
pub(super) fn entries_are_sound(madt: &[u8]) -> bool {
    const FIRST_ENTRY: usize = 44;
    let Some(mut rest) = madt.get(FIRST_ENTRY..) else {
        return false;
    };
    while let [_, length, ..] = rest {
        let length = usize::from(*length);
        if length < 2 || length > rest.len() {
            return false;
        }
        rest = &rest[length..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsdp(revision: u8, rsdt: u32, xsdt: u64) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0OXEN   ".to_vec();
        bytes[15] = revision;
        bytes.extend(rsdt.to_le_bytes());
        bytes.extend(36u32.to_le_bytes());
        bytes.extend(xsdt.to_le_bytes());
        bytes.extend([0; 4]);
        let sum = bytes[..20]
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[8] = 0u8.wrapping_sub(sum);
        bytes
    }

    #[test]
    fn copies_of_the_rsdp() {
        let root = |revision, table| {
            Some(Root {
                rsdp: None,
                revision,
                table,
            })
        };
        assert_eq!(from_copy(&rsdp(0, 0x1000, 0x2000)), root(0, 0x1000));
        assert_eq!(from_copy(&rsdp(0, 0x1000, 0)[..20]), root(0, 0x1000));
        assert_eq!(from_copy(&rsdp(2, 0x1000, 0x2000)), root(2, 0x2000));
        assert_eq!(from_copy(&rsdp(2, 0x1000, 0)), root(0, 0x1000));
        let mut damaged = rsdp(2, 0x1000, 0x2000);
        damaged[17] ^= 1;
        assert_eq!(from_copy(&damaged), None);
        assert_eq!(from_copy(&damaged[..19]), None);
    }

    #[test]
    fn lengths_of_madt_entries() {
        let table = |entries: &[u8]| [&[0; 44], entries].concat();
        assert!(entries_are_sound(&table(&[])));
        assert!(entries_are_sound(&table(&[0, 8, 1, 1, 1, 0, 0, 0, 9, 2])));
        assert!(!entries_are_sound(&table(&[0, 0])), "would never end");
        assert!(!entries_are_sound(&table(&[0, 1, 0])));
        assert!(
            !entries_are_sound(&table(&[0, 8, 1])),
            "reaches beyond the table"
        );
        assert!(!entries_are_sound(&table(&[0])));
        assert!(!entries_are_sound(&[0; 40]));
    }
}
