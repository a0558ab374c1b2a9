//! Whole disks: file systems made by mke2fs, in every kind of partition table; cut off, damaged,
//! hostile.

mod common;

use common::*;
use xmgrub::Result;
use xmgrub::boot::{Loader, Plan};
use xmgrub::disk::Image;

fn load(disk: Vec<u8>) -> Result<(Plan, Vec<u8>, u64)> {
    let loader = Loader::open(&Image::from_bytes(disk))?;
    let plan = loader.plan(None)?;
    let mut kernel = Vec::new();
    loader.kernel(&plan, &mut kernel)?;
    let size = loader.ramdisks(&plan, &mut std::io::sink())?;
    let sizes = loader.sizes(&plan)?;
    assert_eq!((sizes.kernel, sizes.ramdisks), (kernel.len() as u64, size));
    Ok((plan, kernel, size))
}

#[test]
fn a_kernel_is_found_in_every_kind_of_table() {
    use gpt::disk::LogicalBlockSize::{Lb512, Lb4096};
    let files = ext4(debian);
    for (name, disk) in [
        ("none", files.clone()),
        ("old", mbr(&files)),
        ("logical", logical(&files)),
        ("guid", gpt(&files, Lb512)),
        ("guid with large blocks", gpt(&files, Lb4096)),
    ] {
        let (plan, kernel, ramdisk) = load(disk).expect(name);
        assert_eq!(plan.entry, "Linux", "{name}");
        assert_eq!(plan.arguments, "root=/dev/xvda1 ro", "{name}");
        assert_eq!((kernel.as_slice(), ramdisk), (KERNEL, 70_000), "{name}");
    }
}

#[test]
fn what_is_not_there_or_too_much_is_named() {
    let menu = |body: &str| {
        let text = format!("menuentry a {{ {body} }}");
        ext4(move |root| {
            write(root, "grub/grub.cfg", text.as_bytes());
            std::os::unix::fs::symlink("/loop", root.join("loop")).expect("a link");
            let hole = std::fs::File::create(root.join("hole")).expect("a file");
            hole.set_len(1 << 40).expect("a hole");
        })
    };
    for (disk, says) in [
        (vec![0; 1 << 20], "no ext2, ext3 or ext4"),
        (Vec::new(), "no ext2, ext3 or ext4"),
        (ext4(|_| ()), "no configuration of GRUB"),
        (menu("linux /nothing"), "/nothing: "),
        (menu("linux /grub"), "is a directory"),
        (menu("linux /loop"), "/loop: "),
        (menu("linux /hole"), "more than the"),
        (menu("linux (hd0,gpt7)/x"), "no such partition"),
        (menu("chainloader +1"), "boots by chainloader"),
        (menu("true"), "names no kernel"),
        (menu("linux 'x"), "a quote is not closed"),
    ] {
        let error = load(disk).expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn hostile_tables_end() {
    let files = ext4(debian);
    // A chain of logical partitions that bites its tail.
    let mut disk = logical(&files);
    table(&mut disk, 1024 + 2048, &[(0x83, 1, 8), (0x05, 0, 2048)]);
    assert!(load(disk).is_err());
    // Partitions beyond the end, and around the end of the numbers.
    let mut disk = mbr(&files);
    table(
        &mut disk,
        0,
        &[(0x83, u32::MAX, u32::MAX), (0x83, 8191, u32::MAX)],
    );
    assert!(load(disk).is_err());
    // A table of four thousand million entries whose checksum is right.
    let mut disk = gpt(&files, gpt::disk::LogicalBlockSize::Lb512);
    for (at, value) in [(80, u32::MAX), (84, 1), (84, 128)] {
        let header = &mut disk[SECTOR..][..92];
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        header[16..20].fill(0);
        let sum = crc32fast::hash(header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        let error = load(disk.clone()).expect_err("too many").to_string();
        assert!(error.contains("partition table is damaged"), "{error}");
    }
}

#[test]
fn an_image_may_be_cut_off_anywhere() {
    let disk = mbr(&ext4(debian));
    let mut length = disk.len();
    while length > 0 {
        length = length.saturating_sub(93_001);
        let _ = load(disk[..length].to_vec());
    }
    for length in 0..1200 {
        let _ = load(disk[..length].to_vec());
    }
}

#[test]
fn damage_does_no_harm() {
    // Without checksums, so that damage gets further than the first look.
    let files = ext4_without_checksums();
    let used: Vec<usize> = (0..files.len() / 1024)
        .filter(|block| files[block * 1024..][..1024].iter().any(|byte| *byte != 0))
        .collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut whole, rounds) = (0, 2000);
    for _ in 0..rounds {
        let mut damaged = files.clone();
        for _ in 0..1 + random.below(8) {
            let block = used[random.below(used.len())];
            let at = block * 1024 + random.below(1024);
            let value = [0, 0xff, 0x7f, 0x80, random.below(256) as u8][random.below(5)];
            let length = [1, 2, 4, 8][random.below(4)].min(files.len() - at);
            damaged[at..at + length].fill(value);
        }
        whole += u32::from(load(damaged).is_ok());
    }
    assert!(
        whole > 0 && whole < rounds,
        "{whole} of {rounds} could be read"
    );
}
