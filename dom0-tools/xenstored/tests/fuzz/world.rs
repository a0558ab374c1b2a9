//! The daemon, dom0, and the model that they are compared with.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use oxen_sys::SharedMemory;
use tempfile::TempDir;
use xenstored::error::StoreError;
use xenstored::journal::{Found, Journal, Saved};
use xenstored::path::Path;
use xenstored::record::Record;
use xenstored::ring::first_message;
use xenstored::server::{ConnId, Indices, Platform, Restored, Server};
use xenstored::session::Session;
use xenstored::wire::{HEADER, Header, Kind, message};

use crate::common::{Answer, Model, Op};

pub const DOM0: u16 = 0;
pub const GUESTS: [u16; 3] = [1, 2, 3];

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub restarts: u64,
}

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A request without a reply yet.
#[derive(Debug, Clone)]
pub struct Asked {
    pub id: u32,
    pub tx: u32,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Op(Op),
    Start,
    End(bool),
    /// Watches and transactions are forgotten.
    Reset,
    /// Nothing that the model knows of: watches, parts of directories, malformed requests.
    Other,
}

/// The work of a transaction, until its end.
#[derive(Default)]
pub struct Open {
    pub log: Vec<(Op, Answer)>,
    /// The daemon died meanwhile.
    pub lost: bool,
}

/// The pages of all guests, and where the daemon is in them.
pub struct Rings {
    pub pages: BTreeMap<u16, Rc<SharedMemory>>,
    pub sessions: BTreeMap<u16, Session>,
}

impl Platform for Rings {
    fn connect(&mut self, domain: u16, _: u64, _: u32, fresh: bool) -> Result<Indices, StoreError> {
        let page = self.pages.get(&domain).ok_or(StoreError::Inval)?;
        let opened = Session::open(page, domain, fresh);
        let (session, indices, _) = opened.map_err(|_| StoreError::Io)?;
        self.sessions.insert(domain, session);
        Ok(indices)
    }

    fn disconnect(&mut self, domain: u16) {
        self.sessions.remove(&domain);
    }
}

/// A guest's side.
#[derive(Default)]
pub struct Guest {
    pub to_send: VecDeque<u8>,
    pub asked: VecDeque<Asked>,
    /// All that the daemon wrote down for it, and how much of that was received.
    pub stream: Vec<u8>,
    pub got: usize,
    pub next_id: u32,
    /// The guest broke its ring.
    pub broken: bool,
}

