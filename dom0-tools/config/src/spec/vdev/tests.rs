//! Tests of this module.

use super::*;
use proptest::prelude::*;

#[test]
fn the_numbers_of_the_manual() {
    for (text, value) in [
        ("xvda", 51712),
        ("xvda1", 51713),
        ("xvdb", 51728),
        ("xvdp15", 51967),
        ("xvdq", 1 << 28 | 16 << 8),
        ("xvda16", 1 << 28 | 16),
        ("xvdaa", 1 << 28 | 26 << 8),
        ("hda", 768),
        ("hdb1", 833),
        ("hdc", 5632),
        ("sda", 2048),
        ("sdb2", 2066),
    ] {
        assert_eq!(number(text), Some(value), "{text}");
        assert_eq!(name(value), text);
    }
    for (text, value) in [("1", 1), ("0x1", 1), ("768", 768), ("0xca00", 51712)] {
        assert_eq!(number(text), Some(value), "{text}");
    }
    for text in [
        "0",
        "0x",
        "1x",
        "010x",
        "536870912",
        "99999999999",
        "",
        "x",
        "xvd",
        "xvd1",
        "xvda0",
        "hde",
        "sdq",
        "xvdA",
        "xvda256",
        "äöü",
        "vda",
    ] {
        assert_eq!(number(text), None, "{text}");
    }
}

#[test]
fn each_spelling_has_one_usual_form() {
    for (text, form) in [
        ("d0", "xvda"),
        ("d0p0", "xvda"),
        ("d1p2", "xvdb2"),
        ("d0x1p0x2", "xvdb2"),
        ("d536p37", "xvdtq37"),
        ("768", "hda"),
        ("51712", "xvda"),
        ("0xca00", "xvda"),
        ("0x1", "1"),
        ("sdb2", "sdb2"),
    ] {
        assert_eq!(usual(text).as_deref(), Some(form), "{text}");
    }
    for text in [
        "d", "dp", "d0p", "dx", "d0p256", "d1048576", "d-1", "d0x", "vda", "",
    ] {
        assert_eq!(usual(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,9}") {
        let _ = usual(&text);
    }

    #[test]
    fn names_come_back(id in any::<u32>()) {
        let text = name(id);
        if let Some(again) = number(&text) {
            prop_assert_eq!(name(again), text);
        }
    }
}
