use super::*;
use oxen_types::Maddr;

/// Physical memory of the test: one block at `BASE`.
const BASE: u64 = 0x10000;

fn reader<'a>(memory: &'a [u8]) -> impl Fn(u64, usize) -> Option<&'a [u8]> {
    move |address, length| {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        memory.get(start..start.checked_add(length)?)
    }
}

fn mb2(tags: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut block = vec![0; 8];
    for (kind, body) in tags {
        block.extend(kind.to_le_bytes());
        block.extend((body.len() as u32 + 8).to_le_bytes());
        block.extend(body);
        block.resize(block.len().next_multiple_of(8), 0);
    }
    block.extend([0, 0, 0, 0, 8, 0, 0, 0]);
    let size = block.len() as u32;
    block[..4].copy_from_slice(&size.to_le_bytes());
    block
}

fn mmap_tag(entries: &[(u64, u64, u32)]) -> (u32, Vec<u8>) {
    let mut body = vec![24, 0, 0, 0, 0, 0, 0, 0];
    for (start, length, kind) in entries {
        body.extend(start.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(kind.to_le_bytes());
        body.extend([0; 4]);
    }
    (6, body)
}

fn parse_mb2(block: &[u8]) -> Result<BootInfo, ParseError> {
    parse(MAGIC_MB2, BASE as u32, &reader(block))
}

#[test]
fn multiboot2_all_tags() {
    let mut module = vec![];
    module.extend(0x40_0000u32.to_le_bytes());
    module.extend(0x40_1000u32.to_le_bytes());
    module.extend(b"root=/dev/sda1 quiet\0");
    let block = mb2(&[
        (1, b"loglvl=all noreboot\0".to_vec()),
        (2, b"GRUB 2.06\0".to_vec()),
        (3, module),
        mmap_tag(&[
            (0x10_0000, 0x3ff0_0000, 1),
            (0, 0x9fc00, 1),
            (0xf0000, 0x10000, 2),
        ]),
        (14, b"RSD PTR 000000000000".to_vec()),
        (15, b"RSD PTR new0000000000000000000000000".to_vec()),
        (99, vec![1, 2, 3]),
    ]);
    let info = parse_mb2(&block).unwrap();
    assert_eq!(info.cmdline, "loglvl=all noreboot");
    assert_eq!(info.loader, "GRUB 2.06");
    assert_eq!(info.modules[0].cmdline, "root=/dev/sda1 quiet");
    assert_eq!(info.modules[0].start, Maddr::new(0x40_0000));
    assert_eq!(info.memory.len(), 3);
    assert_eq!(info.memory[0].end, Maddr::new(0x9fc00));
    assert_eq!(info.memory[1].kind, MemoryKind::Reserved);
    assert_eq!(&info.rsdp_copy.unwrap()[8..11], b"new");
}

#[test]
fn multiboot2_takes_the_efi_map_if_alone() {
    let mut body = vec![48, 0, 0, 0, 1, 0, 0, 0];
    for (kind, start, pages) in [
        (7u32, 0x10_0000u64, 16u64),
        (9, 0x20_0000, 1),
        (11, 0x30_0000, 1),
    ] {
        body.extend(kind.to_le_bytes());
        body.extend([0; 4]);
        body.extend(start.to_le_bytes());
        body.extend([0; 8]);
        body.extend(pages.to_le_bytes());
        body.extend([0; 16]);
    }
    let info = parse_mb2(&mb2(&[(17, body)])).unwrap();
    let kinds: Vec<_> = info.memory.iter().map(|range| range.kind).collect();
    assert_eq!(
        kinds,
        [
            MemoryKind::Ram,
            MemoryKind::AcpiReclaim,
            MemoryKind::Reserved
        ]
    );
    assert_eq!(info.memory[0].end, Maddr::new(0x11_0000));
}

#[test]
fn multiboot2_cut_anywhere_is_an_error_or_less_but_no_panic() {
    let block = mb2(&[(1, b"x\0".to_vec()), mmap_tag(&[(0, 0x1000, 1)])]);
    for length in 0..block.len() {
        assert!(parse_mb2(&block[..length]).is_err());
        // The same with a size that fits the cut: tags reach out of the block.
        let mut cut = block[..length].to_vec();
        if length >= 4 {
            cut[..4].copy_from_slice(&(length as u32).to_le_bytes());
            let _ = parse_mb2(&cut);
        }
    }
    let mut zero_length_tag = mb2(&[(1, vec![])]);
    zero_length_tag[12..16].copy_from_slice(&0u32.to_le_bytes());
    assert_eq!(
        parse_mb2(&zero_length_tag).unwrap_err(),
        ParseError::Malformed("tag length")
    );
}

#[test]
fn no_memory_map_is_an_error() {
    assert_eq!(parse_mb2(&mb2(&[])).unwrap_err(), ParseError::NoMemoryMap);
    let result = parse(7, BASE as u32, &reader(&[]));
    assert_eq!(result.unwrap_err(), ParseError::Magic(7));
}

/// A server's firmware names hundreds of ranges, and an installer's command line is long.
#[test]
fn what_the_loader_says_is_kept_whatever_its_length() {
    let ranges: Vec<_> = (0..3000).map(|n| (n << 21, 1 << 20, 1)).collect();
    let line = format!("loglvl=all {}", "x".repeat(5000));
    let mut tags = vec![(1, line.clone().into_bytes()), mmap_tag(&ranges)];
    for n in 0..40u32 {
        let mut module = (n << 12).to_le_bytes().to_vec();
        module.extend(((n + 1) << 12).to_le_bytes());
        module.extend(line.as_bytes());
        tags.push((3, module));
    }
    tags.push((2, b"GRUB 2.06\0".to_vec()));
    let info = parse_mb2(&mb2(&tags)).unwrap();
    assert_eq!((info.memory.len(), info.modules.len()), (3000, 40));
    assert_eq!(info.cmdline, line);
    assert!(info.modules.iter().all(|module| module.cmdline == line));
}

/// info at 0, module table at 128, map at 160, strings from 256 on.
fn mb1() -> Vec<u8> {
    let mut memory = vec![0u8; 4096];
    let mut put = |at: usize, value: u32| memory[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let base = BASE as u32;
    put(0, 0x24c);
    put(16, base + 256);
    put(20, 1);
    put(24, base + 128);
    put(44, 2 * 24);
    put(48, base + 160);
    put(64, base + 320);
    put(128, 0x80_0000);
    put(132, 0x90_0000);
    put(136, base + 384);
    for (at, start, kind) in [(160, 0x10_0000u32, 1), (184, 0, 1)] {
        put(at, 20);
        put(at + 4, start);
        put(at + 12, 0x1000);
        put(at + 20, kind);
    }
    memory[256..256 + 20].copy_from_slice(b"oxen.elf loglvl=all\0");
    memory[320..325].copy_from_slice(b"qemu\0");
    memory[384..400].copy_from_slice(b"bzImage ro quiet");
    memory
}

#[test]
fn multiboot1_from_qemu() {
    let memory = mb1();
    let info = parse(MAGIC_MB1, BASE as u32, &reader(&memory)).unwrap();
    assert_eq!(info.cmdline, "loglvl=all");
    assert_eq!(info.modules[0].cmdline, "ro quiet");
    assert_eq!(info.memory.len(), 2);
    assert_eq!(info.memory[1].start, Maddr::new(0x10_0000));
}

#[test]
fn grub2_puts_no_name_before_the_line() {
    let mut memory = mb1();
    memory[320..331].copy_from_slice(b"GRUB 2.06\0\0");
    memory[384..403].copy_from_slice(b"placeholder quiet x");
    let info = parse(MAGIC_MB1, BASE as u32, &reader(&memory)).unwrap();
    assert_eq!(info.cmdline, "oxen.elf loglvl=all");
    assert_eq!(info.modules[0].cmdline, "quiet x");
}

#[test]
fn multiboot1_with_wild_pointers() {
    for field in [24usize, 48] {
        let mut memory = mb1();
        memory[field..field + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(parse(MAGIC_MB1, BASE as u32, &reader(&memory)).is_err());
    }
}

/// BOOT-1: GRUB clears CR4.PAE only, so firmware in 5-level mode leaves LA57 on, and the entry
/// code's tables have four levels. Entry and start-up code load CR4 with PAE alone, before they
/// switch paging on.
#[test]
fn nothing_of_the_loaders_cr4_is_kept() {
    for code in [include_str!("entry.s"), include_str!("../smp/trampoline.s")] {
        let lines: Vec<_> = code
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim().replace('%', ""))
            .filter(|line| !line.is_empty())
            .collect();
        let writes = |line: &&String| matches!(line.as_str(), "mov cr4, eax" | "movl eax, cr4");
        let at = lines.iter().position(|line| writes(&line)).unwrap();
        assert_eq!(lines.iter().filter(writes).count(), 1);
        let value = lines[at - 1].replace('$', "");
        assert!(
            value == "mov eax, 0x20" || value == "movl 0x20, eax",
            "CR4 is loaded after {value:?}"
        );
        let paging = lines.iter().position(|line| line.contains("0x80010011"));
        assert!(paging.is_some_and(|paging| paging > at));
    }
}
