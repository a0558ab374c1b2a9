//! The cost of a hostile disk for the domain that reads it: a bounded number of bytes, known before
//! the first one.

mod common;

use common::{ext4_of, write};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output};
use xmgrub::boot::{Loader, MAX_RAMDISKS, Sizes};
use xmgrub::disk::Image;

/// A disk whose menu names one ramdisk, of that many MiB and all holes, eight times.
fn eight_times(mib: u64) -> Vec<u8> {
    ext4_of("16m", |root| {
        let menu =
            "menuentry a { linux /kernel\ninitrd /hole /hole /hole /hole /hole /hole /hole /hole }";
        write(root, "grub/grub.cfg", menu.as_bytes());
        write(root, "kernel", &oxen_domain::testing::sample_kernel());
        let hole = std::fs::File::create(root.join("hole")).expect("a file");
        hole.set_len(mib << 20).expect("a hole");
    })
}

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn all_ramdisks_together_have_one_budget() {
    let loader = Loader::open(&Image::from_bytes(eight_times(200))).expect("a menu");
    let plan = loader.plan(None).expect("an entry");
    assert_eq!(plan.ramdisks.len(), 8);
    let error = loader.sizes(&plan).expect_err("1.6 GiB").to_string();
    assert!(error.contains("more than the"), "{error}");
    let mut written = Count(0);
    assert!(loader.ramdisks(&plan, &mut written).is_err());
    assert!(written.0 <= MAX_RAMDISKS, "{} bytes", written.0);
    let loader = Loader::open(&Image::from_bytes(eight_times(2))).expect("a menu");
    let plan = loader.plan(None).expect("an entry");
    let sizes = loader.sizes(&plan).expect("16 MiB");
    assert_eq!(
        sizes,
        Sizes {
            kernel: oxen_domain::testing::sample_kernel().len() as u64,
            ramdisks: 16 << 20
        }
    );
}

fn xmgrub(disk: &[u8], arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let image = scratch.path().join("image");
    std::fs::write(&image, disk).expect("an image");
    let out = scratch.path().join("out");
    std::fs::create_dir(&out).expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xmgrub"));
    for argument in arguments {
        match *argument {
            "OUT" => command.arg(&out),
            argument => command.arg(argument),
        };
    }
    let output = command.arg("--").arg(&image).output();
    (output.expect("xmgrub"), scratch)
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn nothing_is_written_of_what_is_too_much() {
    let disk = eight_times(200);
    let (output, scratch) = xmgrub(&disk, &["--output-directory", "OUT"]);
    assert!(error(&output).contains("more than the"));
    for name in ["kernel", "ramdisk"] {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        assert_eq!(size(&scratch.path().join("out").join(name)), 0, "{name}");
    }
    let (output, _) = xmgrub(&disk, &["--stream=4096"]);
    assert!(error(&output).contains("more than the") && output.stdout.is_empty());
    // What does not fit into the guest need not be read.
    let (output, _) = xmgrub(&eight_times(2), &["--stream=15"]);
    assert!(error(&output).contains("more than the guest's memory") && output.stdout.is_empty());
}

#[test]
fn a_stream_is_a_line_and_the_bytes_that_it_announces() {
    let (output, _) = xmgrub(&eight_times(2), &["--stream=64", "--args=quiet"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut stream = BufReader::new(output.stdout.as_slice());
    let mut line = String::new();
    stream.read_line(&mut line).expect("a line");
    let found: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(found["cmdline"], "quiet");
    let kernel = oxen_domain::testing::sample_kernel();
    assert_eq!(found["stream"]["kernel"], kernel.len());
    assert_eq!(found["stream"]["ramdisk"], 16 << 20);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the images");
    assert!(rest.starts_with(&kernel));
    assert_eq!(rest.len(), kernel.len() + (16 << 20));
}

#[test]
fn a_kernel_that_unpacks_to_more_than_the_guest_has_is_refused() {
    let kernel = oxen_domain::testing::elf64(&vec![0x90; 3 << 20]);
    let disk = ext4_of("16m", |root| {
        write(root, "grub/grub.cfg", b"menuentry a { linux /kernel }");
        write(root, "kernel", &kernel);
    });
    let (output, _) = xmgrub(&disk, &["--stream=3"]);
    assert!(error(&output).contains("more than the guest's memory"));
    let (output, _) = xmgrub(&disk, &["--stream=4"]);
    assert!(output.status.success());
}
