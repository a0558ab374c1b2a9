//! The core as clients see it: requests in, replies and events out.

mod advisories;
mod limits;
mod restarts;

use super::*;
use crate::ring::first_message;
use crate::wire::{Header, Kind, message};

struct NoRings;

impl Platform for NoRings {
    fn connect(&mut self, _: DomId, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
        Ok(Indices::default())
    }

    fn disconnect(&mut self, _: DomId) {}
}

struct Test {
    server: Server,
    dom0: ConnId,
}

impl Test {
    fn new() -> Self {
        let mut server = Server::new();
        let dom0 = server.open_socket();
        Self { server, dom0 }
    }

    /// Sends a request and takes all that is queued: the first reply, and events.
    fn send(
        &mut self,
        id: ConnId,
        kind: Kind,
        tx: u32,
        payload: &[u8],
    ) -> (Result<Vec<u8>, StoreError>, Vec<String>) {
        let bytes = message(kind, 7, tx, payload);
        let header = Header::decode(bytes.first_chunk().unwrap());
        self.server.receive(id, header, payload, &mut NoRings);
        let mut answer = None;
        let mut events = Vec::new();
        for (header, payload) in self.drain(id) {
            match Kind::from_number(header.kind).unwrap() {
                Kind::WatchEvent => events.push(text(&payload)),
                Kind::Error => {
                    let name = String::from_utf8(payload).unwrap();
                    answer = Some(Err(StoreError::from_name(name.trim_end_matches('\0'))));
                }
                answered => {
                    assert_eq!((answered, header.req_id, header.tx_id), (kind, 7, tx));
                    answer = Some(Ok(payload));
                }
            }
        }
        (answer.expect("an answer"), events)
    }

    fn drain(&mut self, id: ConnId) -> Vec<(Header, Vec<u8>)> {
        let outbox = self.server.outbox(id).unwrap();
        let bytes = outbox.rest();
        outbox.advance(bytes.len());
        let mut rest = bytes.as_slice();
        let mut all = Vec::new();
        while let Some(message) = first_message(rest).unwrap() {
            all.push((message.header, message.payload.to_vec()));
            rest = &rest[message.len..];
        }
        assert!(rest.is_empty());
        all
    }

    fn events(&mut self, id: ConnId) -> Vec<String> {
        self.drain(id)
            .into_iter()
            .map(|(_, payload)| text(&payload))
            .collect()
    }

    fn ask(&mut self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.send(self.dom0, kind, 0, payload).0
    }

    fn ok(&mut self, kind: Kind, payload: &[u8]) {
        assert_eq!(
            self.ask(kind, payload),
            Ok(b"OK\0".to_vec()),
            "{kind:?} {}",
            payload.escape_ascii()
        );
    }

    fn guest(&mut self, domain: DomId) -> ConnId {
        self.ok(Kind::Introduce, format!("{domain}\x001\x002\0").as_bytes());
        let home = format!("/local/domain/{domain}");
        self.ok(Kind::Mkdir, format!("{home}\0").as_bytes());
        self.ok(Kind::SetPerms, format!("{home}\0n{domain}\0").as_bytes());
        ConnId::Domain(domain)
    }

