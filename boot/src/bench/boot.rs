//! From the machine's start, through GRUB, to dom0's prompt with the toolset's daemons up.

use anyhow::{Context, Result};

use super::figures::{BOOT, Measured, Samples};
use super::system::{Bench, Start, System};

/// In the order of [`BOOT`].
const STARTS: [Start; 2] = [Start::Disc, Start::DiscPvh];

pub(super) fn measure(
    bench: &Bench,
    systems: &[System],
    only: Option<&str>,
) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for (figure, start) in BOOT.iter().zip(STARTS) {
        if only.is_some_and(|only| only != figure.name) {
            continue;
        }
        let mut of = [None, None];
        for (system, taken) in systems.iter().zip(&mut of) {
            eprintln!("x: {} on {}", figure.name, system.name());
            let lines = bench.run(*system, start, "/bench/tsc | od -A n -t u8")?;
            *taken = Some(Samples::from(milliseconds(&lines)?));
        }
        let [oxen, xen] = of;
        measured.push(Measured::new(figure, oxen, xen));
    }
    Ok(measured)
}

/// The counter begins at the machine's start, and counts instructions: 10^9 a second.
fn milliseconds(lines: &[String]) -> Result<f64> {
    let line = lines.first().context("the clock said nothing")?;
    let ticks: f64 = line
        .trim()
        .parse()
        .with_context(|| format!("no number: {line:?}"))?;
    Ok(ticks / 1e6)
}

/// A program that writes the time stamp counter to its output, as eight bytes. dom0's initramfs has no other
/// way to read it.
pub(super) fn clock_reader() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    const CODE: &[u8] = &[
        0x0f, 0x31, // rdtsc
        0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
        0x48, 0x09, 0xd0, // or rax, rdx
        0x50, // push rax
        0x6a, 0x01, 0x58, // push 1; pop rax: write(1, rsp, 8)
        0x89, 0xc7, // mov edi, eax
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0x6a, 0x08, 0x5a, // push 8; pop rdx
        0x0f, 0x05, // syscall
        0x6a, 0x3c, 0x58, // push 60; pop rax: exit(0)
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ];
    let mut file = Vec::new();
    // ELF64, little-endian, EXEC for x86-64 with one segment: System V ABI, chapter 4.
    file.extend(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    for half in [2_u16, 62, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [BASE + u64::from(HEADERS), 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // Flags; then the sizes of the headers, and no sections.
    for half in [0_u16, 0, 64, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // LOAD, to be read and executed.
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes());
    }
    let size = u64::from(HEADERS) + CODE.len() as u64;
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_clock_s_program_runs_and_its_clock_advances() {
        let path = std::env::temp_dir().join(format!("oxen-tsc-{}", std::process::id()));
        std::fs::write(&path, clock_reader()).expect("a place for it");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("its owner");
        let read = || {
            let output = Command::new(&path).output().expect("it runs").stdout;
            u64::from_le_bytes(output.try_into().expect("eight bytes"))
        };
        let (first, second) = (read(), read());
        std::fs::remove_file(&path).expect("it is there");
        assert!(first < second);
    }

    #[test]
    fn the_counter_s_line() {
        let lines = [" 7500000000".to_owned()];
        assert_eq!(milliseconds(&lines).ok(), Some(7500.0));
        assert!(milliseconds(&[]).is_err());
    }
}
