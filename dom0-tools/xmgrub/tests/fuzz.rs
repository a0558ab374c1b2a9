//! Disks and menus from a seed: good disks with tables, file systems and menus damaged. A few in
//! the default run, as many as there is time for by `soak_fuzz` (`OXEN_SEED`, `OXEN_FUZZ_SECONDS`).

mod common;

use common::*;
use oxen_fuzz::{Seed, Soak};
use std::io::Write;
use std::time::{Duration, Instant};
use xmgrub::Result;
use xmgrub::boot::{Loader, MAX_KERNEL, MAX_RAMDISKS};
use xmgrub::disk::Image;
use xmgrub::grub::{self, Files, Search};

/// No disk takes longer, on a machine that does much else. `main` ends its process after a minute.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts of a run.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    images: u64,
    booted: u64,
    scripts: u64,
}

/// Good disks, with the blocks of each that hold something.
struct Base(Vec<(Vec<u8>, Vec<usize>)>);

const BLOCK: usize = 512;

impl Base {
    fn new() -> Self {
        use gpt::disk::LogicalBlockSize::{Lb512, Lb4096};
        let plain = ext4_without_checksums();
        let disks = [
            plain.clone(),
            mbr(&plain),
            logical(&plain),
            gpt(&plain, Lb512),
            gpt(&plain, Lb4096),
            ext4(debian),
            ext4_of("16m", |root| {
                debian(root);
                let hole = std::fs::File::create(root.join("hole")).expect("a file");
                hole.set_len(40 << 20).expect("a hole");
                // More than all may have together.
                let holes = " /hole".repeat(8);
                let menu = format!(
                    "{MENU}\nset default=1\nmenuentry b {{\nlinux /vmlinuz\ninitrd{holes}\n}}\n"
                );
                write(root, "boot/grub/grub.cfg", menu.as_bytes());
                for n in 0..300 {
                    write(root, &format!("many/a-file-with-a-long-name-{n}"), b"x");
                }
            }),
        ];
        let used = |disk: &Vec<u8>| {
            let blocks = disk.chunks(BLOCK).enumerate();
            let used = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
            used.map(|(at, _)| at).collect()
        };
        Self(disks.map(|disk| (disk.clone(), used(&disk))).into())
    }
}

/// Reads that many disks made from a seed.
fn run(base: &Base, seed: u64, images: u64) -> Counts {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut counts = Counts::default();
    for image in 0..images {
        let _seed = Seed::new("xmgrub", seed).at("image", image);
        let (disk, used) = &base.0[random.below(base.0.len())];
        let mut disk = disk.clone();
        damage(&mut random, &mut disk, used);
        let start = Instant::now();
        counts.booted += u64::from(boot(disk).is_ok());
        counts.images += 1;
        for _ in 0..4 {
            let text = script(&mut random);
            let done = grub::run(&text, &Fake, "hd0,msdos1", "/boot/grub")
                .and_then(|machine| machine.choose(None));
            if let Err(error) = done {
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
            }
            counts.scripts += 1;
        }
        assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    }
    counts
}

/// Counts what is written, and holds it to a budget.
struct Count {
    done: u64,
    most: u64,
}

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.done += bytes.len() as u64;
        assert!(self.done <= self.most, "more than the budget is written");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Does with a disk what `main` does: sizes are known before bytes are read, and hold.
fn boot(disk: Vec<u8>) -> Result<()> {
    let checked = |error: xmgrub::Error| {
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
        error
    };
    let loader = Loader::open(&Image::from_bytes(disk)).map_err(checked)?;
    let plan = loader.plan(None).map_err(checked)?;
    assert!(plan.ramdisks.len() <= 8);
    let sizes = loader.sizes(&plan).map_err(checked)?;
    assert!(sizes.kernel <= MAX_KERNEL && sizes.ramdisks <= MAX_RAMDISKS + 3);
    let mut kernel = Count {
        done: 0,
        most: MAX_KERNEL,
    };
    let mut ramdisks = Count {
        done: 0,
        most: MAX_RAMDISKS + 3,
    };
    let written = loader.kernel(&plan, &mut kernel).map_err(checked)?;
    assert_eq!((written, kernel.done), (sizes.kernel, sizes.kernel));
    let written = loader.ramdisks(&plan, &mut ramdisks).map_err(checked)?;
    assert_eq!((written, ramdisks.done), (sizes.ramdisks, sizes.ramdisks));
    Ok(())
}

