//! The server from its records.

use super::*;

/// The server of these records, none of which may be left over.
fn restored(records: impl IntoIterator<Item = Record>) -> Server {
    let Restored { server, aside } = Server::restore(records);
    assert!(aside.is_empty(), "{aside:?}");
    server
}

/// A server made of the records of another.
pub(super) fn reborn(server: &mut Server, extra: &mut Vec<Record>) -> Server {
    extra.extend(server.take_records());
    let mut new = restored(extra.iter().cloned());
    assert_eq!(all_nodes(&new), all_nodes(server));
    let compact = restored(server.snapshot());
    assert_eq!(all_nodes(&compact), all_nodes(server));
    // What was drained behind the rings' back waits again after the long way.
    let but_output = |server: &Server| {
        let mut records = server.snapshot();
        records.retain(|r| !matches!(r, Record::Output { .. }));
        records
    };
    assert_eq!(but_output(&new), but_output(&compact));
    new.reconnect(&mut NoRings);
    new
}

fn all_nodes(server: &Server) -> Vec<(String, Vec<u8>, Perms)> {
    let all = server.tree().root().walk(&crate::path::Path::root());
    let mut all: Vec<_> = all
        .into_iter()
        .map(|(p, n)| (p.to_string(), n.value.to_vec(), (*n.perms).clone()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn a_restart_goes_unnoticed_by_guests() {
    let mut test = Test::new();
    let mut records = Vec::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Watch, 0, b"data\0t\0").0.unwrap();
    test.send(guest, Kind::Watch, 0, b"/gone\0t\0").0.unwrap();
    test.send(guest, Kind::Unwatch, 0, b"/gone\0t\0").0.unwrap();
    test.send(guest, Kind::Write, 0, b"data/x\0v").0.unwrap();
    let tx = test.start(guest);
    test.send(guest, Kind::Write, tx, b"data/y\0v").0.unwrap();
    test.server.took(5, 300, b"half a request".to_vec());
    test.ok(Kind::Write, b"/local/domain/5/data/z\0");
    let waiting = test.server.outbox(guest).unwrap().rest();
    let produced = test.server.ring(5).unwrap().indices.produced;

    struct Half(u32);
    impl Platform for Half {
        fn connect(
            &mut self,
            _: DomId,
            _: u64,
            _: u32,
            fresh: bool,
        ) -> Result<Indices, StoreError> {
            assert!(!fresh);
            Ok(Indices {
                consumed: 0,
                produced: self.0,
            })
        }
        fn disconnect(&mut self, _: DomId) {}
    }
    records.extend(test.server.take_records());
    let mut new = restored(records.clone());
    new.reconnect(&mut Half(produced - 5));
    assert_eq!(
        new.outbox(guest).unwrap().rest(),
        waiting[waiting.len() - 5..]
    );
    let ring = new.ring(5).unwrap();
    assert_eq!(
        (ring.indices.consumed, ring.partial.as_slice()),
        (300, b"half a request".as_slice())
    );

    test.server = reborn(&mut test.server, &mut records);
    test.dom0 = test.server.open_socket();
    test.drain(guest);
    // The transaction that was open may go on, and must be done again.
    assert_eq!(
        test.send(guest, Kind::Read, tx, b"data/x\0").0,
        Ok(b"v".to_vec())
    );
    assert_eq!(
        test.send(guest, Kind::TransactionEnd, tx, b"T\0").0,
        Err(StoreError::Again)
    );
    test.ok(Kind::Write, b"/local/domain/5/data/q\0");
    assert_eq!(test.events(guest), ["data/q t"]);
}

#[test]
fn what_was_made_and_removed_in_one_transaction_is_not_recorded() {
    let mut test = Test::new();
    let guest = test.guest(5);
    test.send(guest, Kind::Watch, 0, b"data\0t\0").0.unwrap();
    test.send(guest, Kind::Write, 0, b"data/old\0v").0.unwrap();
    let mut written = test.server.snapshot();
    test.server.take_records();
    test.drain(guest);
    let tx = test.start(guest);
    for (kind, payload) in [
        (Kind::Write, b"data/x\0v".as_slice()),
        (Kind::Write, b"data/x/y/z\0v"),
        (Kind::Rm, b"data/x\0"),
        (Kind::Rm, b"data/old\0"),
        (Kind::Write, b"data/old\0w"),
        (Kind::Write, b"data/new/deep\0w"),
    ] {
        test.send(guest, kind, tx, payload).0.unwrap();
    }
    let (answer, events) = test.send(guest, Kind::TransactionEnd, tx, b"T\0");
    assert_eq!(answer, Ok(b"OK\0".to_vec()));
    assert_eq!(
        events,
        ["data/old t", "data/new/deep t"],
        "each once, as asked"
    );
    let records = test.server.take_records();
    let nodes: Vec<String> = records
        .iter()
        .filter_map(|record| match record {
            Record::Put { path, .. } => Some(format!("+{path}")),
            Record::Gone { path } => Some(format!("-{path}")),
            _ => None,
        })
        .map(|text| text.replace("/local/domain/5/data", ""))
        .collect();
    assert_eq!(nodes, ["+/new/deep", "-/old", "+/old"], "the net effect");
    written.extend(records);
    let again = restored(written);
    assert_eq!(all_nodes(&again), all_nodes(&test.server));
}

/// Where the journal could not be written, the ring is ahead of it.
#[test]
fn a_ring_that_is_ahead_of_the_records_goes_on_from_there() {
    struct Page(Indices);
    impl Platform for Page {
        fn connect(&mut self, _: DomId, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
            Ok(self.0)
        }
        fn disconnect(&mut self, _: DomId) {}
    }
    let mut test = Test::new();
    let guest = test.guest(5);
    test.server.took(5, 40, b"half".to_vec());
    test.server.receive(
        guest,
        Header {
            kind: Kind::Read as u32,
            req_id: 1,
            tx_id: 0,
            len: 5,
        },
        b"data\0",
        &mut NoRings,
    );
    let old = test.server.snapshot();
    let produced = test.server.ring(5).unwrap().indices.produced;
    let ahead = Indices {
        consumed: 100,
        produced: produced + 60,
    };
    let mut new = restored(old);
    new.reconnect(&mut Page(ahead));
    let ring = new.ring(5).unwrap();
    assert_eq!((ring.indices, ring.partial.len()), (ahead, 0));
    assert!(!new.has_output(guest), "its answers went out long ago");
}