    fn start(&mut self, id: ConnId) -> u32 {
        let answer = self.send(id, Kind::TransactionStart, 0, b"\0").0.unwrap();
        String::from_utf8(answer)
            .unwrap()
            .trim_end_matches('\0')
            .parse()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\0')
        .replace('\0', " ")
}

#[test]
fn writes_reads_lists_removes() {
    let mut test = Test::new();
    test.ok(Kind::Write, b"/a/b\0value with \0 in it");
    assert_eq!(
        test.ask(Kind::Read, b"/a/b\0"),
        Ok(b"value with \0 in it".to_vec())
    );
    assert_eq!(test.ask(Kind::Read, b"/a\0"), Ok(vec![]));
    test.ok(Kind::Mkdir, b"/a/c\0");
    assert_eq!(test.ask(Kind::Directory, b"/a\0"), Ok(b"b\0c\0".to_vec()));
    assert_eq!(test.ask(Kind::GetPerms, b"/a\0"), Ok(b"n0\0".to_vec()));
    test.ok(Kind::Rm, b"/a\0");
    assert_eq!(test.ask(Kind::Read, b"/a/b\0"), Err(StoreError::NoEnt));
    assert_eq!(test.ask(Kind::Rm, b"/\0"), Err(StoreError::Inval));
    assert_eq!(
        test.ask(Kind::GetDomainPath, b"7\0"),
        Ok(b"/local/domain/7\0".to_vec())
    );
}

#[test]
fn refuses_what_is_malformed() {
    let mut test = Test::new();
    let malformed: [(Kind, &[u8]); 14] = [
        (Kind::Read, b""),
        (Kind::Read, b"/a"),
        (Kind::Read, b"/a\0b\0"),
        (Kind::Write, b"/a"),
        (Kind::Write, b"/a b\0x"),
        (Kind::Mkdir, b"\0"),
        (Kind::SetPerms, b"/local\0"),
        (Kind::SetPerms, b"/local\0z0\0"),
        (Kind::Watch, b"/a\0"),
        (Kind::Introduce, b"5\x001\0"),
        (Kind::Introduce, b"0\x001\x001\0"),
        (Kind::Introduce, b"65535\x001\x001\0"),
        (Kind::GetDomainPath, b"x\0"),
        (Kind::DirectoryPart, b"/\0-1\0"),
    ];
    for (kind, payload) in malformed {
        assert_eq!(
            test.ask(kind, payload),
            Err(StoreError::Inval),
            "{kind:?} {}",
            payload.escape_ascii()
        );
    }
    assert_eq!(
        test.ask(Kind::WatchEvent, b"/a\0t\0"),
        Err(StoreError::NoSys)
    );
    let bad = Header {
        kind: 20,
        req_id: 1,
        tx_id: 0,
        len: 0,
    };
    test.server.receive(test.dom0, bad, b"", &mut NoRings);
    assert_eq!(test.drain(test.dom0)[0].1, b"ENOSYS\0");
}

#[test]
fn long_directories_come_in_parts() {
    let mut test = Test::new();
    let mut all = Vec::new();
    for n in 0..600 {
        test.ok(Kind::Mkdir, format!("/d/name{n:04}\0").as_bytes());
        all.extend_from_slice(format!("name{n:04}\0").as_bytes());
    }
    assert_eq!(test.ask(Kind::Directory, b"/d\0"), Err(StoreError::TooBig));
    let mut got = Vec::new();
    let mut parts = 0;
    while !got.ends_with(b"\0\0") {
        let part = test
            .ask(
                Kind::DirectoryPart,
                format!("/d\0{}\0", got.len()).as_bytes(),
            )
            .unwrap();
        let generation = part.iter().position(|b| *b == 0).unwrap();
        got.extend_from_slice(&part[generation + 1..]);
        parts += 1;
    }
    got.pop();
    assert_eq!((got == all, parts), (true, 2));
    test.ok(Kind::Mkdir, b"/e\0");
    let empty = test.ask(Kind::DirectoryPart, b"/e\x000\0").unwrap();
    assert!(empty.ends_with(b"\0\0"));
}

#[test]
fn watches_fire_once_at_first_and_then_on_changes() {
    let mut test = Test::new();
    let (answer, events) = test.send(test.dom0, Kind::Watch, 0, b"/w\0tok\0");
    assert_eq!(
        (answer, events),
        (Ok(b"OK\0".to_vec()), vec!["/w tok".to_owned()])
    );
    assert_eq!(test.ask(Kind::Watch, b"/w\0tok\0"), Err(StoreError::Exist));
    assert_eq!(
        test.send(test.dom0, Kind::Write, 0, b"/w/a/b\0x").1,
        ["/w/a/b tok"]
    );
    assert_eq!(test.send(test.dom0, Kind::Mkdir, 0, b"/w/a\0").1, [""; 0]);
    assert_eq!(
        test.send(test.dom0, Kind::SetPerms, 0, b"/w/a\0n0\0").1,
        ["/w/a tok"]
    );
    let (_, first) = test.send(test.dom0, Kind::Watch, 0, b"/w/a/b\0deep\0");
    assert_eq!(first, ["/w/a/b deep"]);
    assert_eq!(
        test.send(test.dom0, Kind::Rm, 0, b"/w/a\0").1,
        ["/w/a tok", "/w/a/b deep"]
    );
    test.ok(Kind::Unwatch, b"/w\0tok\0");
    assert_eq!(
        test.ask(Kind::Unwatch, b"/w\0tok\0"),
        Err(StoreError::NoEnt)
    );
    assert_eq!(test.send(test.dom0, Kind::Write, 0, b"/w\0x").1, [""; 0]);
    test.ok(Kind::ResetWatches, b"\0");
    assert_eq!(
        test.send(test.dom0, Kind::Write, 0, b"/w/a/b\0x").1,
        [""; 0]
    );
}

#[test]
fn transactions_are_isolated_and_tell_at_commit() {
    let mut test = Test::new();
    test.send(test.dom0, Kind::Watch, 0, b"/t\0w\0").0.unwrap();
    let tx = test.start(test.dom0);
    assert_eq!(
        test.send(test.dom0, Kind::Write, tx, b"/t/a\x001").1,
        [""; 0]
    );
    assert_eq!(test.ask(Kind::Read, b"/t/a\0"), Err(StoreError::NoEnt));
    assert_eq!(
        test.send(test.dom0, Kind::Read, tx, b"/t/a\0").0,
        Ok(b"1".to_vec())
    );
    assert_eq!(
        test.send(test.dom0, Kind::TransactionEnd, tx, b"T\0").1,
        ["/t/a w"]
    );
    assert_eq!(test.ask(Kind::Read, b"/t/a\0"), Ok(b"1".to_vec()));
    assert_eq!(
        test.send(test.dom0, Kind::TransactionEnd, tx, b"T\0").0,
        Err(StoreError::NoEnt)
    );
    let tx = test.start(test.dom0);
    test.send(test.dom0, Kind::Rm, tx, b"/t/a\0").0.unwrap();
    assert_eq!(
        test.send(test.dom0, Kind::TransactionEnd, tx, b"F\0").1,
        [""; 0]
    );
    assert_eq!(test.ask(Kind::Read, b"/t/a\0"), Ok(b"1".to_vec()));
    assert_eq!(
        test.send(test.dom0, Kind::TransactionStart, tx, b"\0").0,
        Err(StoreError::Busy)
    );
}

#[test]
fn transactions_conflict_only_where_they_touch() {
    let mut test = Test::new();
    test.ok(Kind::Mkdir, b"/t/x\0");
    let other = test.server.open_socket();
    let dom0 = test.dom0;
    let commit = |test: &mut Test, id, tx| test.send(id, Kind::TransactionEnd, tx, b"T\0").0;
    // Different children of one parent.
    let (a, b) = (test.start(test.dom0), test.start(other));
    test.send(test.dom0, Kind::Write, a, b"/t/a\0").0.unwrap();
    test.send(other, Kind::Write, b, b"/t/b\0").0.unwrap();
    assert!(commit(&mut test, dom0, a).is_ok() && commit(&mut test, other, b).is_ok());
    // A node that was read changed; one that was missing came; a list grew; a parent's rights
    // changed.
    let cases: [(Kind, &[u8], Kind, &[u8]); 5] = [
        (Kind::Read, b"/t/x\0", Kind::Write, b"/t/x\0new"),
        (Kind::Read, b"/t/new/deep/er\0", Kind::Mkdir, b"/t/new\0"),
        (Kind::Directory, b"/t\0", Kind::Mkdir, b"/t/one-more\0"),
        (Kind::Mkdir, b"/t/x/child\0", Kind::SetPerms, b"/t/x\0n0\0"),
        (Kind::Read, b"/t/x\0", Kind::Rm, b"/t/x\0"),
    ];
    for (kind, payload, change, with) in cases {
        let tx = test.start(test.dom0);
        let _ = test.send(test.dom0, kind, tx, payload).0;
        test.send(test.dom0, Kind::Write, tx, b"/elsewhere\0")
            .0
            .unwrap();
        test.send(other, change, 0, with).0.unwrap();
        assert_eq!(
            commit(&mut test, dom0, tx),
            Err(StoreError::Again),
            "{kind:?} {}",
            payload.escape_ascii()
        );
        assert_eq!(
            test.ask(Kind::Read, b"/elsewhere\0"),
            Err(StoreError::NoEnt)
        );
    }
}

#[test]
fn guests_see_their_own_paths_and_no_privilege() {
    let mut test = Test::new();
    let guest = test.guest(5);
    assert_eq!(test.send(guest, Kind::Watch, 0, b"data\0t\0").1, ["data t"]);
    assert_eq!(
        test.send(guest, Kind::Write, 0, b"data/x\0v").1,
        ["data/x t"]
    );
    assert_eq!(
        test.ask(Kind::Read, b"/local/domain/5/data/x\0"),
        Ok(b"v".to_vec())
    );
    for (kind, payload) in [
        (Kind::Introduce, b"6\x001\x002\0".as_slice()),
        (Kind::Release, b"5\0"),
        (Kind::Resume, b"5\0"),
        (Kind::SetTarget, b"5\x005\0"),
        (Kind::Control, b"check\0"),
        (Kind::SetPerms, b"@releaseDomain\0r5\0"),
    ] {
        assert_eq!(
            test.send(guest, kind, 0, payload).0,
            Err(StoreError::Acces),
            "{kind:?}"
        );
    }
    assert_eq!(
        test.send(guest, Kind::IsDomainIntroduced, 0, b"5\0").0,
        Ok(b"T\0".to_vec())
    );
    assert_eq!(
        test.send(guest, Kind::IsDomainIntroduced, 0, b"6\0").0,
        Ok(b"F\0".to_vec())
    );
}

#[test]
fn guests_do_not_hear_of_what_they_may_not_read() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Watch, 0, b"/secret\0t\0").0.unwrap();
    test.ok(Kind::Write, b"/secret\0");
    assert_eq!(
        test.events(guest),
        [""; 0],
        "made with the root's permissions"
    );
    test.ok(Kind::SetPerms, b"/secret\0n0\0r5\0");
    assert_eq!(test.events(guest), ["/secret t"], "it may read this now");
    test.ok(Kind::SetPerms, b"/secret\0n0\0");
    assert_eq!(
        test.events(guest),
        ["/secret t"],
        "the loss of the right is told"
    );
    test.ok(Kind::Write, b"/secret/inner\0");
    assert_eq!(test.events(guest), [""; 0]);
    test.ok(Kind::Rm, b"/secret/inner\0");
    assert_eq!(test.events(guest), [""; 0]);
}