fn damage(random: &mut Random, disk: &mut Vec<u8>, used: &[usize]) {
    match random.below(16) {
        0 => disk.truncate(random.below(disk.len())),
        // The menu alone, in place.
        1..5 => spoil_menu(random, disk),
        _ => {
            for _ in 0..1 + random.below(6) {
                let block = used[random.below(used.len())];
                let at = block * BLOCK + random.below(BLOCK / 4) * 4;
                let value = number(random).to_le_bytes();
                let length = [1, 2, 4, 8][random.below(4)].min(disk.len().saturating_sub(at));
                if let Some(place) = disk.get_mut(at..at + length) {
                    place.copy_from_slice(&value[..length]);
                }
            }
            mend_header(disk);
        }
    }
}

fn number(random: &mut Random) -> u64 {
    let edges = [
        0,
        1,
        2,
        7,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        1 << 16,
        1 << 31,
        u32::MAX.into(),
        1 << 40,
        1 << 63,
        u64::MAX,
    ];
    let edge: u64 = edges[random.below(edges.len())];
    edge.wrapping_add(random.below(3) as u64).wrapping_sub(1)
}

/// The GUID table's checksum, so that damage to its numbers gets further than the first look.
fn mend_header(disk: &mut [u8]) {
    for at in [512, 4096] {
        let Some(header) = disk.get_mut(at..at + 92) else {
            continue;
        };
        if header.starts_with(b"EFI PART") {
            header[16..20].fill(0);
            let sum = crc32fast::hash(header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

const TOKENS: [&str; 46] = [
    "set ",
    "default=",
    "0",
    "1>2",
    "menuentry ",
    "'a' ",
    "--id x ",
    "{",
    "}",
    "\n",
    ";",
    "submenu ",
    "if ",
    "[ ",
    "] ",
    "then ",
    "else ",
    "elif ",
    "fi\n",
    "function ",
    "f ",
    "f\n",
    "source ",
    "/grub.cfg ",
    "linux ",
    "/vmlinuz ",
    "initrd ",
    "/initrd.img ",
    "search --set=root ",
    "--file ",
    "load_env ",
    "$a",
    "${a}",
    "\"$a$a\"",
    "a=$a$a",
    "'",
    "\"",
    "\\",
    "#",
    "chainloader +1\n",
    "for x in a b; do ",
    "done\n",
    "-f ",
    "(hd0,gpt7)",
    "! ",
    "-o ",
];

/// Overwrites some of a menu in a disk, which keeps its length.
fn spoil_menu(random: &mut Random, disk: &mut [u8]) {
    let Some(at) = disk
        .windows(11)
        .position(|window| window == b"\nset default")
    else {
        return;
    };
    let menu = &mut disk[at..at + MENU.len().min(180)];
    for _ in 0..1 + random.below(5) {
        let token = TOKENS[random.below(TOKENS.len())].as_bytes();
        let place = random.below(menu.len() - token.len());
        menu[place..place + token.len()].copy_from_slice(token);
    }
}

/// A script from the grammar's words.
fn script(random: &mut Random) -> String {
    let repeat = |random: &mut Random| match random.below(40) {
        0 => 20_000,
        1..4 => 500,
        _ => 1,
    };
    let mut text = String::new();
    for _ in 0..random.below(60) {
        let token = TOKENS[random.below(TOKENS.len())];
        let count = repeat(random);
        if text.len() + token.len() * count < 1 << 20 {
            text.push_str(&token.repeat(count));
        }
    }
    text
}

/// Files that call each other.
struct Fake;

impl Files for Fake {
    fn has(&self, _: &str, path: &str, _: bool) -> bool {
        path.len().is_multiple_of(2)
    }

    fn text(&self, _: &str, path: &str) -> Result<String> {
        match path {
            "/grub.cfg" => Ok("a=$a$a\nsource /grub.cfg\nf\n".to_owned()),
            _ => Ok(format!("a={}\n", "b".repeat(1000))),
        }
    }

    fn search(&self, _: Search<'_>) -> Option<String> {
        Some("hd0,gpt2".to_owned())
    }
}

#[test]
fn disks_from_a_few_seeds_are_read_or_refused() {
    let counts = run(&Base::new(), 1, 100);
    // Else it does not try what it should.
    assert!(
        counts.booted > 5 && counts.booted < counts.images - 5,
        "{counts:?}"
    );
}

#[test]
#[ignore = "soak: runs for OXEN_FUZZ_SECONDS"]
fn soak_fuzz() {
    let soak = Soak::from_env();
    let base = Base::new();
    let mut sum = Counts::default();
    soak.run(|seed| {
        let counts = run(&base, seed, 100);
        sum.images += counts.images;
        sum.booted += counts.booted;
        sum.scripts += counts.scripts;
    });
    let seed = soak.seed;
    println!(
        "fuzz xmgrub: seed={seed} images={} booted={} scripts={}",
        sum.images, sum.booted, sum.scripts
    );
}
