//! Names of virtual disks and their numbers (docs/man/xen-vbd-interface.7): `xvda1` is 51713.

/// Largest number: beyond, the interface has none.
const LAST: u32 = (2 << 28) - 1;

/// The usual spelling of a device: `d0`, `0xca00` and `51712` are `xvda`. A number without a name
/// stays a number.
#[must_use]
pub fn usual(text: &str) -> Option<String> {
    number(text).or_else(|| by_place(text)).map(name)
}

/// `d1p2`: the second partition of the second disk, whatever its kind.
fn by_place(text: &str) -> Option<u32> {
    let rest = text.strip_prefix('d')?;
    let (disk, partition) = rest.split_once('p').unwrap_or((rest, "0"));
    match (digits(disk)?, digits(partition)?) {
        (disk @ 0..16, partition @ 0..16) => Some(202 << 8 | disk << 4 | partition),
        (disk @ 0..0x10_0000, partition @ 0..256) => Some(1 << 28 | disk << 8 | partition),
        _ => None,
    }
}

/// A number as the interface spells it: decimal, or hexadecimal behind 0x.
fn digits(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (body, radix) = hex.map_or((text, 10), |hex| (hex, 16));
    let plain = body.bytes().all(|c| c.is_ascii_hexdigit());
    u32::from_str_radix(body, radix).ok().filter(|_| plain)
}

/// The number of a name or of a number as text; None if it is neither, or has no number.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return digits(name).filter(|number| (1..=LAST).contains(number));
    }
    let (kind, rest) = name.split_at_checked(name.len().min(3))?;
    if kind == "xvd" {
        let (disk, partition) = split(rest)?;
        return match (disk, partition) {
            (0..16, 0..16) => Some(202 << 8 | disk << 4 | partition),
            (0..0x10_0000, 0..256) => Some(1 << 28 | disk << 8 | partition),
            _ => None,
        };
    }
    let (disk, partition) = split(name.get(2..)?)?;
    match (name.get(..2)?, disk, partition) {
        ("hd", 0..4, 0..64) => {
            let major = if disk < 2 { 3 } else { 22 };
            Some(major << 8 | (disk & 1) << 6 | partition)
        }
        ("sd", 0..16, 0..16) => Some(8 << 8 | disk << 4 | partition),
        _ => None,
    }
}

/// The name of a number, or the number as text if it is of no known kind.
#[must_use]
pub fn name(number: u32) -> String {
    let (kind, disk, partition) = match (number >> 28, number >> 8) {
        (1, _) => ("xvd", number >> 8 & 0xf_ffff, number & 0xff),
        (0, 202) => ("xvd", number >> 4 & 15, number & 15),
        (0, 8) => ("sd", number >> 4 & 15, number & 15),
        (0, 3) => ("hd", number >> 6 & 1, number & 63),
        (0, 22) => ("hd", 2 + (number >> 6 & 1), number & 63),
        _ => return number.to_string(),
    };
    let mut letters = Vec::new();
    let mut rest = disk + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(b"abcdefghijklmnopqrstuvwxyz"[(rest % 26) as usize] as char);
        rest /= 26;
    }
    let letters: String = letters.into_iter().rev().collect();
    if partition == 0 {
        format!("{kind}{letters}")
    } else {
        format!("{kind}{letters}{partition}")
    }
}

/// `b3` is disk 1, partition 3; `aa` is disk 26.
fn split(text: &str) -> Option<(u32, u32)> {
    let letters = text.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || letters.len() > 4 || !letters.bytes().all(|c| c.is_ascii_lowercase()) {
        return None;
    }
    let disk = letters
        .bytes()
        .fold(0, |disk, c| disk * 26 + u32::from(c - b'a') + 1);
    let digits = &text[letters.len()..];
    let partition = match digits {
        "" => 0,
        _ if digits.starts_with('0') => return None,
        _ => digits.parse().ok()?,
    };
    Some((disk - 1, partition))
}

#[cfg(test)]
mod tests;
