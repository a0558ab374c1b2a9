//! Guests that try to make the store large or slow. What they may cost is counted in the memory
//! that they are charged for, in the memory of this process, in bytes of the journal, and in steps
//! of work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use xenstored::error::StoreError;
use xenstored::perms::DomId;
use xenstored::quota::Quota;
use xenstored::record::Record;
use xenstored::server::{ConnId, Indices, Platform, Server};
use xenstored::wire::{HEADER, Header, Kind, message};

struct NoRings;

impl Platform for NoRings {
    fn connect(&mut self, _: DomId, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
        Ok(Indices::default())
    }

    fn disconnect(&mut self, _: DomId) {}
}

/// One test at a time: some look at the memory of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

struct Store {
    server: Server,
    dom0: ConnId,
    _alone: MutexGuard<'static, ()>,
    /// Bytes of records.
    journal: usize,
}

impl Store {
    fn new() -> Self {
        let mut server = Server::new();
        let dom0 = server.open_socket();
        Self {
            server,
            dom0,
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
            journal: 0,
        }
    }

    fn guest(&mut self, n: DomId) -> ConnId {
        for (kind, payload) in [
            (Kind::Mkdir, format!("/local/domain/{n}/data\0")),
            (Kind::SetPerms, format!("/local/domain/{n}\0n0\0r{n}\0")),
            (Kind::SetPerms, format!("/local/domain/{n}/data\0n{n}\0")),
            (Kind::Introduce, format!("{n}\x001\x005\0")),
        ] {
            self.ask(self.dom0, kind, 0, payload.as_bytes()).unwrap();
        }
        ConnId::Domain(n)
    }

    /// The reply to a request. Events are taken too, and thrown away.
    fn ask(
        &mut self,
        id: ConnId,
        kind: Kind,
        tx: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let request = message(kind, 7, tx, payload);
        let header = Header::decode(request.first_chunk().unwrap());
        self.server.receive(id, header, payload, &mut NoRings);
        self.server.take_told();
        self.journal += self
            .server
            .take_records()
            .iter()
            .map(Record::len)
            .sum::<usize>();
        let outbox = self.server.outbox(id).unwrap();
        let all = outbox.rest();
        outbox.advance(all.len());
        let mut rest = all.as_slice();
        while let Some(head) = rest.first_chunk::<HEADER>() {
            let header = Header::decode(head);
            let (message, more) = rest.split_at(HEADER + header.len as usize);
            let payload = message[HEADER..].to_vec();
            match Kind::from_number(header.kind).unwrap() {
                Kind::WatchEvent => rest = more,
                Kind::Error => {
                    let name = String::from_utf8(payload).unwrap();
                    return Err(StoreError::from_name(name.trim_end_matches('\0')));
                }
                _ => return Ok(payload),
            }
        }
        panic!("no answer");
    }

    fn start(&mut self, id: ConnId) -> u32 {
        let answer = self.ask(id, Kind::TransactionStart, 0, b"\0").unwrap();
        let text = String::from_utf8(answer).unwrap();
        text.trim_end_matches('\0').parse().unwrap()
    }

    /// The steps that a request takes.
    fn work(&mut self, id: ConnId, kind: Kind, tx: u32, payload: &[u8]) -> u64 {
        let before = self.server.work();
        self.ask(id, kind, tx, payload).unwrap();
        self.server.work() - before
    }
}

fn deep(levels: usize) -> String {
    format!("data/{}\0", vec!["a"; levels].join("/"))
}

/// MiB of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

const MEMORY: usize = 2560 * 1024;

#[test]
fn transactions_that_make_and_remove_a_deep_path_keep_nothing_of_it() {
    let mut store = Store::new();
    let guest = store.guest(5);
    let path = deep(900);
    let before = resident();
    for _ in 0..11 {
        let tx = store.start(guest);
        for _ in 0..142 {
            let made = store.ask(guest, Kind::Write, tx, path.as_bytes());
            let gone = store.ask(guest, Kind::Rm, tx, b"data/a\0");
            if made.is_err() && gone.is_err() {
                break;
            }
        }
    }
    let held = store.server.memory_of(5);
    assert!(held <= MEMORY, "{held}");
    let grown = resident().saturating_sub(before);
    assert!(grown <= 16, "{grown} MiB");
}

