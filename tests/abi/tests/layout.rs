//! Every size, offset and number of `guest-pv-abi` is what the C headers say.

use std::path::Path;

use abi_layout::{INCLUDE, compare};
use guest_pv_abi::layout::{Field, Item};

#[test]
fn all_declarations_agree_with_the_headers() {
    let (differences, compared) =
        compare(guest_pv_abi::LAYOUT, Path::new(INCLUDE)).expect("comparison");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
    println!("{compared} sizes, offsets and numbers agree");
    assert!(compared > 3000, "only {compared} facts compared");
}

#[test]
fn a_wrong_declaration_is_found() {
    let fields = &[
        Field {
            name: "reason",
            c: "reason",
            offset: 2,
            size: 4,
        },
        Field {
            name: "_pad",
            c: "_pad",
            offset: 0,
            size: 2,
        },
    ];
    let items: &[Item] = &[
        Item::Struct {
            name: "Wrong",
            c: "struct sched_shutdown",
            size: 6,
            until: "",
            fields,
        },
        Item::Const {
            name: "SCHEDOP_BLOCK",
            c: "",
            value: 2,
        },
        Item::Const {
            name: "GNTST_BAD_PAGE",
            c: "",
            value: -9,
        },
        Item::Text {
            name: "XS_WRITE_NONE",
            c: "",
            value: "none",
        },
    ];
    let (differences, compared) =
        compare(&[("wrong", &[items])], Path::new(INCLUDE)).expect("comparison");
    assert_eq!(compared, 6);
    let found: Vec<_> = differences
        .iter()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        found,
        ["size of wrong", "offset of wrong", "wrong", "wrong"]
    );
    assert!(
        differences[2].contains("2 here, 1 in C (SCHEDOP_block)"),
        "{}",
        differences[2]
    );
}

#[test]
fn an_unknown_name_is_an_error() {
    let items: &[Item] = &[Item::Const {
        name: "SCHEDOP_DANCE",
        c: "",
        value: 2,
    }];
    let error = compare(&[("wrong", &[items])], Path::new(INCLUDE)).expect_err("unknown name");
    assert!(
        error.to_string().contains("wrong::SCHEDOP_DANCE"),
        "{error}"
    );
}

#[test]
fn missing_headers_are_an_error_that_names_their_package() {
    let error = compare(guest_pv_abi::LAYOUT, Path::new("/nonexistent")).expect_err("no headers");
    assert!(error.to_string().contains("libxen-dev"), "{error}");
}