#[test]
fn a_dead_domain_leaves_nothing() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(test.dom0, Kind::Watch, 0, b"@releaseDomain\0r\0")
        .0
        .unwrap();
    test.send(test.dom0, Kind::Watch, 0, b"@introduceDomain\0i\0")
        .0
        .unwrap();
    test.send(guest, Kind::Write, 0, b"data/x\0").0.unwrap();
    test.ok(Kind::Write, b"/shared\0");
    test.ok(Kind::SetPerms, b"/shared\0n0\0r5\0r6\0");
    test.server.domain_shut_down(5);
    assert_eq!(test.events(test.dom0), ["@releaseDomain r"]);
    test.server.domain_shut_down(5);
    assert_eq!(test.events(test.dom0), [""; 0]);
    test.ok(Kind::Resume, b"5\0");
    test.server.domain_shut_down(5);
    assert_eq!(test.events(test.dom0), ["@releaseDomain r"]);
    test.server.forget_domain(5, &mut NoRings);
    assert_eq!(test.events(test.dom0), ["@releaseDomain r"]);
    assert_eq!(
        test.ask(Kind::Read, b"/local/domain/5\0"),
        Err(StoreError::NoEnt)
    );
    assert_eq!(
        test.ask(Kind::GetPerms, b"/shared\0"),
        Ok(b"n0\0r6\0".to_vec())
    );
    assert_eq!(
        test.ask(Kind::IsDomainIntroduced, b"5\0"),
        Ok(b"F\0".to_vec())
    );
    assert!(test.server.tree().is_consistent());
    assert_eq!(
        test.send(test.dom0, Kind::Introduce, 0, b"5\x001\x002\0").1,
        ["@introduceDomain i"]
    );
}

