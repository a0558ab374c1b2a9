//! The round trip of bytes and of code.

use bytemuck::zeroed_box;
use proptest::prelude::*;

use crate::{Model, crc32, filter, pack, unpack};

fn back(packed: &[u8], text: usize, size: usize) -> Vec<u8> {
    let mut out = vec![0; size];
    unpack(&mut zeroed_box::<Model>(), packed, text, &mut out);
    out
}

/// Functions that call one another, with a table of their addresses behind them.
fn image(functions: u32) -> (Vec<u8>, usize) {
    let mut code = Vec::new();
    for n in 0..functions {
        let target = n * 7 % functions * 18;
        code.extend([0x55, 0x48, 0x89, 0xe5, 0xe8]);
        code.extend(target.wrapping_sub(code.len() as u32 + 4).to_le_bytes());
        code.extend([0x48, 0x8b, 0x05]);
        code.extend(0x9000u32.wrapping_sub(code.len() as u32 + 4).to_le_bytes());
        code.extend([0x5d, 0xc3]);
    }
    let text = code.len();
    for n in 0..functions {
        code.extend((0xffff_82d0_8020_0000 + u64::from(n) * 18).to_le_bytes());
    }
    (code, text)
}

#[test]
fn code_becomes_small_and_comes_back() {
    let (plain, text) = image(700);
    let packed = pack(&plain, text);
    assert!(packed.len() * 10 < plain.len(), "{}", packed.len());
    assert!(back(&packed, text, plain.len()) == plain);
}

#[test]
fn an_operand_that_is_a_distance_becomes_an_address() {
    let mut code = [0x90, 0xe8, 0xf5, 0xff, 0xff, 0xff, 0x8b, 0x0d, 0, 1, 0, 0];
    let plain = code;
    filter::apply(&mut code);
    assert_eq!(code[2..6], 0xffff_fffbu32.to_be_bytes());
    assert_eq!(code[8..], 0x10cu32.to_be_bytes());
    filter::restore(&mut code);
    assert_eq!(code, plain);
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b""), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_bytes_come_back(
        plain in prop::collection::vec(prop_oneof![Just(0xe8u8), Just(0x48), any::<u8>()], 0..1500),
        text in any::<prop::sample::Index>(),
    ) {
        let text = text.index(plain.len() + 1);
        let packed = pack(&plain, text);
        prop_assert!(back(&packed, text, plain.len()) == plain);
    }

    /// The first stage compares a checksum; until then anything may come out.
    #[test]
    fn no_bytes_stop_the_unpacking(packed in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(back(&packed, 200, 400).len(), 400);
    }
}
