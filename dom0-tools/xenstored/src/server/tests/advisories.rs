//! Faults that Xen's stores had, by the number of their advisory: what each would need, and that it
//! does nothing here.

use super::*;

#[test]
fn xsa_481_illegal_paths_are_refused_and_the_store_goes_on() {
    let mut test = Test::new();
    let guest = test.guest(5);
    for path in [
        "/local/domain/",
        "/local/domain//",
        "/local/domain/5/",
        "/local//domain",
        "//",
        "data/",
        "data//x",
        "",
    ] {
        for (kind, rest) in [
            (Kind::Read, ""),
            (Kind::Directory, ""),
            (Kind::DirectoryPart, "0\0"),
            (Kind::GetPerms, ""),
            (Kind::Write, "value"),
            (Kind::Mkdir, ""),
            (Kind::Rm, ""),
            (Kind::SetPerms, "n5\0"),
            (Kind::Watch, "token\0"),
            (Kind::Unwatch, "token\0"),
        ] {
            for id in [guest, test.dom0] {
                let payload = format!("{path}\0{rest}");
                let answer = test.send(id, kind, 0, payload.as_bytes()).0;
                assert_eq!(answer, Err(StoreError::Inval), "{kind:?} {path:?}");
            }
        }
    }
    test.send(guest, Kind::Write, 0, b"data/x\0v").0.unwrap();
}

#[test]
fn xsa_484_a_reset_within_a_transaction_is_a_reset() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Watch, 0, b"data\0t\0").0.unwrap();
    let tx = test.start(guest);
    test.send(guest, Kind::Write, tx, b"data/x\0v").0.unwrap();
    for tx in [tx, tx, 77] {
        let answer = test.send(guest, Kind::ResetWatches, tx, b"\0").0;
        assert_eq!(answer, Ok(b"OK\0".to_vec()));
    }
    let end = test.send(guest, Kind::TransactionEnd, tx, b"T\0").0;
    assert_eq!(end, Err(StoreError::NoEnt));
    test.ok(Kind::Write, b"/local/domain/5/data/y\0");
    assert_eq!(test.events(guest), [""; 0]);
}

/// Fills what a guest may have of everything.
fn use_all(test: &mut Test, guest: ConnId) {
    for n in 0..1000 {
        let path = format!("data/{}/{n}\0", n / 40);
        let _ = test.send(guest, Kind::Write, 0, path.as_bytes()).0;
    }
    for n in 0..129 {
        let watch = format!("data/{n}\0t\0");
        let _ = test.send(guest, Kind::Watch, 0, watch.as_bytes()).0;
    }
    for _ in 0..11 {
        let tx = test.start(guest);
        let _ = test.send(guest, Kind::Read, tx, b"data/1\0").0;
    }
}

#[test]
fn xsa_483_the_next_domain_of_a_number_begins_at_nothing() {
    let mut test = Test::new();
    let mut before = Vec::new();
    for round in 0..3 {
        let guest = test.guest(5);
        before.push(test.server.memory_of(5));
        use_all(&mut test, guest);
        assert!(test.server.memory_of(5) > 400_000);
        if round % 2 == 0 {
            test.ok(Kind::Release, b"5\0");
        } else {
            test.server.forget_domain(5, &mut NoRings);
        }
        assert_eq!(test.server.memory_of(5), 0);
        assert_eq!(test.server.tree().usage(5), Default::default());
    }
    assert!(
        before.windows(2).all(|pair| pair[0] == pair[1]),
        "{before:?}"
    );
    assert!(test.server.tree().is_consistent());
}

#[test]
fn xsa_512_watches_go_with_their_connection() {
    let mut test = Test::new();
    let (empty, records) = (test.server.listeners.len(), test.server.snapshot().len());
    for _ in 0..20 {
        let guest = test.guest(5);
        use_all(&mut test, guest);
        // Introduced again while it runs, as after a kexec.
        test.ok(Kind::Introduce, b"5\x001\x002\0");
        assert_eq!(test.server.listeners.len(), empty);
        test.send(guest, Kind::Watch, 0, b"data\0t\0").0.unwrap();
        test.send(guest, Kind::ResetWatches, 0, b"\0").0.unwrap();
        test.send(guest, Kind::Watch, 0, b"data\0t\0").0.unwrap();
        test.ok(Kind::Release, b"5\0");
        let socket = test.server.open_socket();
        test.send(socket, Kind::Watch, 0, b"/vm\0t\0").0.unwrap();
        test.server.close_socket(socket);
        assert_eq!(test.server.listeners.len(), empty);
    }
    assert_eq!(test.server.snapshot().len(), records);
}

/// A release of a domain that runs on (soft reset), also twice, and its return.
#[test]
fn xsa_425_a_released_domain_may_come_back() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.start(guest);
    test.ok(Kind::Release, b"5\0");
    assert_eq!(test.ask(Kind::Release, b"5\0"), Err(StoreError::NoEnt));
    let again = test.guest(5);
    test.send(again, Kind::Write, 0, b"data/x\0v").0.unwrap();
}

/// A transaction that removes what somebody else has removed meanwhile.
#[test]
fn xsa_440_counts_never_go_below_nothing() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Write, 0, b"data/x/y\0v").0.unwrap();
    let tx = test.start(guest);
    test.send(guest, Kind::Rm, tx, b"data/x\0").0.unwrap();
    test.send(guest, Kind::Write, tx, b"data/z\0v").0.unwrap();
    test.ok(Kind::Rm, b"/local/domain/5/data\0");
    let end = test.send(guest, Kind::TransactionEnd, tx, b"T\0").0;
    assert_eq!(end, Err(StoreError::Again));
    assert!(test.server.tree().is_consistent());
    assert_eq!(test.server.tree().usage(5).nodes, 1);
}