#[test]
fn special_events_reach_who_may() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Watch, 0, b"@introduceDomain\0t\0")
        .0
        .unwrap();
    test.guest(6);
    assert_eq!(test.events(guest), [""; 0]);
    test.ok(Kind::SetPerms, b"@introduceDomain\0n0\0r5\0");
    test.guest(7);
    assert_eq!(test.events(guest), ["@introduceDomain t"]);
}

#[test]
fn nothing_is_readable_by_all_unless_it_is_given() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.ok(Kind::Write, b"/secret\0topsecret");
    test.ok(Kind::Write, b"/libxl/7/type\0pvh");
    for path in [
        "/",
        "/local",
        "/local/domain",
        "/local/domain/0",
        "/tool",
        "/tool/xenstored",
        "/vm",
        "/libxl",
        "/libxl/7",
        "/secret",
        "/nothing",
    ] {
        for kind in [Kind::Read, Kind::Directory, Kind::GetPerms] {
            assert_eq!(
                test.send(guest, kind, 0, format!("{path}\0").as_bytes()).0,
                Err(StoreError::Acces),
                "{kind:?} {path}"
            );
        }
    }
    test.send(guest, Kind::Watch, 0, b"/\0t\0").0.unwrap();
    test.ok(Kind::Write, b"/secret\0other");
    test.ok(Kind::Rm, b"/libxl/7\0");
    assert_eq!(test.events(guest), [""; 0]);
}

#[test]
fn dom0_itself_is_not_released_and_everyone_is_introduced_to_itself() {
    let mut test = Test::new();
    let guest = test.guest(5);
    assert_eq!(test.ask(Kind::Release, b"0\0"), Err(StoreError::Inval));
    assert_eq!(test.ask(Kind::Release, b"6\0"), Err(StoreError::NoEnt));
    for id in [test.dom0, guest] {
        assert_eq!(
            test.send(id, Kind::IsDomainIntroduced, 0, b"32752\0").0,
            Ok(b"T\0".to_vec())
        );
    }
}
