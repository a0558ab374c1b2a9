//! As much of AML (ACPI 6.3, chapter 20) as it takes to declare processors.

const SCOPE: u8 = 0x10;
const NAME: u8 = 0x08;
const EXTENDED: u8 = 0x5b;
const DEVICE: u8 = 0x82;
const STRING: u8 = 0x0d;
const BYTE: u8 = 0x0a;

/// `Scope(\_SB) { Device(C000) { _HID "ACPI0007", _UID 0 } ... }`
pub(super) fn processors(count: u32) -> Vec<u8> {
    let mut inside = b"\\_SB_".to_vec();
    for cpu in 0..count {
        inside.extend(processor(cpu as u8));
    }
    block(&[SCOPE], &inside)
}

fn processor(cpu: u8) -> Vec<u8> {
    let mut inside = format!("C{cpu:03X}").into_bytes();
    inside.push(NAME);
    inside.extend_from_slice(b"_HID");
    inside.push(STRING);
    inside.extend_from_slice(b"ACPI0007\0");
    inside.push(NAME);
    inside.extend_from_slice(b"_UID");
    inside.extend([BYTE, cpu]);
    block(&[EXTENDED, DEVICE], &inside)
}

/// An operation with its package length, which counts itself.
fn block(operation: &[u8], inside: &[u8]) -> Vec<u8> {
    let mut bytes = operation.to_vec();
    bytes.extend(package_length(inside.len()));
    bytes.extend_from_slice(inside);
    bytes
}

fn package_length(inside: usize) -> Vec<u8> {
    let one = inside + 1;
    if one < 0x40 {
        return vec![one as u8];
    }
    // Four bits in the first byte, eight in each that follows.
    let extra = if inside + 2 < 1 << 12 { 1 } else { 2 };
    let total = inside + 1 + extra;
    let mut bytes = vec![(extra << 6) as u8 | (total & 0xf) as u8, (total >> 4) as u8];
    if extra == 2 {
        bytes.push((total >> 12) as u8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_lengths_of_each_size() {
        assert_eq!(package_length(10), [11]);
        assert_eq!(package_length(62), [63]);
        // 63 + 2 = 65 = 0x41.
        assert_eq!(package_length(63), [0x41, 0x04]);
        // 4000 + 2 = 0xfa2.
        assert_eq!(package_length(4000), [0x42, 0xfa]);
        // 5000 + 3 = 0x138b.
        assert_eq!(package_length(5000), [0x8b, 0x38, 0x01]);
    }

    #[test]
    fn one_processor_byte_by_byte() {
        let wanted = b"\x10\x23\\_SB_\x5b\x82\x1bC000\x08_HID\x0dACPI0007\0\x08_UID\x0a\x00";
        assert_eq!(processors(1), wanted);
    }
}
