//! Whole disks: file systems made by mke2fs, in every kind of partition table; cut off, damaged, hostile.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;
use xmgrub::Result;
use xmgrub::boot::{Loader, Plan};
use xmgrub::disk::Image;

const SECTOR: usize = 512;
const UUID: &str = "0a1b2c3d-1111-4222-8333-444455556666";
const KERNEL: &[u8] = b"a kernel";
const MENU: &str = "
set default=0
menuentry 'Linux' --id linux {
  search --no-floppy --fs-uuid --set=root 0a1b2c3d-1111-4222-8333-444455556666
  linux /vmlinuz root=/dev/xvda1 ro
  initrd /initrd.img
}
";

/// An ext4 file system of 4 MiB with what `fill` puts into its directory.
fn ext4(fill: impl FnOnce(&Path)) -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).expect("a directory");
    fill(&root);
    let image = scratch.path().join("image");
    let mut mke2fs = Command::new("/sbin/mke2fs");
    mke2fs.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-U",
        UUID,
        "-d",
    ]);
    let status = mke2fs.arg(&root).arg(&image).arg("4m").output();
    let status = status.expect("mke2fs (Debian: e2fsprogs)").status;
    assert!(status.success());
    std::fs::read(&image).expect("the image")
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, bytes).expect("a file");
}

/// A root file system as Debian's: links in / to files in /boot.
fn debian(root: &Path) {
    write(root, "boot/grub/grub.cfg", MENU.as_bytes());
    write(root, "boot/vmlinuz-6.1", KERNEL);
    write(root, "boot/initrd.img-6.1", &[0x5a; 70_000]);
    let link =
        |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).expect("a link");
    link("boot/vmlinuz-6.1", "vmlinuz");
    link("boot/initrd.img-6.1", "initrd.img");
}

/// A sector with a table of (kind, start, sectors), counted in sectors.
fn table(disk: &mut [u8], at: usize, entries: &[(u8, u32, u32)]) {
    let sector = &mut disk[at * SECTOR..][..SECTOR];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    for (entry, raw) in entries.iter().zip(sector[446..510].chunks_exact_mut(16)) {
        raw[4] = entry.0;
        raw[8..12].copy_from_slice(&entry.1.to_le_bytes());
        raw[12..].copy_from_slice(&entry.2.to_le_bytes());
    }
}

/// The file system in the second partition of an old table.
fn mbr(files: &[u8]) -> Vec<u8> {
    let sectors = (files.len() / SECTOR) as u32;
    let mut disk = vec![0; 4096 * SECTOR + files.len()];
    table(&mut disk, 0, &[(0x82, 2048, 2048), (0x83, 4096, sectors)]);
    disk[4096 * SECTOR..].copy_from_slice(files);
    disk
}

/// The file system in the second logical partition.
fn logical(files: &[u8]) -> Vec<u8> {
    let sectors = (files.len() / SECTOR) as u32;
    let mut disk = vec![0; 4096 * SECTOR + files.len()];
    table(&mut disk, 0, &[(0x05, 1024, sectors + 3072)]);
    table(
        &mut disk,
        1024,
        &[(0x83, 8, 64), (0x05, 2048, sectors + 1024)],
    );
    table(&mut disk, 1024 + 2048, &[(0x83, 1024, sectors)]);
    disk[4096 * SECTOR..].copy_from_slice(files);
    disk
}

/// The file system in the third entry of a GUID table, with blocks of the given size.
fn gpt(files: &[u8], size: gpt::disk::LogicalBlockSize) -> Vec<u8> {
    let block = u64::from(size);
    let blocks = (2 << 20) / block + files.len() as u64 / block;
    let disk = Cursor::new(vec![0; (blocks * block) as usize]);
    let config = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(size);
    let mut table = config.create_from_device(disk, None).expect("a disk");
    let partition = gpt::partition::Partition {
        part_type_guid: gpt::partition_types::LINUX_FS,
        part_guid: Default::default(),
        first_lba: (1 << 20) / block,
        last_lba: (1 << 20) / block + files.len() as u64 / block - 1,
        flags: 0,
        name: "root".to_owned(),
    };
    table
        .update_partitions(BTreeMap::from([(3, partition)]))
        .expect("a partition");
    let mut disk = table.write().expect("a table");
    let protective = gpt::mbr::ProtectiveMBR::with_lb_size(u32::MAX);
    protective
        .overwrite_lba0(&mut disk)
        .expect("a first sector");
    let mut bytes = disk.into_inner();
    bytes[1 << 20..][..files.len()].copy_from_slice(files);
    bytes
}

fn load(disk: Vec<u8>) -> Result<(Plan, Vec<u8>, u64)> {
    let loader = Loader::open(&Image::from_bytes(disk))?;
    let plan = loader.plan(None)?;
    let mut kernel = Vec::new();
    loader.copy(&plan.kernel, &mut kernel)?;
    let mut size = 0;
    for place in &plan.ramdisks {
        size += loader.copy(place, &mut std::io::sink())?;
    }
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

/// Bytes from a seed, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
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

fn ext4_without_checksums() -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let image = scratch.path().join("image");
    let mut file = std::fs::File::create(&image).expect("a file");
    file.write_all(&ext4(debian)).expect("an image");
    let tune = Command::new("/sbin/tune2fs")
        .args(["-O", "^metadata_csum"])
        .arg(&image)
        .output();
    assert!(tune.expect("tune2fs").status.success());
    std::fs::read(&image).expect("the image")
}
