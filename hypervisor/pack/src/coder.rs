//! The arithmetic coder: an interval of 32 bits, of which each bit takes the part that its
//! probability has.

use crate::filter;
use crate::model::{Model, ONE};

/// The border between the parts of an interval for 1 and for 0. The probability is of a 1.
fn split(low: u32, high: u32, probability: u32) -> u32 {
    low + ((u64::from(high - low) * u64::from(probability)) / u64::from(ONE)) as u32
}

/// Unpacks `out.len()` bytes, of which the first `text` are code. `model` is all zeros at first.
///
/// Whatever the packed bytes are, some bytes come out: the caller compares a checksum.
pub fn unpack(model: &mut Model, packed: &[u8], text: usize, out: &mut [u8]) {
    let mut input = packed.iter().copied();
    let mut next = || u32::from(input.next().unwrap_or(0));
    let (mut low, mut high, mut value) = (0, u32::MAX, 0);
    for _ in 0..4 {
        value = value << 8 | next();
    }
    model.start(text);
    for at in 0..out.len() {
        let Some((before, [byte, ..])) = out.split_at_mut_checked(at) else {
            return;
        };
        model.byte(before);
        for _ in 0..8 {
            let middle = split(low, high, model.predict(before));
            let bit = value <= middle;
            if bit {
                high = middle;
            } else {
                low = middle + 1;
            }
            model.update(bit);
            while (low ^ high) >> 24 == 0 {
                (low, high) = (low << 8, high << 8 | 0xff);
                value = value << 8 | next();
            }
        }
        *byte = model.finished();
    }
    if let Some(code) = out.get_mut(..text) {
        filter::restore(code);
    }
}

/// Packs bytes of which the first `text` are code.
#[cfg(not(target_os = "none"))]
pub fn pack(plain: &[u8], text: usize) -> Vec<u8> {
    let mut plain = plain.to_vec();
    filter::apply(&mut plain[..text]);
    let mut model = bytemuck::zeroed_box::<Model>();
    let (mut low, mut high) = (0, u32::MAX);
    let mut packed = Vec::new();
    model.start(text);
    for (at, byte) in plain.iter().enumerate() {
        let before = &plain[..at];
        model.byte(before);
        for n in (0..8).rev() {
            let bit = byte >> n & 1 != 0;
            let middle = split(low, high, model.predict(before));
            if bit {
                high = middle;
            } else {
                low = middle + 1;
            }
            model.update(bit);
            while (low ^ high) >> 24 == 0 {
                packed.push((high >> 24) as u8);
                (low, high) = (low << 8, high << 8 | 0xff);
            }
        }
        assert_eq!(model.finished(), *byte);
    }
    packed.extend(high.to_be_bytes());
    packed
}
