//! Images made by hand, and spoilt in many ways.

use std::io::{Read, Write};

use lzma_rust2::{CheckType, FilterType, XzOptions, XzReader, XzWriter};
use proptest::prelude::*;

use super::*;

/// A bzImage around its payload.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0u8; 1024 + 64];
    image[SETUP_SECTS] = 1;
    image[HEADER..HEADER + 4].copy_from_slice(b"HdrS");
    image[VERSION..VERSION + 2].copy_from_slice(&0x020fu16.to_le_bytes());
    image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&64u32.to_le_bytes());
    image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
        .copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend(payload);
    image
}

fn with_length(mut packed: Vec<u8>, length: usize) -> Vec<u8> {
    packed.extend((length as u32).to_le_bytes());
    packed
}

/// Bytes that compress, with branches in them for the x86 filter.
fn body() -> Vec<u8> {
    let words = (0..60_000u32).map(|i| match i % 7 {
        0 => [0xe8, i as u8, 1, 0],
        _ => (i / 3).to_le_bytes(),
    });
    words.flatten().collect()
}

fn xz(plain: &[u8], check: CheckType, block: Option<u64>) -> Vec<u8> {
    let mut options = XzOptions::with_preset(1);
    options.prepend_pre_filter(FilterType::BcjX86, 0);
    options.check_type = check;
    options.set_block_size(block.and_then(std::num::NonZeroU64::new));
    let mut encoder = XzWriter::new(Vec::new(), options).expect("good options");
    encoder.write_all(plain).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// The kernel's ELF file, in a room that is just large enough.
fn unpack(image: &[u8]) -> Result<Vec<u8>, ImageError> {
    let image = Image::open(image)?;
    let mut room = vec![0xa5; image.room()];
    image.unpack(&mut room).map(<[u8]>::to_vec)
}

fn cause(image: &[u8]) -> String {
    unpack(image).expect_err("a bad image").to_string()
}

#[test]
fn each_form_of_a_kernel() {
    let elf = [ELF, &[7; 200]].concat();
    assert_eq!(unpack(&elf).unwrap(), elf);
    assert_eq!(unpack(&bzimage(&elf)).unwrap(), elf);
    let body = body();
    for check in [CheckType::Crc32, CheckType::None] {
        for block in [None, Some(50_000)] {
            let packed = with_length(xz(&body, check, block), body.len());
            assert!(unpack(&bzimage(&packed)).unwrap() == body);
        }
    }
}

/// Linux' own decoder, in the same image, refuses them too.
#[test]
fn other_checks_and_filters_are_named() {
    let body = body();
    for (check, id) in [(CheckType::Crc64, 4), (CheckType::Sha256, 10)] {
        let packed = with_length(xz(&body, check, None), body.len());
        assert!(cause(&bzimage(&packed)).contains(&format!("check {id} ")));
    }
    let mut options = XzOptions::with_preset(1);
    options.check_type = CheckType::Crc32;
    options.prepend_pre_filter(FilterType::BcjArm, 0);
    let mut encoder = XzWriter::new(Vec::new(), options).expect("good options");
    encoder.write_all(&body).expect("writing to memory");
    let packed = encoder.finish().expect("writing to memory");
    assert!(cause(&bzimage(&with_length(packed, body.len()))).contains("filter 0x7 "));
}

#[test]
fn a_room_that_is_too_small_is_an_error() {
    let body = body();
    let packed = with_length(xz(&body, CheckType::Crc32, None), body.len());
    let image = bzimage(&packed);
    let open = || Image::open(&image).unwrap();
    assert_eq!(open().room(), body.len());
    let mut room = vec![0; body.len() + 10];
    assert!(open().unpack(&mut room[..body.len() - 1]).is_err());
    assert!(open().unpack(&mut room).unwrap() == body);
}

#[test]
fn the_cause_is_told() {
    let body = body();
    let packed = xz(&body, CheckType::Crc32, None);
    let image = |packed: &[u8], length| bzimage(&with_length(packed.to_vec(), length));
    let good = image(&packed, body.len());
    assert!(cause(b"#!/bin/sh\n").contains("neither"));
    assert!(cause(&[]).contains("neither"));
    assert!(cause(&good[..good.len() - 100]).contains("truncated"));
    assert!(cause(&good[..0x20a]).contains("truncated"));
    assert!(cause(&image(&packed, LARGEST + 1)).contains("truncated"));
    assert!(cause(&image(&packed, body.len() - 1)).contains("larger than it says"));
    assert!(cause(&image(&packed, body.len() + 1)).contains("corrupt"));
    assert!(cause(&image(&packed[..packed.len() / 2], body.len())).contains("corrupt"));
    assert!(cause(&bzimage(b"\x1f\x8b\x08\0")).contains("[1f, 8b, 08, 00]"));
    assert!(cause(&bzimage(b"\x1f\x8b")).contains("truncated"));
    // The check stands before the index and the footer.
    let mut spoilt = packed.clone();
    let check = spoilt.len() - 12 - 12 - 4;
    spoilt[check..check + 4]
        .iter_mut()
        .for_each(|byte| *byte ^= 1);
    assert!(cause(&image(&spoilt, body.len())).contains("checksum"));
}

/// Debian's own kernel. (The system tests boot it.)
#[test]
#[ignore = "needs a kernel's path in OXEN_TEST_KERNEL"]
fn the_stock_kernel() {
    let path = std::env::var_os("OXEN_TEST_KERNEL").expect("OXEN_TEST_KERNEL");
    let image = std::fs::read(path).expect("the file");
    assert!(unpack(&image).expect("a kernel").starts_with(ELF));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_damage_panics_or_passes(
        damage in prop::collection::vec((1088usize..1500, any::<u8>()), 0..4),
        cut in 0usize..2000,
    ) {
        let body = &body()[..2000];
        let mut image = bzimage(&with_length(xz(body, CheckType::Crc32, None), body.len()));
        for (at, value) in damage {
            if let Some(byte) = image.get_mut(at) {
                *byte = value;
            }
        }
        image.truncate(cut);
        if let Ok(unpacked) = unpack(&image) {
            prop_assert!(unpacked == body);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// lzma-rust2's reader is the judge, of whole streams and of damaged ones. It also reads the
    /// index and the footer, so it may refuse more.
    #[test]
    fn each_stream_is_what_another_reader_says(
        plain in prop::collection::vec(prop_oneof![Just(0xe8u8), Just(0), any::<u8>()], 1..9000),
        filter in any::<bool>(),
        check in prop::sample::select(&[CheckType::Crc32, CheckType::None][..]),
        block in prop::option::of(5000u64..6000),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut options = XzOptions::with_preset(0);
        if filter {
            options.prepend_pre_filter(FilterType::BcjX86, 0);
        }
        options.check_type = check;
        options.set_block_size(block.and_then(std::num::NonZeroU64::new));
        let mut encoder = XzWriter::new(Vec::new(), options).expect("good options");
        encoder.write_all(&plain).expect("writing to memory");
        let mut packed = encoder.finish().expect("writing to memory");
        if let Some((at, value)) = damage {
            let at = at.index(packed.len());
            packed[at] = value;
        }
        let mut judged = vec![0; plain.len()];
        let mut reader = XzReader::new(&packed[..], false);
        let judge = reader
            .read_exact(&mut judged)
            .and_then(|()| reader.read(&mut [0]));
        let mut ours = vec![0; plain.len()];
        let result = crate::xz::unpack(&packed, &mut ours);
        if matches!(judge, Ok(0)) {
            prop_assert_eq!(result, Ok(()));
            prop_assert!(ours == judged);
        } else if result.is_ok() && check == CheckType::Crc32 {
            prop_assert!(ours == plain);
        }
    }
}
