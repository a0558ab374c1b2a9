use super::*;

impl Bytes for Vec<u8> {
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let found = usize::try_from(at)
            .ok()
            .and_then(|at| self.get(at..at.checked_add(N)?));
        found
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or([0; N])
    }
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A superblock of so many 1 KiB blocks.
fn ext(disk: &mut [u8], at: usize, blocks: u32, journal: bool, mounted: bool) {
    let at = at + 1024;
    put(disk, at + 0x38, &[0x53, 0xef]);
    put(disk, at + 4, &blocks.to_le_bytes());
    put(disk, at + 0x5c, &[if journal { 4 } else { 0 }]);
    put(disk, at + 0x60, &[if journal && mounted { 4 } else { 0 }]);
    put(disk, at + 0x3a, &[if !journal && mounted { 0 } else { 1 }]);
    put(disk, at + 0x78, b"data");
}

#[test]
fn mounted_file_systems_are_seen() {
    for journal in [false, true] {
        let mut disk = vec![0; 4096];
        ext(&mut disk, 0, 4, journal, false);
        assert_eq!(in_use(&disk), None);
        ext(&mut disk, 0, 4, journal, true);
        let word = in_use(&disk).expect("mounted");
        assert!(word.contains("\"data\" is mounted"), "{word}");
    }
    assert_eq!(in_use(&vec![0xff; 4096]), None);
    assert_eq!(in_use(&Vec::new()), None);
}

#[test]
fn partitions_are_looked_into() {
    let mut disk = vec![0; 16 * 1024];
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(
        &mut disk,
        446 + 16,
        &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0, 0],
    );
    ext(&mut disk, 4096, 8, true, true);
    assert!(in_use(&disk).expect("mounted").contains("partition 2"));
    assert_eq!(needed(&disk), Some(24 * 512));

    let mut disk = vec![0; 32 * 1024];
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(&mut disk, 512, b"EFI PART");
    put(&mut disk, 512 + 72, &[2]);
    put(&mut disk, 512 + 80, &[4]);
    put(&mut disk, 512 + 84, &[128]);
    put(&mut disk, 1024, &[1; 16]);
    put(&mut disk, 1024 + 32, &[16]);
    put(&mut disk, 1024 + 40, &[31]);
    ext(&mut disk, 16 * 512, 8, true, true);
    assert!(in_use(&disk).expect("mounted").contains("partition 1"));
    assert_eq!(needed(&disk), Some(32 * 512));
}

#[test]
fn numbers_beyond_sense_do_no_harm() {
    let mut disk = vec![0xff; 8192];
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(&mut disk, 512, b"EFI PART");
    put(&mut disk, 1024 + 0x38, &[0x53, 0xef]);
    let _ = in_use(&disk);
    let _ = needed(&disk);
}

/// A disk with sectors of 4096 bytes.
struct Large(Vec<u8>);

impl Bytes for Large {
    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        self.0.bytes(at)
    }

    fn sector(&self) -> u64 {
        4096
    }
}

/// A GPT whose first partition has the sectors 8 to 15, with a file system mounted on it.
fn gpt(sector: usize) -> Vec<u8> {
    let mut disk = vec![0; 16 * sector];
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(&mut disk, sector, b"EFI PART");
    put(&mut disk, sector + 72, &[2]);
    put(&mut disk, sector + 80, &[4]);
    put(&mut disk, sector + 84, &[128]);
    put(&mut disk, 2 * sector, &[1; 16]);
    put(&mut disk, 2 * sector + 32, &[8]);
    put(&mut disk, 2 * sector + 40, &[15]);
    ext(&mut disk, 8 * sector, 4, true, true);
    disk
}

#[test]
fn disks_of_large_sectors_count_in_these() {
    for sector in [512, 4096] {
        // A file: the table's place shows what it was copied from.
        let disk = gpt(sector);
        assert!(
            in_use(&disk).expect("mounted").contains("partition 1"),
            "{sector}"
        );
        assert_eq!(needed(&disk), Some(16 * sector as u64));
    }
    assert!(
        in_use(&Large(gpt(4096)))
            .expect("mounted")
            .contains("partition 1")
    );
    let mut disk = vec![0; 16 * 4096];
    put(&mut disk, 510, &[0x55, 0xaa]);
    put(
        &mut disk,
        446,
        &[0, 0, 0, 0, 0x83, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0],
    );
    ext(&mut disk, 8 * 4096, 4, true, true);
    let disk = Large(disk);
    assert!(in_use(&disk).expect("mounted").contains("partition 1"));
    assert_eq!(needed(&disk), Some(16 * 4096));
}
