//! Debian's kernel as the ELF file that is packed in it, for emulators in which unpacking takes
//! minutes.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use oxen_harness::Images;

use crate::compile::write_whole;
use crate::exec::command;

/// Debian's kernel as the ELF file that is packed in it: unpacking takes most of a minute there.
pub(crate) fn unpacked_kernel() -> Result<PathBuf> {
    let packed = Images::in_target().kernel;
    let elf = packed.with_file_name("vmlinux");
    let newer = |file: &Path| fs::metadata(file).and_then(|data| data.modified()).ok();
    if newer(&elf) > newer(&packed) {
        return Ok(elf);
    }
    let image = fs::read(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
    let payload = payload(&image).context("the kernel is no bzImage")?;
    let mut xz = command("xz", ["-dc", "--single-stream"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start xz")?;
    let mut input = xz.stdin.take().context("no way to xz")?;
    let payload = payload.to_vec();
    let feeder = std::thread::spawn(move || {
        // It stops reading at the stream's end, before ours.
        let _ = input.write_all(&payload);
    });
    let mut unpacked = Vec::new();
    let output = xz.stdout.take().context("no way from xz")?;
    BufReader::new(output).read_to_end(&mut unpacked)?;
    let _ = feeder.join();
    xz.wait()?;
    ensure!(
        unpacked.starts_with(b"\x7fELF"),
        "the kernel's payload is not packed with xz"
    );
    trim(&mut unpacked).context("the kernel's ELF file has another form")?;
    write_whole(&elf, &unpacked)?;
    Ok(elf)
}

/// The packed kernel in a bzImage (Linux, Documentation/arch/x86/boot.rst).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let setup = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup + 1) * 512 + word(0x248)?;
    image.get(start..start + word(0x24c)?)
}

/// Cuts off the zeros that the last segment ends with, and what lies behind it: they are a third of
/// the file, which the firmware reads block by block.
fn trim(elf: &mut Vec<u8>) -> Option<()> {
    const LOAD: u64 = 1;
    let word = |elf: &[u8], at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(elf.get(at..at + size)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (table, entry, count) = (
        word(elf, 0x20, 8)?,
        word(elf, 0x36, 2)?,
        word(elf, 0x38, 2)?,
    );
    let mut last = (0, 0, 0);
    for header in (0..count).map(|n| table + n * entry) {
        if word(elf, header, 4)? as u64 == LOAD {
            last = last.max((
                word(elf, header + 8, 8)?,
                header,
                word(elf, header + 0x20, 8)?,
            ));
        }
    }
    let (start, header, size) = last;
    let used = elf
        .get(start..start + size)?
        .iter()
        .rposition(|byte| *byte != 0)?
        + 1;
    elf.get_mut(header + 0x20..header + 0x28)?
        .copy_from_slice(&(used as u64).to_le_bytes());
    // No section headers.
    elf.get_mut(0x28..0x30)?.fill(0);
    elf.get_mut(0x3c..0x40)?.fill(0);
    elf.truncate(start + used);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{payload, trim};

    #[test]
    fn zeros_at_the_end_are_not_in_the_file() {
        let mut elf = vec![0; 0x200];
        elf[0x20] = 0x40;
        elf[0x28] = 0x80;
        elf[0x36] = 56;
        elf[0x38] = 1;
        elf[0x3c] = 9;
        elf[0x40] = 1;
        elf[0x49] = 1;
        elf[0x61] = 1;
        elf[0x180] = 7;
        trim(&mut elf).expect("a good file");
        assert_eq!((elf.len(), elf[0x60], elf[0x61]), (0x181, 0x81, 0));
        assert_eq!((elf[0x28], elf[0x3c]), (0, 0));
        assert!(trim(&mut vec![0; 20]).is_none());
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x248] = 0x10;
        image[0x24c] = 3;
        image[1024 + 0x10..][..3].copy_from_slice(b"abc");
        assert_eq!(payload(&image), Some(&b"abc"[..]));
        image[0x24f] = 1;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(&image[..300]), None);
    }
}
