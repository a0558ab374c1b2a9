//! Disks for tests: file systems made by mke2fs, in every kind of partition table.
#![allow(dead_code, reason = "no test program uses all of it")]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

pub const SECTOR: usize = 512;
pub const UUID: &str = "0a1b2c3d-1111-4222-8333-444455556666";
pub const KERNEL: &[u8] = b"a kernel";
pub const MENU: &str = "
set default=0
menuentry 'Linux' --id linux {
  search --no-floppy --fs-uuid --set=root 0a1b2c3d-1111-4222-8333-444455556666
  linux /vmlinuz root=/dev/xvda1 ro
  initrd /initrd.img
}
";

/// An ext4 file system of 4 MiB with what `fill` puts into its directory.
pub fn ext4(fill: impl FnOnce(&Path)) -> Vec<u8> {
    ext4_of("4m", fill)
}

/// An ext4 file system of that size with what `fill` puts into its directory.
pub fn ext4_of(size: &str, fill: impl FnOnce(&Path)) -> Vec<u8> {
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
    let status = mke2fs.arg(&root).arg(&image).arg(size).output();
    let status = status.expect("mke2fs (Debian: e2fsprogs)").status;
    assert!(status.success());
    std::fs::read(&image).expect("the image")
}

pub fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, bytes).expect("a file");
}

/// A root file system as Debian's: links in / to files in /boot.
pub fn debian(root: &Path) {
    write(root, "boot/grub/grub.cfg", MENU.as_bytes());
    write(root, "boot/vmlinuz-6.1", KERNEL);
    write(root, "boot/initrd.img-6.1", &[0x5a; 70_000]);
    let link =
        |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).expect("a link");
    link("boot/vmlinuz-6.1", "vmlinuz");
    link("boot/initrd.img-6.1", "initrd.img");
}

/// A sector with a table of (kind, start, sectors), counted in sectors.
pub fn table(disk: &mut [u8], at: usize, entries: &[(u8, u32, u32)]) {
    let sector = &mut disk[at * SECTOR..][..SECTOR];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    for (entry, raw) in entries.iter().zip(sector[446..510].chunks_exact_mut(16)) {
        raw[4] = entry.0;
        raw[8..12].copy_from_slice(&entry.1.to_le_bytes());
        raw[12..].copy_from_slice(&entry.2.to_le_bytes());
    }
}

/// The file system in the second partition of an old table.
pub fn mbr(files: &[u8]) -> Vec<u8> {
    let sectors = (files.len() / SECTOR) as u32;
    let mut disk = vec![0; 4096 * SECTOR + files.len()];
    table(&mut disk, 0, &[(0x82, 2048, 2048), (0x83, 4096, sectors)]);
    disk[4096 * SECTOR..].copy_from_slice(files);
    disk
}

/// The file system in the second logical partition.
pub fn logical(files: &[u8]) -> Vec<u8> {
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
pub fn gpt(files: &[u8], size: gpt::disk::LogicalBlockSize) -> Vec<u8> {
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

pub fn ext4_without_checksums() -> Vec<u8> {
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

/// Bytes from a seed, the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
