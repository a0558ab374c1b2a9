//! Lines that configuration files of others contain, each in its shortest form, with xl's verdict
//! beside that of this crate.
//!
//! xl's verdicts are those of Debian's xl 4.17.7 (`xl create -n`). Ours may be stricter where xl
//! would go on with something that was not meant; then the row says so.

use super::*;

/// The outcome of a line that follows a good file.
enum Verdict {
    /// Taken, without a word.
    Good,
    /// Taken, with a warning that has these words in it.
    Warned(&'static str),
    /// Refused, with these words.
    Refused(&'static str),
}
use Verdict::{Good, Refused, Warned};

/// Line, xl, we, where it was seen.
#[rustfmt::skip]
const CORPUS: &[(&str, &str, Verdict, &str)] = &[
    ("dhcp = 'dhcp'", "ignored", Warned("dhcp has no meaning"), "xen-tools with --dhcp"),
    ("on_xend_start='ignore'", "ignored", Warned("on_xend_start"), "NixOS, virt-install"),
    ("on_xend_stop='ignore'", "ignored", Warned("on_xend_stop"), "NixOS, virt-install"),
    ("cpu_cap=0", "ignored", Warned("cpu_cap"), "Ganeti"),
    ("bootargs=''", "ignored", Warned("bootargs"), "Ganeti, libvirt"),
    ("vcpu_avail=1", "ignored", Warned("vcpu_avail"), "libvirt, PV"),
    ("loader='generic'", "ignored", Warned("loader"), "XTF"),
    ("parallel='none'", "ignored", Warned("parallel"), "libvirt, HVM"),
    ("cdrom='/dev/cdrom'", "ignored", Warned("cdrom"), "libvirt, HVM"),
    ("hostname='a'", "ignored", Warned("hostname"), "xm's examples"),
    ("ip='10.0.0.1'", "ignored", Warned("ip has no"), "xm's examples"),
    ("netmask='255.0.0.0'", "ignored", Warned("netmask"), "xm's examples"),
    ("gateway='10.0.0.1'", "ignored", Warned("gateway"), "xm's examples"),
    ("nics=1", "ignored", Warned("nics"), "blogs"),
    ("iommu=1", "ignored", Warned("iommu"), "blogs"),
    ("restart='onreboot'", "ignored", Warned("restart"), "xm's examples"),
    ("blkdev_start='xvda'", "ignored", Warned("blkdev_start"), "Ganeti"),
    ("numa_placement=1", "ignored", Warned("numa_placement"), "blogs"),
    ("vhpt=1", "ignored", Warned("vhpt"), "xm's examples"),
    ("xauthority='/x'", "ignored without HVM", Warned("xauthority"), "xl's source"),
    ("weather='fine'", "ignored", Warned("is ignored, as xl does"), "anybody's own words"),
    ("vcpu=2", "ignored: the guest gets one", Refused("did you mean \"vcpus\"?"), "a slip"),
    ("Memory=1", "ignored", Refused("did you mean \"memory\"?"), "a slip"),
    ("disk=[',hdc:cdrom,r']", "an empty CD drive hdc", Good, "xmexample.hvm, libvirt"),
    ("disk=['drbd:r0,xvda,w']", "script block-drbd", Refused("phy:/dev/drbd/by-res/r0/0"), "DRBD"),
    ("disk=['iscsi:iqn.2001-05.com:a,xvda,w']", "script block-iscsi",
        Refused("script=block-iscsi"), "Xen's wiki"),
    ("disk=['nbd:10.0.0.1 5901,xvda,w']", "script block-nbd",
        Refused("script=block-nbd"), "nbd's examples"),
    ("disk=['npiv:a,xvda,w']", "refused", Refused("no known prefix"), "SUSE"),
    ("disk=['md5:/a,xvda,w']", "refused", Refused("no known prefix"), "made up"),
    ("disk=['tap:/a,xvda,w']", "path /a", Good, "xm's time"),
    ("disk=['phy:/dev/a,d0,w']", "d0", Good, "xen-vbd-interface(7)"),
    ("disk=['phy:/dev/a,d1p2,w']", "d1p2", Good, "xen-vbd-interface(7)"),
    ("disk=['phy:/dev/a,0x1,w']", "0x1", Good, "NetBSD"),
    ("disk=['phy:/dev/a,768,w']", "768", Good, "xen-vbd-interface(7)"),
    ("disk=['phy:/dev/a,xvda,w','phy:/dev/b,51712,w']", "two disks of one number",
        Refused("twice"), "made up"),
    ("maxvcpus=4", "4, of which 1 online", Good, "blogs"),
    ("builder='linux'", "refused, beside type", Refused("contradicts"), "blogs"),
    ("builder='generic'", "refused, beside type", Refused("contradicts"), "blogs"),
    ("builder='hvm'", "refused, beside type",
        Refused("builder=\"hvm\" is not supported"), "libvirt"),
];

#[test]
fn files_of_others_are_judged_as_xl_does_or_better() {
    for (line, xl, verdict, seen) in CORPUS {
        let row = format!("{line} (xl: {xl}; seen in {seen})");
        let result = parse("demo.cfg", format!("{LEAST}{line}\n").as_bytes(), &[]);
        let said = |texts: &[Diagnostic]| {
            let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
            texts.join("\n")
        };
        match (result, verdict) {
            (Ok(parsed), Good) => assert_eq!(said(&parsed.warnings), "", "{row}"),
            (Ok(parsed), Warned(words)) => {
                assert_eq!(parsed.warnings.len(), 1, "{row}");
                assert!(said(&parsed.warnings).contains(words), "{row}");
            }
            (Err(errors), Refused(words)) => {
                assert!(said(&errors).contains(words), "{row}: {}", said(&errors));
                assert_eq!(errors.len(), 1, "{row}");
                assert_eq!(errors[0].place.map(|place| place.line), Some(5), "{row}");
            }
            (Ok(_), Refused(_)) => panic!("taken: {row}"),
            (Err(errors), _) => panic!("refused: {row}: {}", said(&errors)),
        }
    }
}

#[test]
fn what_is_taken_means_what_it_means_to_xl() {
    let disk = |text: &str| good(&format!("{LEAST}disk=['{text}']")).config.disks[0].clone();
    let cd = disk(",hdc:cdrom,r");
    assert_eq!(
        (cd.vdev.as_str(), cd.target.as_str(), cd.cdrom),
        ("hdc", "", true)
    );
    for (text, vdev) in [
        ("d0", "xvda"),
        ("d1p2", "xvdb2"),
        ("0x1", "1"),
        ("768", "hda"),
    ] {
        assert_eq!(disk(&format!("phy:/dev/a,{text},w")).vdev, vdev);
        assert_eq!(disk(&format!("/dev/a,raw,{text},w")).vdev, vdev);
        assert_eq!(disk(&format!("vdev={text},target=/dev/a")).vdev, vdev);
    }
    assert_eq!(disk("tap:/a,xvda,w").target, "/a");
    assert_eq!(disk("vdev=xvda,target=a:b").target, "a:b");
    let config = good(&format!("{LEAST}maxvcpus=4")).config;
    assert_eq!((config.vcpus, config.max_vcpus), (1, 4));
}

#[test]
fn an_old_builder_is_taken_with_a_warning() {
    for builder in ["generic", "linux"] {
        let warnings = good(&LEAST.replace("type='pvh'", &format!("builder='{builder}'"))).warnings;
        let text = format!("demo.cfg:1:9: builder=\"{builder}\" is taken as type=\"pvh\"");
        assert!(warnings.len() == 1 && warnings[0].to_string().starts_with(&text));
    }
}

/// The files that libvirt writes have no kernel, and much that is not ours: one error says what
/// matters.
#[test]
fn a_file_for_full_emulation_is_one_error() {
    for kind in ["type='hvm'", "builder='hvm'", "builder='hvm'\ntype='hvm'"] {
        let text = format!("name='a'\n{kind}\nmemory=64\nparallel='none'\nvcpu=1\nvnc=1");
        assert_eq!(bad(&text).lines().count(), 1, "{}", bad(&text));
    }
}
