//! Tests of this module.

use super::*;

fn spec(path: &Path, access: DiskAccess) -> DiskSpec {
    DiskSpec {
        target: path.display().to_string(),
        vdev: "xvda".into(),
        access,
        ..DiskSpec::default()
    }
}

#[test]
fn bad_images_are_told_in_a_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.img");
    let error = |spec: &DiskSpec| {
        Image::open(spec, &mut Vec::new())
            .expect_err("bad")
            .to_string()
    };
    let wanted = spec(&path, DiskAccess::Rw);
    assert!(
        error(&wanted).contains("no such file"),
        "{}",
        error(&wanted)
    );
    std::fs::write(&path, b"").expect("a file");
    assert!(error(&wanted).contains("empty"));
    std::fs::write(&path, vec![0; 100]).expect("a file");
    assert!(error(&wanted).contains("cut off"));
    assert!(error(&spec(directory.path(), DiskAccess::Rw)).contains("neither"));
    let relative = DiskSpec {
        target: "a.img".into(),
        ..wanted
    };
    assert!(error(&relative).contains("absolute"));
}

#[test]
fn one_writer_or_many_readers() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.img");
    std::fs::write(&path, vec![0; 4096]).expect("a file");
    let (ro, rw) = (spec(&path, DiskAccess::Ro), spec(&path, DiskAccess::Rw));
    let shared = DiskSpec {
        shared: true,
        ..rw.clone()
    };
    let open = |spec| Image::open(spec, &mut Vec::new());
    let first = open(&ro).expect("a reader");
    let second = open(&ro).expect("another");
    let error = open(&rw).expect_err("no writer").to_string();
    assert!(error.contains("locked"), "{error}");
    assert_eq!(first.identity, second.identity);
    open(&shared).expect("asked for");
    drop((first, second));
    let _writer = open(&rw).expect("a writer");
    assert!(open(&ro).is_err() && open(&rw).is_err());
}
/// Writes an image with bytes at its start and its end, as a guest can.
fn with_header(path: &Path, header: &[u8], end: &[u8]) {
    let bytes = [header, &[0; 4096], end].concat();
    std::fs::write(path, bytes).expect("a file");
}

#[test]
fn what_a_guest_wrote_onto_its_raw_disk_neither_stops_it_nor_becomes_advice() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.img");
    let wanted = spec(&path, DiskAccess::Rw);
    let warned = |spec: &DiskSpec| {
        let mut warnings = Vec::new();
        Image::open(spec, &mut warnings).expect("raw that was said is raw");
        warnings.join("\n")
    };
    for (header, word) in [
        (&b"QFI\xfb\0\0\0\x03"[..], "qcow2"),
        (b"QFI\xfb\0\0\0\x01", "qcow"),
        (b"QED\0\0\0\0\0", "qed"),
        (b"conectix", "vhd"),
        (b"KDMV\0\0\0\0", "vmdk"),
        (b"# Disk D", "vmdk"),
    ] {
        with_header(&path, header, &[0; 504]);
        let text = warned(&wanted);
        assert!(
            text.contains(&format!("begins like a {word} image")),
            "{text}"
        );
        assert!(text.contains("never change the format"), "{text}");
        assert!(!text.contains("format="), "{text}");
    }
    with_header(&path, &[0; 100], &[]);
    assert!(
        warned(&wanted).contains("looks cut off"),
        "a rescue must be possible"
    );
    with_header(&path, &[0; 512], &[]);
    assert_eq!(warned(&wanted), "");
}

#[test]
fn a_fixed_vhd_is_known_by_its_end_whatever_its_guest_wrote_at_its_beginning() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.vhd");
    let footer = [&b"conectix"[..], &[0; 504]].concat();
    with_header(&path, b"QFI\xfb\0\0\0\x03", &footer);
    let vhd = DiskSpec {
        format: DiskFormat::Vhd,
        ..spec(&path, DiskAccess::Rw)
    };
    Image::open(&vhd, &mut Vec::new()).expect("it is one");
    with_header(&path, b"QFI\xfb\0\0\0\x03", &[0; 504]);
    let error = Image::open(&vhd, &mut Vec::new())
        .expect_err("it is none")
        .to_string();
    assert!(error.contains("begin like a vhd image"), "{error}");
    assert!(!error.contains("format="), "{error}");
}
