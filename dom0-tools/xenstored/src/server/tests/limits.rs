//! Limits of a guest, and the log lines about them.

use super::restarts::reborn;
use super::*;

#[test]
fn guests_are_limited() {
    let mut test = Test::new();
    let guest = test.guest(5);
    for n in 0..129 {
        test.send(guest, Kind::Watch, 0, format!("data\0{n}\0").as_bytes())
            .0
            .unwrap();
    }
    assert_eq!(
        test.send(guest, Kind::Watch, 0, b"data\0x\0").0,
        Err(StoreError::TooBig)
    );
    for _ in 0..11 {
        test.start(guest);
    }
    assert_eq!(
        test.send(guest, Kind::TransactionStart, 0, b"\0").0,
        Err(StoreError::NoSpc)
    );
    test.send(guest, Kind::ResetWatches, 0, b"\0").0.unwrap();
    test.send(guest, Kind::Watch, 0, b"data\0x\0").0.unwrap();
    let tx = test.start(guest);
    let full = (0..2000).find_map(|n| {
        test.send(guest, Kind::Read, tx, format!("n{n}\0").as_bytes())
            .0
            .err()
            .filter(|e| *e == StoreError::NoSpc)
    });
    assert_eq!(full, Some(StoreError::NoSpc));
}

#[test]
fn a_guest_that_does_not_listen_costs_little() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Watch, 0, b"/\0t\0").0.unwrap();
    for n in 0..20_000 {
        test.ok(
            Kind::Write,
            format!("/local/domain/5/data/{n}\0").as_bytes(),
        );
    }
    let waiting = test.server.outbox(guest).unwrap().len();
    assert!(
        waiting <= Quota::default().queue as usize + 4112,
        "{waiting}"
    );
    for n in 0..20 {
        let header = Header {
            kind: Kind::Read as u32,
            req_id: n,
            tx_id: 0,
            len: 5,
        };
        assert!(!test.server.is_backed_up(guest));
        test.server.receive(guest, header, b"data\0", &mut NoRings);
    }
    assert!(test.server.is_backed_up(guest));
}

fn notices(test: &mut Test) -> Vec<String> {
    let all = test.server.take_notices().into_iter();
    all.map(|notice| format!("{} {}", notice.domain, notice.text))
        .collect()
}

#[test]
fn soft_limits_are_told_of_once_and_hard_ones_refuse() {
    let mut test = Test::new();
    let guest = test.guest(5);
    for (command, name, value) in [
        ("quota", "nodes", "6"),
        ("quota-soft", "nodes", "4"),
        ("quota-soft", "watches", "1"),
    ] {
        let payload = format!("{command}\0set\0{name}\0{value}\0");
        test.ok(Kind::Control, payload.as_bytes());
    }
    for n in 0..5 {
        let path = format!("data/{n}\0");
        let answer = test.send(guest, Kind::Write, 0, path.as_bytes()).0;
        assert_eq!(answer.is_ok(), n < 4, "{n}");
    }
    let told = notices(&mut test);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "5 is over its soft quota of nodes: 5 of 4, 6 at most"
    );
    assert!(told[1].starts_with("5 is refused at its quota: nodes 6 of 6, watches 0 of 128"));
    // A neighbour has limits of its own.
    let neighbour = test.guest(6);
    test.send(neighbour, Kind::Write, 0, b"data/x\0").0.unwrap();
    assert_eq!(notices(&mut test), [""; 0]);
    // Reported again only when it has been well below.
    test.send(guest, Kind::Rm, 0, b"data/3\0").0.unwrap();
    test.send(guest, Kind::Write, 0, b"data/3\0").0.unwrap();
    assert_eq!(notices(&mut test), [""; 0]);
    test.send(guest, Kind::Rm, 0, b"data\0").0.unwrap();
    test.send(guest, Kind::Write, 0, b"a/b/c/d\0").0.unwrap();
    assert_eq!(notices(&mut test).len(), 1);
    for token in ["x", "y"] {
        let payload = format!("data\0{token}\0");
        test.send(guest, Kind::Watch, 0, payload.as_bytes())
            .0
            .unwrap();
    }
    let told = notices(&mut test);
    assert_eq!(
        told,
        ["5 is over its soft quota of watches: 2 of 1, 128 at most"]
    );
    test.ok(Kind::Control, b"log\0-quota\0");
    test.send(guest, Kind::Watch, 0, b"@releaseDomain\0z\0")
        .0
        .unwrap();
    test.send(guest, Kind::Write, 0, b"much/more/e/f\0")
        .0
        .unwrap_err();
    assert_eq!(notices(&mut test), [""; 0]);
}

#[test]
fn limits_are_changed_at_run_time_and_stay_so() {
    let mut test = Test::new();
    test.guest(5);
    let list = |test: &mut Test, command: &str| {
        text(
            &test
                .ask(Kind::Control, format!("{command}\0").as_bytes())
                .unwrap(),
        )
    };
    assert!(list(&mut test, "quota").contains("memory           :  2621440"));
    assert!(list(&mut test, "quota-soft").contains("memory           :  2097152"));
    test.ok(Kind::Control, b"quota\0set\0memory\x00100000\0");
    test.ok(Kind::Control, b"quota-soft\0set\0memory\x0050000\0");
    for bad in [
        b"quota\0set\0memory\0-1\0".as_slice(),
        b"quota\0set\0soft-memory\x001\0",
        b"quota\0set\0cpu\x001\0",
        b"quota\0set\0memory\0",
        b"quota-soft\0set\0queue\x001\0",
        b"quota-soft\x005\0",
        b"log\0+everything\0",
        b"log\0maybe\0",
        b"live-update\0",
    ] {
        assert_eq!(
            test.ask(Kind::Control, bad),
            Err(StoreError::Inval),
            "{}",
            bad.escape_ascii()
        );
    }
    let mut records = Vec::new();
    test.server = reborn(&mut test.server, &mut records);
    test.dom0 = test.server.open_socket();
    assert!(list(&mut test, "quota").contains("memory           :   100000"));
    assert!(list(&mut test, "quota-soft").contains("memory           :    50000"));
    let usage = list(&mut test, "quota\x005");
    assert!(
        usage.starts_with("Domain 5:\nnodes            :        1\n"),
        "{usage}"
    );
    for row in ["watches ", "transactions ", "outstanding ", "memory "] {
        assert!(usage.contains(row), "{usage}");
    }
    test.ok(Kind::Control, b"log\0on\0");
    assert_eq!(list(&mut test, "log"), "io: 1\nquota: 1\n");
    test.ok(Kind::Control, b"log\0-io\0");
    assert_eq!(list(&mut test, "log"), "io: 0\nquota: 1\n");
    let no_log = test.ask(Kind::Control, b"logfile\0/tmp/x\0");
    assert_eq!(no_log, Err(StoreError::NoSys), "this platform has none");
}
