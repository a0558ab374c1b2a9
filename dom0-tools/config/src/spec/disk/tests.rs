//! Tests of this module.

use super::*;
use proptest::prelude::*;

fn disk(target: &str, vdev: &str) -> DiskSpec {
    DiskSpec {
        target: target.into(),
        vdev: vdev.into(),
        ..DiskSpec::default()
    }
}

#[test]
fn one_disk_in_each_spelling() {
    let wanted = disk("/dev/vg/guest", "xvda");
    for text in [
        "/dev/vg/guest,raw,xvda,rw",
        "/dev/vg/guest,,xvda",
        "/dev/vg/guest,xvda,w",
        "format=raw, vdev=xvda, access=rw, target=/dev/vg/guest",
        "phy:/dev/vg/guest,xvda,w",
        "phy:vg/guest,xvda,w",
        "phy:/dev/vg/guest,ioemu:xvda:disk,rw",
        "file:/dev/vg/guest,xvda",
        "tap:aio:/dev/vg/guest,xvda,w",
        "tap2:tapdisk:aio:/dev/vg/guest,xvda,w",
        "aio:/dev/vg/guest,xvda,w",
        "vdev=xvda,access=w,/dev/vg/guest",
        "format=aio,vdev=xvda,access=w,target=/dev/vg/guest",
    ] {
        assert_eq!(parse(text), Ok(wanted.clone()), "{text}");
    }
}

#[test]
fn options() {
    let parsed =
        parse("/a.qcow2,qcow2,xvdb,ro,direct-io-safe,no-discard,backend=store").expect("a disk");
    let wanted = DiskSpec {
        format: DiskFormat::Qcow2,
        access: DiskAccess::Ro,
        direct_io_safe: true,
        discard: Some(false),
        backend: Some("store".into()),
        ..disk("/a.qcow2", "xvdb")
    };
    assert_eq!(parsed, wanted);
    let cd = parse("vdev=hdc,devtype=cdrom,target=").expect("an empty drive");
    assert!(cd.cdrom && cd.access == DiskAccess::Ro);
    assert_eq!(
        parse("vdev=xvda,target=/a,b=c").map(|d| d.target),
        Ok("/a,b=c".into())
    );
    assert_eq!(parse("file:/x.iso,hdc:cdrom,r").map(|d| d.cdrom), Ok(true));
    assert_eq!(parse(",empty,hdc").map(|d| d.cdrom), Ok(true));
    for text in [
        "phy:/dev/a,xvda,w!",
        "/dev/a,,xvda,rw!",
        "access=w!,vdev=xvda,target=/dev/a",
    ] {
        assert_eq!(parse(text).map(|d| d.shared), Ok(true), "{text}");
    }
    for (text, format) in [
        ("tap:qcow2:/a,xvda,w", DiskFormat::Qcow2),
        ("tap2:vhd:/a,xvda,w", DiskFormat::Vhd),
        ("tap2:tapdisk:vmdk:/a,xvda,w", DiskFormat::Vmdk),
        ("/a,vmdk,xvda", DiskFormat::Vmdk),
        ("qcow2:/a,xvda", DiskFormat::Qcow2),
    ] {
        assert_eq!(parse(text).map(|d| d.format), Ok(format), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    for (text, part) in [
        ("/dev/x", "vdev"),
        ("/dev/x,raw,foo", "foo"),
        ("/dev/x,xvda,raw", "raw"),
        ("/dev/x,zip,xvda", "zip"),
        ("/dev/x,raw,xvda,rwx", "rwx"),
        ("colour=red,vdev=xvda", "colour"),
        ("vdev=xvda", "target"),
        ("/a,raw,xvda,rw,more", "more"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }
}
