//! A guest whose store daemon dies at any step gets the replies that it would have got otherwise.

use oxen_sys::SharedMemory;
use proptest::prelude::*;
use xenstored::error::StoreError;
use xenstored::record::Record;
use xenstored::ring;
use xenstored::server::{ConnId, Indices, Platform, Restored, Server};
use xenstored::session::Session;
use xenstored::wire::{Header, Kind, message};

const GUEST: u16 = 5;
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

/// Rings of which only the guest's page exists.
struct Rings<'a>(&'a SharedMemory);

impl Platform for Rings<'_> {
    fn connect(&mut self, _: u16, _: u64, _: u32, fresh: bool) -> Result<Indices, StoreError> {
        Ok(Session::open(self.0, GUEST, fresh).unwrap().1)
    }

    fn disconnect(&mut self, _: u16) {}
}

/// A daemon without input and output: what it wrote down, and what it has in mind.
struct Daemon<'a> {
    page: &'a SharedMemory,
    server: Server,
    session: Session,
    written: Vec<Record>,
}

impl<'a> Daemon<'a> {
    fn new(page: &'a SharedMemory) -> Self {
        let mut server = Server::new();
        let dom0 = server.open_socket();
        let (session, ..) = Session::open(page, GUEST, true).unwrap();
        for (kind, payload) in [
            (Kind::Introduce, "5\x001\x001\0"),
            (Kind::Mkdir, "/local/domain/5\0"),
            (Kind::SetPerms, "/local/domain/5\0n5\0"),
        ] {
            let header = Header {
                kind: kind as u32,
                req_id: 0,
                tx_id: 0,
                len: 0,
            };
            server.receive(dom0, header, payload.as_bytes(), &mut Rings(page));
        }
        server.close_socket(dom0);
        let written = server.take_records();
        Self {
            page,
            server,
            session,
            written,
        }
    }

    /// A turn; dies before its step `dies`, if there is such.
    fn turn(&mut self, dies: usize) {
        if dies == 0 {
            return self.restart();
        }
        self.session
            .serve(self.page, &mut self.server, &mut Rings(self.page), u64::MAX)
            .unwrap();
        if dies == 1 {
            return self.restart();
        }
        self.written.extend(self.server.take_records());
        if dies == 2 {
            return self.restart();
        }
        self.session.send(self.page, &mut self.server).unwrap();
        if dies == 3 {
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.server = restored(self.written.iter().cloned());
        self.server.reconnect(&mut Rings(self.page));
        self.session = Session::open(self.page, GUEST, false).unwrap().0;
        self.session.resume(&self.server);
        self.server.take_records();
        self.written = self.server.snapshot();
    }
}

/// The server of these records, none of which may be left over.
fn restored(records: impl IntoIterator<Item = Record>) -> Server {
    let Restored { server, aside } = Server::restore(records);
    assert!(aside.is_empty(), "{aside:?}");
    server
}

/// The guest's side of the ring.
struct Guest<'a> {
    page: &'a SharedMemory,
    to_send: Vec<u8>,
    got: Vec<u8>,
}

impl Guest<'_> {
    /// True if the guest notifies the daemon: as Linux does, only if the ring was empty.
    fn send(&mut self, most: usize) -> bool {
        let (cons, prod) = (
            self.page.load(REQ_CONS).unwrap(),
            self.page.load(REQ_PROD).unwrap(),
        );
        let room = 1024 - prod.wrapping_sub(cons) as usize;
        let bytes: Vec<u8> = self
            .to_send
            .drain(..room.min(most).min(self.to_send.len()))
            .collect();
        for (i, byte) in bytes.iter().enumerate() {
            self.page
                .write((prod as usize + i) % 1024, &[*byte])
                .unwrap();
        }
        self.page
            .store(REQ_PROD, prod.wrapping_add(bytes.len() as u32))
            .unwrap();
        !bytes.is_empty() && self.page.load(REQ_CONS).unwrap() == prod
    }

    fn take(&mut self, most: usize) -> usize {
        let (cons, prod) = (
            self.page.load(RSP_CONS).unwrap(),
            self.page.load(RSP_PROD).unwrap(),
        );
        let there = prod.wrapping_sub(cons) as usize;
        assert!(there <= 1024);
        for i in 0..there.min(most) {
            self.got.push(
                self.page
                    .get::<u8>(1024 + (cons as usize + i) % 1024)
                    .unwrap(),
            );
        }
        self.page
            .store(RSP_CONS, cons.wrapping_add(there.min(most) as u32))
            .unwrap();
        there
    }
}

/// Requests whose events are all different, so that none are merged.
fn requests(kinds: &[(u8, usize)]) -> Vec<u8> {
    let mut bytes = message(Kind::Watch, 0, 0, b"data\0token\0");
    for (n, (kind, len)) in kinds.iter().enumerate() {
        let value = "v".repeat(*len);
        let (kind, payload) = match kind % 7 {
            0 => (Kind::Write, format!("data/{n}\0{value}")),
            1 => (Kind::Read, format!("data/{}\0", n / 2)),
            2 => (Kind::Directory, "data\0".to_owned()),
            3 => (Kind::Rm, format!("quiet/{}\0", n.saturating_sub(1))),
            4 => (Kind::Watch, format!("data/{n}\0other\0")),
            5 => (Kind::Mkdir, format!("quiet/{n}\0")),
            _ => (Kind::Mkdir, format!("/not/mine/{n}\0")),
        };
        bytes.extend(message(kind, n as u32 + 1, 0, payload.as_bytes()));
    }
    bytes
}