#[test]
fn open_transactions_keep_no_copy_of_the_store() {
    let mut store = Store::new();
    let guests: Vec<ConnId> = (10..13).map(|n| store.guest(n)).collect();
    let fill = |store: &mut Store, guest: ConnId, round: u8| {
        for n in 0..990 {
            let mut payload = format!("data/{}/{n}\0", n / 60).into_bytes();
            payload.extend([round; 1900]);
            if store.ask(guest, Kind::Write, 0, &payload).is_err() {
                break;
            }
        }
    };
    for guest in &guests {
        fill(&mut store, *guest, 0);
    }
    let before = resident();
    for round in 1..3 {
        for guest in &guests {
            store.start(*guest);
            for other in &guests {
                fill(&mut store, *other, round);
            }
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown <= 16, "{grown} MiB by transactions that do nothing");
}

#[test]
fn looks_at_absent_names_are_charged() {
    let mut store = Store::new();
    let guest = store.guest(5);
    let before = resident();
    for _ in 0..11 {
        let Ok(answer) = store.ask(guest, Kind::TransactionStart, 0, b"\0") else {
            break;
        };
        let text = String::from_utf8(answer).unwrap();
        let tx = text.trim_end_matches('\0').parse().unwrap();
        for n in 0..1100 {
            let path = format!("data/{n}{}\0", "z".repeat(2000));
            if store.ask(guest, Kind::Read, tx, path.as_bytes()) == Err(StoreError::NoSpc) {
                break;
            }
        }
    }
    let held = store.server.memory_of(5);
    assert!(held <= MEMORY, "{held}");
    assert!(resident().saturating_sub(before) <= 16);
}

#[test]
fn watches_with_long_tokens_are_charged() {
    let mut store = Store::new();
    let guest = store.guest(5);
    let value = [b'v'; 1900];
    for n in 0..990 {
        let payload = [format!("data/{}/{n}\0", n / 60).as_bytes(), &value].concat();
        let _ = store.ask(guest, Kind::Write, 0, &payload);
    }
    let full = (0..129).find_map(|n| {
        let payload = format!("/\0{n}{}\0", "t".repeat(4000));
        store.ask(guest, Kind::Watch, 0, payload.as_bytes()).err()
    });
    assert_eq!(full, Some(StoreError::NoSpc));
    assert!(store.server.memory_of(5) <= MEMORY);
}

/// A request of 1.8 KiB once took 8 ms and 400 KiB of the journal.
#[test]
fn a_deep_path_costs_about_its_length() {
    let mut store = Store::new();
    let guest = store.guest(5);
    let path = deep(900);
    store.journal = 0;
    let work = store.work(guest, Kind::Write, 0, path.as_bytes());
    assert!(work <= 4 * 900, "{work} steps to make 900 nodes");
    assert!(store.journal <= 2 * path.len(), "{} bytes", store.journal);
    store.journal = 0;
    let work = store.work(guest, Kind::Rm, 0, b"data/a\0");
    assert!(work <= 2 * 900, "{work} steps to remove 900 nodes");
    assert!(store.journal <= 200, "{} bytes", store.journal);
    // And beside its own work, a request that makes nothing costs what its path is long.
    store.ask(guest, Kind::Write, 0, path.as_bytes()).unwrap();
    let work = store.work(guest, Kind::Write, 0, path.as_bytes());
    assert!(work <= 2 * 900, "{work} steps to write one node");
}

/// The commit of 250 such requests once took 0.6 s and 100 MiB of the journal.
#[test]
fn a_commit_writes_each_node_once() {
    let mut store = Store::new();
    let guest = store.guest(5);
    let path = deep(900);
    let tx = store.start(guest);
    for n in 0..125 {
        store.ask(guest, Kind::Write, tx, path.as_bytes()).unwrap();
        if n < 124 {
            store.ask(guest, Kind::Rm, tx, b"data/a\0").unwrap();
        }
    }
    store.journal = 0;
    let work = store.work(guest, Kind::TransactionEnd, tx, b"T\0");
    assert!(work <= 8 * 900, "{work} steps");
    assert!(
        store.journal <= 2 * path.len() + 200,
        "{} bytes",
        store.journal
    );
}

/// 1,100 nodes by a guest's own connection, in as many ways as there are to write them.
#[test]
fn the_thousandth_node_is_the_last() {
    let quota = Quota::default().nodes as usize;
    // Flat, in directories, deep, each in a transaction, all in one.
    for way in 0..5 {
        let mut store = Store::new();
        let guest = store.guest(5);
        let neighbour = store.guest(6);
        let all = if way == 4 { store.start(guest) } else { 0 };
        let mut made = 0;
        let mut refused = None;
        for n in 0..1100 {
            let path = match way {
                0 => format!("data/{n}\0"),
                2 => format!("data/{}/{}\0", n / 30, vec!["d"; n % 30 + 1].join("/")),
                _ => format!("data/{}/{n}\0", n / 40),
            };
            let tx = if way == 3 { store.start(guest) } else { all };
            let written = store.ask(guest, Kind::Write, tx, path.as_bytes());
            let committed = if way == 3 && written.is_ok() {
                store.ask(guest, Kind::TransactionEnd, tx, b"T\0")
            } else {
                Ok(Vec::new())
            };
            match written.and(committed) {
                Ok(_) => made += 1,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        if way == 4 {
            store.ask(guest, Kind::TransactionEnd, all, b"T\0").unwrap();
        }
        assert_eq!(refused, Some(StoreError::NoSpc), "way {way}: {made} made");
        let owned = store.server.tree().usage(5).nodes as usize;
        assert!(owned <= quota, "way {way}: {owned}");
        // One directory of so many names is too large a node before that (node-size).
        assert!(way == 0 || owned > quota - 40, "way {way}: {owned}");
        store
            .ask(neighbour, Kind::Write, 0, b"data/mine\0v")
            .unwrap();
        assert_eq!(
            store.ask(neighbour, Kind::Read, 0, b"data/mine\0"),
            Ok(b"v".to_vec())
        );
    }
}
