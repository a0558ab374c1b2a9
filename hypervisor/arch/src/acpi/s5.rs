//! The sleep types of `_S5` from the DSDT's bytes, without an AML interpreter.
//!
//! Firmware defines `Name (_S5, Package (n) { a, b, ... })` with constants: NameOp, "_S5_",
//! PackageOp, PkgLength, NumElements, elements (ACPI 6.5, 20.2). Anything else is not found.

const NAME_OP: u8 = 0x08;
const ROOT_CHAR: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const BYTE_PREFIX: u8 = 0x0a;

/// SLP_TYPa and SLP_TYPb. `aml` is the whole table or its body.
pub(super) fn find(aml: &[u8]) -> Option<(u8, u8)> {
    aml.windows(4)
        .enumerate()
        .filter(|(_, name)| name == b"_S5_")
        .find_map(|(at, _)| {
            let named = match *aml.get(at.checked_sub(1)?)? {
                NAME_OP => true,
                ROOT_CHAR => *aml.get(at.checked_sub(2)?)? == NAME_OP,
                _ => false,
            };
            if named {
                package(aml.get(at + 4..)?)
            } else {
                None
            }
        })
}

fn package(bytes: &[u8]) -> Option<(u8, u8)> {
    let rest = bytes.strip_prefix(&[PACKAGE_OP])?;
    let following = usize::from(*rest.first()? >> 6);
    let rest = rest.get(1 + following..)?;
    let (count, rest) = rest.split_first()?;
    if *count == 0 {
        return None;
    }
    let (a, rest) = constant(rest)?;
    let b = if *count > 1 { constant(rest)?.0 } else { a };
    (a < 8 && b < 8).then_some((a, b))
}

fn constant(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [BYTE_PREFIX, value, rest @ ..] | [value @ (0 | 1), rest @ ..] => Some((*value, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn forms_found_in_firmware() {
        // QEMU: Name (_S5, Package (4) { 0, 0, 0, 0 })
        assert_eq!(
            find(b"xx\x08_S5_\x12\x06\x04\x00\x00\x00\x00"),
            Some((0, 0))
        );
        // Byte constants and the root prefix
        assert_eq!(
            find(b"\x08\\_S5_\x12\x08\x04\x0a\x05\x0a\x07\x00\x00"),
            Some((5, 7))
        );
        // Two-byte package length
        assert_eq!(
            find(b"\x08_S5_\x12\x46\x00\x04\x01\x01\x00\x00"),
            Some((1, 1))
        );
        // A reference before the definition
        assert_eq!(
            find(b"\x10_S5_\x08_S5_\x12\x06\x02\x0a\x06\x01"),
            Some((6, 1))
        );
    }

    #[test]
    fn nothing_or_cut() {
        assert_eq!(find(b""), None);
        assert_eq!(find(b"_S5_"), None);
        let whole = b"\x08_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00";
        for length in 0..11 {
            assert_eq!(find(&whole[..length]), None, "{length}");
        }
        assert_eq!(find(b"\x08_S5_\x12\x06\x04\x0a\x09\x00"), None);
    }
}
