//! Tests of this module.

use super::*;
use crate::testing::sample_kernel;

fn config(more: &str) -> DomainConfig {
    let text = format!("type='pvh'\nname='demo'\nmemory=32\nbootloader='pygrub'\n{more}");
    oxen_config::parse("test", text.as_bytes(), &[])
        .expect("a good file")
        .config
}

#[test]
fn the_first_disk_that_is_no_cd_is_booted_from() {
    let found = config("disk=['/cd.iso,,xvdb,cdrom', '/a.img,raw,xvda,w', '/b.img,raw,xvdc,w']");
    assert_eq!(disk(&found).map(|disk| disk.target.as_str()), Ok("/a.img"));
    let other = config("disk=['/a.img,qcow2,xvda,w']");
    assert!(disk(&other).expect_err("not raw").contains("qcow2"));
    let none = config("disk=['/cd.iso,,xvdb,cdrom']");
    assert!(disk(&none).is_err());
}

fn answer(kernel: &[u8], announced: u64, ramdisk: u64) -> Vec<u8> {
    let line = serde_json::json!({
        "entry": "a", "kernel": "/k", "ramdisks": [], "cmdline": "ro",
        "stream": { "kernel": announced, "ramdisk": ramdisk },
    });
    [line.to_string().as_bytes(), b"\n", kernel].concat()
}

#[test]
fn kernel_and_ramdisk_come_behind_the_line() {
    let kernel = sample_kernel();
    let size = kernel.len() as u64;
    let mut all = answer(&kernel, size, 5);
    all.extend(b"files");
    let (found, images) = receive(&mut all.as_slice(), 64 << 20).expect("both");
    assert_eq!(
        (found.cmdline.as_str(), images.ramdisk.as_slice()),
        ("ro", b"files".as_slice())
    );
    let cut = &all[..all.len() - 1];
    let error = receive(&mut &*cut, 64 << 20).map(drop);
    assert!(matches!(error, Err(Fault::Broken(text)) if text.contains("ends early")));
}

/// The process that read the disk may have been taken over by what is on it.
#[test]
fn nothing_that_the_reader_announces_is_believed() {
    let kernel = sample_kernel();
    let size = kernel.len() as u64;
    let error = |bytes: Vec<u8>, memory| match receive(&mut bytes.as_slice(), memory).map(drop) {
        Err(Fault::Refused(text) | Fault::Broken(text)) => text,
        Ok(()) => panic!("it was believed"),
    };
    for (announced, ramdisk) in [(u64::MAX, u64::MAX), (1 << 40, 0), (size, 64 << 20)] {
        let text = error(answer(&kernel, announced, ramdisk), 64 << 20);
        assert!(text.contains("larger than the guest's memory"), "{text}");
    }
    // However large the guest is.
    let text = error(answer(&kernel, size, MAX_IMAGE + 1), 1 << 40);
    assert!(text.contains("larger"), "{text}");
    assert!(error(vec![b'x'; 4 << 20], 64 << 20).contains("answer"));
    assert!(error(answer(b"no kernel", 9, 0), 64 << 20).contains("not a kernel"));
}

#[test]
fn a_title_fills_no_log() {
    assert_eq!(shortened("Linux"), "Linux");
    assert_eq!(shortened(&"ä".repeat(70_000)).chars().count(), 123);
}
