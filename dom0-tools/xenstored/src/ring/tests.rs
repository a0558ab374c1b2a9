//! Tests of this module.

use super::*;
use crate::wire::{Kind, message};

fn page() -> SharedMemory {
    SharedMemory::anonymous(4096).unwrap()
}

#[test]
fn wraps_around() {
    let page = page();
    let start = u32::MAX - 3;
    page.write(1020, b"abcd").unwrap();
    page.write(0, b"efg").unwrap();
    page.store(REQ_PROD, start.wrapping_add(7)).unwrap();
    assert_eq!(peek(&page, start).unwrap(), b"abcdefg");
    page.store(RSP_CONS, start).unwrap();
    assert_eq!(put(&page, start, b"0123456").unwrap(), 7);
    let mut out = [0; 7];
    page.read(ANSWERS + 1020, &mut out[..4]).unwrap();
    page.read(ANSWERS, &mut out[4..]).unwrap();
    assert_eq!(&out, b"0123456");
    assert_eq!(page.load(RSP_PROD), Ok(3));
}

#[test]
fn fills_up_and_goes_on() {
    let page = page();
    assert_eq!(put(&page, 0, &[7; 2000]).unwrap(), 1024);
    assert_eq!(put(&page, 1024, &[7; 976]).unwrap(), 0);
    page.store(RSP_CONS, 100).unwrap();
    assert_eq!(put(&page, 1024, &[7; 976]).unwrap(), 100);
}

#[test]
fn senseless_indices_are_faults() {
    let page = page();
    for bad in [1025, u32::MAX, 1 << 31] {
        page.store(REQ_PROD, bad).unwrap();
        assert_eq!(peek(&page, 0), Err(Fault::Index));
    }
    for bad in [1, 1 << 31, u32::MAX - 1024] {
        page.store(RSP_CONS, bad).unwrap();
        assert_eq!(put(&page, 0, b"x"), Err(Fault::Index), "{bad}");
    }
    fail(&page, Fault::Index).unwrap();
    assert_eq!(page.load(ERROR), Ok(2));
    assert!(!open(&page).unwrap());
    assert_eq!(page.load(ERROR), Ok(0));
}

#[test]
fn finds_messages() {
    let bytes = message(Kind::Read, 1, 0, b"/a\0");
    for cut in 0..bytes.len() {
        assert_eq!(first_message(&bytes[..cut]), Ok(None));
    }
    let Message {
        header,
        payload,
        len,
    } = first_message(&bytes).unwrap().unwrap();
    assert_eq!(
        (header.req_id, payload, len),
        (1, b"/a\0".as_slice(), bytes.len())
    );
    let long = Header {
        len: 4097,
        ..header
    };
    assert_eq!(first_message(&long.encode()), Err(Fault::TooLong));
}
