//! Kernels made by hand, packed in every way, and spoilt in many.

use super::*;
use crate::testing::elf64;
use proptest::prelude::*;
use std::io::Write;

/// A bzImage around packed bytes.
fn bzimage(packed: &[u8]) -> Vec<u8> {
    let mut image = vec![0u8; 1024 + 64];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    image[0x248..0x24c].copy_from_slice(&64u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    image.extend(packed);
    image
}

fn with_length(mut packed: Vec<u8>, length: usize) -> Vec<u8> {
    packed.extend((length as u32).to_le_bytes());
    packed
}

/// Bytes that compress, with branches in them for the x86 filter.
fn body() -> Vec<u8> {
    (0..60_000u32)
        .flat_map(|i| {
            if i % 7 == 0 {
                [0xe8, i as u8, 1, 0]
            } else {
                (i / 3).to_le_bytes()
            }
        })
        .collect()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn bzip2(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(plain).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn xz_with_x86_filter(plain: &[u8]) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect("good options");
    encoder.write_all(plain).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn lzma(plain: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::LzmaOptions::with_preset(1);
    let mut encoder =
        lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).expect("good options");
    encoder.write_all(plain).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut file = vec![0x02, 0x21, 0x4c, 0x18];
    // Smaller blocks than lz4 makes, so that there are several.
    for part in plain.chunks(100_000) {
        let block = lz4_flex::block::compress(part);
        file.extend((block.len() as u32).to_le_bytes());
        file.extend(block);
    }
    file
}

fn lzo(plain: &[u8]) -> Vec<u8> {
    let mut file = b"\x89LZO\0\r\n\x1a\n".to_vec();
    file.extend([0x10, 0x30, 0x20, 0xa0, 0x09, 0x40, 1, 5]);
    file.extend(1u32.to_be_bytes()); // flags: a checksum for each block
    file.extend([0; 12]);
    file.push(3);
    file.extend(b"abc");
    file.extend([0; 4]);
    for part in plain.chunks(100_000) {
        let block = lzokay_native::compress(part).expect("it compresses");
        file.extend((part.len() as u32).to_be_bytes());
        file.extend((block.len() as u32).to_be_bytes());
        file.extend([0; 4]);
        file.extend(block);
    }
    file.extend([0; 4]);
    file
}

#[test]
fn a_kernel_says_how_long_a_command_line_it_takes() {
    let elf = elf64(&[0xf4; 64]);
    let most = |bytes: &[u8]| parse(bytes).expect("a kernel").max_command_line;
    assert_eq!(most(&elf), 2047);
    let mut image = bzimage(&gzip(&elf));
    assert_eq!(most(&image), 2047);
    image[0x238..0x23c].copy_from_slice(&255u32.to_le_bytes());
    assert_eq!(most(&image), 255);
}

#[test]
fn a_bare_elf_kernel() {
    let kernel = parse(&elf64(b"0123456789abcdef\xf4...")).expect("a kernel");
    assert_eq!(kernel.entry, (16 << 20) + 16);
    assert_eq!(kernel.extent(), (16 << 20, (16 << 20) + 20 + 8192));
    assert_eq!(
        kernel.bytes(&kernel.segments[0]),
        b"0123456789abcdef\xf4..."
    );
}

#[test]
fn every_compression_of_linux() {
    let image = elf64(&body());
    let plain = parse(&image).expect("the ELF image itself");
    let len = image.len();
    for (name, packed) in [
        ("gzip", gzip(&image)),
        ("bzip2", with_length(bzip2(&image), len)),
        ("xz", with_length(xz_with_x86_filter(&image), len)),
        ("lzma", with_length(lzma(&image), len)),
        ("zstd", with_length(zstd(&image), len)),
        ("lz4", with_length(lz4(&image), len)),
        ("lzo", with_length(lzo(&image), len)),
        ("none", image.clone()),
    ] {
        let kernel = parse(&bzimage(&packed)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(kernel, plain, "{name}");
        let cut = &packed[..packed.len() / 2];
        assert!(parse(&bzimage(cut)).is_err(), "{name} cut in half");
    }
}

#[test]
fn the_cause_is_told() {
    let image = elf64(&[0; 64]);
    let good = bzimage(&gzip(&image));
    let cause = |bytes: &[u8]| parse(bytes).expect_err("not a kernel").to_string();
    assert!(cause(b"#!/bin/sh\n").contains("neither a bzImage nor an ELF image"));
    assert!(cause(b"").contains("neither"));
    assert!(cause(&good[..good.len() - 100]).contains("truncated: it should have"));
    assert!(cause(&good[..0x20a]).contains("truncated"));
    assert!(cause(&image[..200]).contains("truncated"));
    let mut old = good.clone();
    old[0x206..0x208].copy_from_slice(&0x0204u16.to_le_bytes());
    assert!(cause(&old).contains("2.04"));
    let no_note = |mut image: Vec<u8>| {
        let at = image
            .windows(4)
            .position(|w| w == b"Xen\0")
            .expect("the note");
        image[at] = b'Y';
        image
    };
    assert!(cause(&no_note(image.clone())).contains("no Xen note"));
    assert!(cause(&no_note(image.clone())).contains("CONFIG_PVH"));
    assert!(cause(&bzimage(&gzip(&no_note(image)))).contains("no Xen note"));
    assert!(cause(&bzimage(&gzip(b"not ELF"))).contains("not an ELF image"));
    assert!(cause(&bzimage(b"????????")).contains("unknown way"));
}

/// Kernels come from guests' own disks too: what one costs dom0 is bounded by its size.
#[test]
fn a_kernel_that_wants_more_than_it_holds_is_refused() {
    let image = elf64(&[7; 700]);
    let packed = bzimage(&gzip(&image));
    assert!(parse_within(&packed, image.len()).is_ok());
    let error = parse_within(&packed, image.len() - 1).expect_err("too large");
    assert!(error.to_string().contains("are the most"), "{error}");
    // The same segment of 3 GiB twice, and the same of a page many times.
    let program = |count: u16, size: u64| {
        let mut image = image.clone();
        image.resize(image.len().next_multiple_of(8), 0);
        let first = image[64..64 + 56].to_vec();
        let table = image.len() as u64;
        for _ in 0..count {
            image.extend_from_slice(&first);
            let size_at = image.len() - 16;
            image[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
        }
        image[32..40].copy_from_slice(&table.to_le_bytes());
        image[56..58].copy_from_slice(&count.to_le_bytes());
        parse(&image).expect_err("refused").to_string()
    };
    assert!(program(2, 3 << 30).contains("larger than the space"));
    assert!(program(u16::MAX - 1, 4096).contains("program headers"));
}

#[test]
fn a_missing_file_names_its_key() {
    let error = read_file(Path::new("/nonexistent/vmlinuz"), "kernel").expect_err("no such file");
    assert!(
        error
            .to_string()
            .contains("cannot read the kernel /nonexistent/vmlinuz")
    );
    assert!(
        read_file(Path::new("/"), "ramdisk")
            .expect_err("a directory")
            .to_string()
            .contains("not a file")
    );
}

/// Debian's own kernel, where there is one at hand.
#[test]
fn the_stock_kernel_if_there_is_one() {
    let Some(path) = std::env::var_os("OXEN_TEST_KERNEL") else {
        return;
    };
    let bytes = read_file(Path::new(&path), "kernel").expect("the file");
    let kernel = parse(&bytes).expect("a PVH kernel");
    assert_eq!(kernel.extent().0, 16 << 20);
    assert!(kernel.extent().1 > 32 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_damage_panics(at in 0usize..1500, value: u8, cut in 0usize..2000, format in 0..6) {
        let image = elf64(&[7; 700]);
        let packed = match format {
            0 => gzip(&image),
            1 => with_length(lz4(&image), image.len()),
            2 => with_length(lzo(&image), image.len()),
            3 => with_length(xz_with_x86_filter(&image), image.len()),
            4 => with_length(zstd(&image), image.len()),
            _ => image,
        };
        let mut file = bzimage(&packed);
        if let Some(byte) = file.get_mut(at) {
            *byte = value;
        }
        file.truncate(cut);
        let _ = parse(&file);
    }
}