pub struct World {
    pub seed: u64,
    pub step: usize,
    pub rng: Rng,
    pub dir: TempDir,
    pub journal: Option<Journal>,
    pub server: Server,
    pub rings: Rings,
    pub dom0: ConnId,
    pub guests: BTreeMap<u16, Guest>,
    pub model: Model,
    pub open: BTreeMap<(u16, u32), Open>,
    pub counts: Counts,
    /// The path of the last request.
    pub last: String,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let dir = TempDir::new().expect("a directory for the journal");
        let (journal, _) = Journal::open(dir.path()).expect("an empty journal");
        let mut server = Server::new();
        let page = || Rc::new(SharedMemory::anonymous(4096).expect("a page"));
        let mut world = Self {
            seed,
            step: 0,
            rng: Rng(seed),
            dir,
            journal: Some(journal),
            dom0: server.open_socket(),
            server,
            rings: Rings {
                pages: GUESTS.iter().map(|guest| (*guest, page())).collect(),
                sessions: BTreeMap::new(),
            },
            guests: BTreeMap::new(),
            model: Model::new(&[]),
            open: BTreeMap::new(),
            counts: Counts::default(),
            last: "/t".to_owned(),
        };
        world.write_down();
        for guest in GUESTS {
            world.introduce(guest);
        }
        world
    }

    pub fn at(&self) -> String {
        format!("seed {} step {}", self.seed, self.step)
    }

    pub fn step(&mut self) {
        let guest = *self.rng.of(&GUESTS);
        match self.rng.below(100) {
            0..25 => self.guest_asks(guest),
            25..45 => self.guest_sends(guest),
            45..60 => self.guest_takes(guest),
            60..80 => self.turn(guest),
            80..98 => self.dom0_asks(),
            98 if self.rng.one_in(2) => self.restart(),
            98 => self.spoil(guest),
            _ if self.rng.one_in(3) => self.introduce(guest),
            _ => {}
        }
    }

    /// All that waits is done, and all of it agrees.
    pub fn finish(&mut self) {
        for _ in 0..200 {
            for guest in GUESTS {
                self.guest_sends(guest);
                self.turn(guest);
                self.guest_takes(guest);
            }
        }
        self.restart();
    }

    // --- The daemon ---

    /// A turn for one guest, which the daemon may not live to the end of.
    pub fn turn(&mut self, domain: u16) {
        let dies = self.rng.below(300);
        if dies == 0 {
            return self.restart();
        }
        let page = Rc::clone(&self.rings.pages[&domain]);
        let Some(mut session) = self.rings.sessions.remove(&domain) else {
            return;
        };
        let slice = if self.rng.one_in(2) { u64::MAX } else { 40 };
        let served = session.serve(&page, &mut self.server, &mut self.rings, slice);
        if dies == 1 {
            self.rings.sessions.insert(domain, session);
            return self.restart();
        }
        self.write_down();
        if dies == 2 {
            self.rings.sessions.insert(domain, session);
            return self.restart();
        }
        let sent = session.send(&page, &mut self.server);
        if let Some(fault) = served.err().or(sent.err()) {
            let broken = self.guests.get(&domain).is_some_and(|g| g.broken);
            assert!(broken, "{}: domain {domain}: {fault}", self.at());
            session.fail(Ok(&page), fault);
        }
        self.rings.sessions.insert(domain, session);
    }

    /// The daemon writes its records, and only now it was done.
    pub fn write_down(&mut self) {
        let records = self.server.take_records();
        self.server.take_told();
        self.server.take_notices();
        let journal = self.journal.as_mut().expect("an open journal");
        let saved = journal.save(&records, || self.server.snapshot(), Instant::now());
        assert!(matches!(saved, Saved::Written), "{saved:?}");
        for record in records {
            if let Record::Output { domain, bytes, .. } = record {
                self.answered(domain, bytes);
            }
        }
    }

    /// A message to a guest is written down.
    pub fn answered(&mut self, domain: u16, bytes: Vec<u8>) {
        let at = self.at();
        let guest = self.guests.entry(domain).or_default();
        let (header, answer) = decode(&bytes);
        guest.stream.extend(bytes);
        if header.kind == Kind::WatchEvent as u32 {
            return;
        }
        let asked = guest.asked.pop_front();
        let asked = asked.unwrap_or_else(|| panic!("{at}: an answer to no request"));
        assert_eq!(header.req_id, asked.id, "{at}: {asked:?}");
        self.compare(domain, &asked, answer);
    }

    /// Checks that a reply is the model's.
    pub fn compare(&mut self, who: u16, asked: &Asked, answer: Answer) {
        let at = self.at();
        // The model knows no limits.
        if who != DOM0 && answer == Err(StoreError::NoSpc) && !matches!(asked.what, What::End(_)) {
            return;
        }
        let key = (who, asked.tx);
        match &asked.what {
            What::Op(op) if asked.tx == 0 => {
                let expected = self.model.run(op, who);
                assert_eq!(answer, expected, "{at}: domain {who}: {op:?}");
            }
            What::Op(op) => {
                if let Some(open) = self.open.get_mut(&key) {
                    open.log.push((op.clone(), answer));
                }
            }
            What::Start => {
                let text = answer.unwrap_or_else(|error| panic!("{at}: {error}"));
                let text = String::from_utf8(text).expect("digits");
                let id = text.trim_end_matches('\0').parse().expect("a number");
                self.open.insert((who, id), Open::default());
            }
            What::End(commit) => match (self.open.remove(&key), answer) {
                (None, answer) => {
                    assert_eq!(answer, Err(StoreError::NoEnt), "{at}: {asked:?}");
                }
                (Some(open), Ok(_)) if *commit => {
                    assert!(!open.lost, "{at}: a lost transaction was committed");
                    for (op, answer) in open.log {
                        let expected = self.model.run(&op, who);
                        assert_eq!(answer, expected, "{at}: domain {who}, at commit: {op:?}");
                    }
                }
                (Some(_), Ok(_) | Err(StoreError::Again | StoreError::NoSpc)) => {}
                (Some(_), Err(error)) => panic!("{at}: {asked:?}: {error}"),
            },
            What::Reset => self.open.retain(|(domain, _), _| *domain != who),
            What::Other => {}
        }
    }

    /// The daemon is killed, and started again on what it wrote.
    pub fn restart(&mut self) {
        self.counts.restarts += 1;
        self.journal = None;
        let (mut journal, found) = Journal::open(self.dir.path()).expect("the journal");
        let Found {
            records, damaged, ..
        } = found;
        let at = self.at();
        assert_eq!(damaged, 0, "{at}");
        let Restored { server, aside } = Server::restore(records);
        assert!(aside.is_empty(), "{at}: cannot be replayed: {aside:?}");
        self.server = server;
        self.rings.sessions.clear();
        self.server.reconnect(&mut self.rings);
        for session in self.rings.sessions.values_mut() {
            session.resume(&self.server);
        }
        self.server.take_records();
        journal.begin(&self.server.snapshot(), Instant::now());
        self.journal = Some(journal);
        self.dom0 = self.server.open_socket();
        self.open.retain(|(domain, _), _| *domain != DOM0);
        self.open.values_mut().for_each(|open| open.lost = true);
        assert!(self.server.tree().is_consistent(), "{at}");
        assert_eq!(content(&self.server), self.model.content(), "{at}");
    }

    // --- dom0 ---

    pub fn dom0_asks(&mut self) {
        let (asked, bytes) = self.request(DOM0, 0);
        let answer = self.ask(&bytes);
        self.compare(DOM0, &asked, answer);
    }

    pub fn ask(&mut self, bytes: &[u8]) -> Answer {
        let message = first_message(bytes).unwrap().expect("a whole message");
        self.server
            .receive(self.dom0, message.header, message.payload, &mut self.rings);
        self.write_down();
        let outbox = self.server.outbox(self.dom0).expect("dom0's own");
        let all = outbox.rest();
        outbox.clear();
        let mut rest = all.as_slice();
        while let Some(message) = first_message(rest).unwrap() {
            if message.header.kind != Kind::WatchEvent as u32 {
                return decode(&rest[..message.len]).1;
            }
            rest = &rest[message.len..];
        }
        panic!("{}: no answer", self.at());
    }

    /// A domain of this number goes if there is one, and a new one comes.
    pub fn introduce(&mut self, domain: u16) {
        let text = |text: String| text.into_bytes();
        let home = format!("/local/domain/{domain}");
        if self.guests.remove(&domain).is_some() {
            let release = message(Kind::Release, 1, 0, &text(format!("{domain}\0")));
            self.ask(&release).unwrap();
            self.open.retain(|(who, _), _| *who != domain);
            self.model.forget(domain);
        }
        let introduce = text(format!("{domain}\x001\x001\0"));
        self.ask(&message(Kind::Introduce, 1, 0, &introduce))
            .unwrap();
        self.guests.insert(domain, Guest::default());
        for op in [
            Op::Mkdir(home.clone()),
            Op::SetPerms(home, vec![('n', domain)]),
        ] {
            let (kind, payload) = op.request();
            let answer = self.ask(&message(kind, 1, 0, &payload));
            assert_eq!(answer, self.model.run(&op, DOM0), "{}", self.at());
        }
    }
}

fn decode(bytes: &[u8]) -> (Header, Answer) {
    let (head, payload) = bytes.split_at(HEADER);
    let header = Header::decode(head.try_into().expect("a header"));
    let answer = if header.kind == Kind::Error as u32 {
        let name = String::from_utf8_lossy(payload);
        Err(StoreError::from_name(name.trim_end_matches('\0')))
    } else {
        Ok(payload.to_vec())
    };
    (header, answer)
}

/// All nodes as text, in order.
fn content(server: &Server) -> Vec<String> {
    let all = server.tree().root().walk(&Path::root());
    let text = |(path, node): &(Path, &xenstored::tree::Node)| {
        let perms: Vec<String> = node.perms.iter().map(ToString::to_string).collect();
        let value = String::from_utf8_lossy(&node.value);
        (
            path.to_string(),
            format!("{path} {value} {}", perms.join(",")),
        )
    };
    let mut all: Vec<(String, String)> = all.iter().map(text).collect();
    all.sort();
    all.into_iter().map(|(_, text)| text).collect()
}