/// The replies of a daemon that never dies, with a ring without end.
fn expected(requests: &[u8]) -> Vec<u8> {
    let page = SharedMemory::anonymous(4096).unwrap();
    let mut daemon = Daemon::new(&page);
    let mut rest = requests;
    let mut got = Vec::new();
    while let Some(message) = ring::first_message(rest).unwrap() {
        daemon.server.receive(
            ConnId::Domain(GUEST),
            message.header,
            message.payload,
            &mut Rings(&page),
        );
        let outbox = daemon.server.outbox(ConnId::Domain(GUEST)).unwrap();
        got.extend(outbox.rest());
        outbox.clear();
        rest = &rest[message.len..];
    }
    got
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn death_at_any_step_is_not_noticed(
        kinds in prop::collection::vec((any::<u8>(), 0usize..1500), 1..40),
        steps in prop::collection::vec((0usize..8, 1usize..1100, 1usize..1100), 1..120),
    ) {
        let requests = requests(&kinds);
        let expected = expected(&requests);
        let page = SharedMemory::anonymous(4096).unwrap();
        let mut daemon = Daemon::new(&page);
        let mut guest = Guest { page: &page, to_send: requests, got: Vec::new() };
        for (dies, sends, takes) in steps {
            guest.send(sends);
            daemon.turn(dies);
            guest.take(takes);
        }
        let mut quiet = 0;
        while quiet < 3 {
            guest.send(usize::MAX);
            daemon.turn(usize::MAX);
            quiet = if guest.take(usize::MAX) == 0 { quiet + 1 } else { 0 };
        }
        prop_assert!(guest.to_send.is_empty());
        prop_assert_eq!(guest.got.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    /// The daemon looks only when it is notified or knows of more, and a guest notifies rarely.
    #[test]
    fn no_request_waits_for_ever(
        kinds in prop::collection::vec((any::<u8>(), 0usize..1500), 1..40),
        chunks in prop::collection::vec((0usize..600, 0usize..1100), 1..200),
    ) {
        let requests = requests(&kinds);
        let expected = expected(&requests);
        let page = SharedMemory::anonymous(4096).unwrap();
        let mut daemon = Daemon::new(&page);
        let mut guest = Guest { page: &page, to_send: requests, got: Vec::new() };
        let mut chunks = chunks.into_iter();
        // The guest works at any moment, until its chunks are used up; then it does all it can.
        let mut work = |guest: &mut Guest<'_>| {
            let (sends, takes) = chunks.next().unwrap_or((usize::MAX, usize::MAX));
            let told = guest.send(sends);
            let full = guest.take(takes) == 1024 && takes > 0;
            told || full
        };
        let mut told = work(&mut guest);
        let mut idle = 0;
        while idle < 2 {
            // A guest that is never notified waits for nothing but its own pace.
            told |= work(&mut guest);
            if !told {
                idle += 1;
                continue;
            }
            idle = 0;
            daemon.session.serve(&page, &mut daemon.server, &mut Rings(&page), u64::MAX).unwrap();
            told = work(&mut guest);
            told |= daemon.session.send(&page, &mut daemon.server).unwrap().more;
        }
        while idle < 300 {
            idle += 1;
            if work(&mut guest) {
                daemon.turn(usize::MAX);
                while daemon.session.send(&page, &mut daemon.server).unwrap().more {
                    daemon.turn(usize::MAX);
                }
            }
        }
        prop_assert!(guest.to_send.is_empty());
        prop_assert_eq!(guest.got.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    /// Whatever a guest writes into its page, the daemon stays whole, and nothing of dom0's
    /// changes.
    #[test]
    fn a_hostile_page_harms_only_itself(
        writes in prop::collection::vec((0usize..2076, any::<u32>(), 0usize..4), 1..200),
    ) {
        let page = SharedMemory::anonymous(4096).unwrap();
        let mut daemon = Daemon::new(&page);
        for (at, value, dies) in writes {
            page.write(at, &value.to_le_bytes()).unwrap();
            // Sometimes indices that make sense, so that the bytes are read.
            page.store(REQ_PROD, page.load(REQ_CONS).unwrap().wrapping_add(value % 1026)).unwrap();
            let served = daemon.session.serve(&page, &mut daemon.server, &mut Rings(&page), u64::MAX);
            daemon.written.extend(daemon.server.take_records());
            let sent = daemon.session.send(&page, &mut daemon.server);
            if let Some(fault) = served.err().or(sent.err()) {
                daemon.session.fail(Ok(&page), fault);
            }
            if dies == 0 {
                daemon.restart();
            }
        }
        prop_assert!(daemon.server.tree().is_consistent());
        let secret = xenstored::path::Path::absolute("/local/domain".to_owned()).unwrap();
        let node = daemon.server.tree().get(&secret).unwrap();
        prop_assert_eq!(node.children().count(), 1);
    }
}

/// A guest that feeds a request byte by byte makes the daemon write down each byte once.
#[test]
fn half_a_request_is_not_recorded_again_and_again() {
    let page = SharedMemory::anonymous(4096).unwrap();
    let mut daemon = Daemon::new(&page);
    let payload = [b"data/x\0".as_slice(), &[b'v'; 2000]].concat();
    let request = message(Kind::Write, 1, 0, &payload);
    let len = request.len();
    let mut guest = Guest {
        page: &page,
        to_send: request,
        got: Vec::new(),
    };
    let mut bytes = 0;
    while !guest.to_send.is_empty() {
        guest.send(1);
        daemon.turn(usize::MAX);
        let written = daemon.written.iter().map(Record::len).sum::<usize>();
        bytes = bytes.max(written);
        if guest.to_send.len().is_multiple_of(500) {
            daemon.restart();
        }
    }
    // Each byte with its record's numbers, the value in its node, and the reply.
    assert!(bytes <= 20 * len, "{bytes} bytes for a request of {len}");
    guest.take(usize::MAX);
    assert!(guest.got.ends_with(b"OK\0"));
}
