//! Tests of this module.

use super::*;
use crate::ring::tests::{guest_is_hostile, guest_prints, guest_reads};

fn console() -> Console {
    let page = Page::Mapped(SharedMemory::anonymous(4096).unwrap());
    let sinks = Sinks {
        pty: Some(Pty::open().unwrap()),
        ..Sinks::default()
    };
    Console::open(page, sinks, Instant::now()).unwrap()
}

#[test]
fn output_goes_everywhere_and_input_comes_from_the_terminal() {
    use std::io::{Read, Write};
    let mut console = console();
    guest_prints(console.page.memory().unwrap(), b"login: ");
    let turn = console.turn(Instant::now()).unwrap();
    assert_eq!(
        (turn.output.as_slice(), turn.notify, turn.pause),
        (b"login: ".as_slice(), true, false)
    );
    assert_eq!(console.replay(), b"login: ");
    let mut user = std::fs::File::options()
        .read(true)
        .write(true)
        .open(console.pty().unwrap().path())
        .unwrap();
    let mut text = [0; 7];
    user.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"login: ");
    user.write_all(b"root\n").unwrap();
    console.read_pty();
    console.type_in(b"pw\n");
    assert!(console.turn(Instant::now()).unwrap().notify);
    assert_eq!(guest_reads(console.page.memory().unwrap()), b"root\npw\n");
    assert!(!console.turn(Instant::now()).unwrap().notify);
}

#[test]
fn input_is_held_back_while_the_guest_does_not_read() {
    let mut console = console();
    while console.input_room() > 0 {
        console.type_in(b"x");
    }
    console.turn(Instant::now()).unwrap();
    assert_eq!(console.input_room(), 1024);
    let now = Instant::now();
    let mut got = 0;
    for _ in 0..4 {
        got += guest_reads(console.page.memory().unwrap()).len();
        console.turn(now).unwrap();
    }
    assert_eq!(got, INPUT);
}

#[test]
fn a_flood_is_paused_and_goes_on() {
    let mut console = console();
    let now = Instant::now();
    let mut printed = 0;
    loop {
        guest_prints(console.page.memory().unwrap(), &[b'x'; 2048]);
        let turn = console.turn(now).unwrap();
        printed += turn.output.len();
        if turn.pause {
            break;
        }
        assert!(printed < 1 << 20);
    }
    let later = console
        .turn(now + std::time::Duration::from_secs(1))
        .unwrap();
    assert_eq!((later.output.len(), later.pause), (2048, false));
}

/// D9: what is paid for is the look, not the byte.
#[test]
fn who_prints_one_byte_at_a_time_is_paused_too() {
    let mut console = console();
    let start = Instant::now();
    let (mut now, mut looks) = (start, 0);
    while now < start + std::time::Duration::from_secs(1) {
        guest_prints(console.page.memory().unwrap(), b"x");
        console.rang();
        if console.turn(now).unwrap().pause {
            now += crate::rate::PAUSE;
        }
        looks += 1;
        assert!(looks < 1000);
    }
}

#[test]
fn who_sends_events_and_prints_nothing_is_paused_too() {
    let mut console = console();
    let now = Instant::now();
    let mut looks = 0;
    loop {
        console.rang();
        looks += 1;
        if console.turn(now).unwrap().pause {
            break;
        }
        assert!(looks < 1000);
    }
    // Who is quiet costs nothing.
    let later = now + std::time::Duration::from_secs(60);
    for _ in 0..1000 {
        assert!(!console.turn(later).unwrap().pause);
    }
}

#[test]
fn what_fails_is_tried_again_each_second_and_not_more_often() {
    let mut health = Health::default();
    let start = Instant::now();
    let mut attempts = 0;
    for ms in (0..5000).step_by(5) {
        health.attempt(start + std::time::Duration::from_millis(ms), "test", || {
            attempts += 1;
            Err(std::io::ErrorKind::StorageFull.into())
        });
    }
    assert_eq!(attempts, 5);
    let later = start + std::time::Duration::from_secs(6);
    health.attempt(later, "test", || Ok(()));
    assert!(health.failed.is_none());
}

#[test]
fn a_hostile_ring_ends_only_itself() {
    let mut console = console();
    guest_is_hostile(console.page.memory().unwrap());
    assert_eq!(console.turn(Instant::now()).unwrap_err(), Fault::Index);
    assert!(console.turn(Instant::now()).unwrap().output.is_empty());
    assert_eq!(console.input_room(), 0);
}
