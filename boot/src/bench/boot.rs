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
        let of = Bench::on_each(systems, |system| {
            eprintln!("x: {} on {}", figure.name, system.name());
            milliseconds(&bench.run(system, start, "/bench/tsc")?)
        })?;
        let [oxen, xen] = System::BOTH.map(|system| of.get(&system).copied().map(Samples::from));
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

/// A program that writes the time stamp counter to its output, as a decimal line. dom0's initramfs
/// has no other way to read it, and this one costs a process of its own and nothing else.
pub(super) fn clock_reader() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    const CODE: &[u8] = &[
        0x0f, 0x31, // rdtsc
        0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
        0x48, 0x09, 0xd0, // or rax, rdx
        0x6a, 0x0a, 0x59, // push 10; pop rcx
        // The digits go below the stack's end, the last one first. Nothing is pushed from here on.
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0x48, 0xff, 0xce, // dec rsi
        0xc6, 0x06, 0x0a, // mov byte [rsi], 10
        0x31, 0xd2, // digit: xor edx, edx
        0x48, 0xf7, 0xf1, // div rcx
        0x80, 0xc2, 0x30, // add dl, '0'
        0x48, 0xff, 0xce, // dec rsi
        0x88, 0x16, // mov [rsi], dl
        0x48, 0x85, 0xc0, // test rax, rax
        0x75, 0xee, // jnz digit
        0x48, 0x89, 0xe2, // mov rdx, rsp
        0x48, 0x29, 0xf2, // sub rdx, rsi
        0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1: write(1, rsi, rdx)
        0x89, 0xc7, // mov edi, eax
        0x0f, 0x05, // syscall
        0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60: exit(0)
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
            let line = String::from_utf8(output).expect("digits");
            line.trim().parse::<u64>().expect("a number")
        };
        let (first, second) = (read(), read());
        std::fs::remove_file(&path).expect("it is there");
        assert!(first < second);
    }

    #[test]
    fn the_counter_s_line() {
        let lines = ["7500000000".to_owned()];
        assert_eq!(milliseconds(&lines).ok(), Some(7500.0));
        assert!(milliseconds(&[]).is_err());
    }
}
