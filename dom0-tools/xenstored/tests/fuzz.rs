//! Random requests of dom0 and of several guests by their rings, well-formed and not, with the daemon dying at
//! random points, against the model. Everything follows from the seed.
//!
//! The fixed part runs by default. `soak_fuzz` goes on for OXEN_FUZZ_SECONDS, from OXEN_SEED on.

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{Answer, Model, Op};
use oxen_sys::SharedMemory;
use tempfile::TempDir;
use xenstored::error::StoreError;
use xenstored::journal::{Found, Journal, Saved};
use xenstored::path::Path;
use xenstored::record::Record;
use xenstored::ring::first_message;
use xenstored::server::{ConnId, Indices, Platform, Restored, Server};
use xenstored::session::Session;
use xenstored::wire::{HEADER, Header, Kind, PAYLOAD_MAX, message};

const DOM0: u16 = 0;
const GUESTS: [u16; 3] = [1, 2, 3];
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;
/// Of each half of the ring.
const RING: usize = 1024;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    restarts: u64,
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A request that is not answered yet.
#[derive(Debug, Clone)]
struct Asked {
    id: u32,
    tx: u32,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
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
struct Open {
    log: Vec<(Op, Answer)>,
    /// The daemon died meanwhile.
    lost: bool,
}

/// The pages of all guests, and where the daemon is in them.
struct Rings {
    pages: BTreeMap<u16, Rc<SharedMemory>>,
    sessions: BTreeMap<u16, Session>,
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
struct Guest {
    to_send: VecDeque<u8>,
    asked: VecDeque<Asked>,
    /// All that the daemon wrote down for it, and how much of that was received.
    stream: Vec<u8>,
    got: usize,
    next_id: u32,
    /// It spoilt its ring.
    broken: bool,
}

struct World {
    seed: u64,
    step: usize,
    rng: Rng,
    dir: TempDir,
    journal: Option<Journal>,
    server: Server,
    rings: Rings,
    dom0: ConnId,
    guests: BTreeMap<u16, Guest>,
    model: Model,
    open: BTreeMap<(u16, u32), Open>,
    counts: Counts,
    /// The path of the last request.
    last: String,
}

/// A random run. It panics where store and model differ, and names seed and step.
fn run(seed: u64, steps: usize) -> Counts {
    let mut world = World::new(seed);
    for step in 0..steps {
        world.step = step;
        world.step();
    }
    world.finish();
    world.counts
}

impl World {
    fn new(seed: u64) -> Self {
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

    fn at(&self) -> String {
        format!("seed {} step {}", self.seed, self.step)
    }

    fn step(&mut self) {
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
    fn finish(&mut self) {
        for _ in 0..200 {
            for guest in GUESTS {
                self.guest_sends(guest);
                self.turn(guest);
                self.guest_takes(guest);
            }
        }
        self.restart();
    }

    // --- Guests ---

    fn path(&mut self) -> String {
        // Half of the time where something was just done.
        if self.rng.one_in(2) {
            return self.last.clone();
        }
        let bases = [
            "/local/domain/1",
            "/local/domain/2",
            "/local/domain/3",
            "/t",
        ];
        let mut path = (*self.rng.of(&bases)).to_owned();
        for _ in 0..self.rng.below(4) {
            path = format!("{path}/{}", self.rng.of(&["a", "b", "c"]));
        }
        self.last.clone_from(&path);
        path
    }

    fn op(&mut self) -> Op {
        let path = self.path();
        match self.rng.below(16) {
            0..3 => Op::Read(path),
            3..8 => Op::Write(path, self.rng.below(256) as u8),
            8..10 => Op::Mkdir(path),
            10..13 => Op::Rm(path),
            13 => Op::List(path),
            14 => Op::GetPerms(path),
            _ => {
                let count = 1 + self.rng.below(3);
                let perm = |_| {
                    let access = *self.rng.of(&['n', 'r', 'w', 'b']);
                    (access, self.rng.below(4) as u16)
                };
                Op::SetPerms(path, (0..count).map(perm).collect())
            }
        }
    }

    /// A request of a client, and its bytes.
    fn request(&mut self, who: u16, id: u32) -> (Asked, Vec<u8>) {
        let keys = self.open.range((who, 0)..=(who, u32::MAX));
        let open: Vec<u32> = keys.map(|((_, tx), _)| *tx).collect();
        let in_open = !open.is_empty() && !self.rng.one_in(4);
        let tx = if in_open { *self.rng.of(&open) } else { 0 };
        let (tx, what, kind, payload) = match self.rng.below(40) {
            0..4 => (0, What::Start, Kind::TransactionStart, b"\0".to_vec()),
            4..9 => {
                let tx = if self.rng.one_in(20) { 77 } else { tx };
                let commit = !self.rng.one_in(8);
                let word: &[u8] = if commit { b"T\0" } else { b"F\0" };
                (tx, What::End(commit), Kind::TransactionEnd, word.to_vec())
            }
            9 => self.other(who),
            _ => {
                let op = self.op();
                let (kind, mut payload) = op.request();
                let home = format!("/local/domain/{who}/");
                if self.rng.one_in(2) && payload.starts_with(home.as_bytes()) {
                    payload.drain(..home.len());
                }
                (tx, What::Op(op), kind, payload)
            }
        };
        self.counts.requests += 1;
        (Asked { id, tx, what }, message(kind, id, tx, &payload))
    }

    /// What the model does not know.
    fn other(&mut self, who: u16) -> (u32, What, Kind, Vec<u8>) {
        let path = self.path();
        let token = self.rng.below(10);
        let watch = format!("{path}\0{token}\0").into_bytes();
        match self.rng.below(7) {
            0 => (0, What::Reset, Kind::ResetWatches, b"\0".to_vec()),
            1 => (0, What::Other, Kind::Unwatch, watch),
            2 => {
                let payload = format!("{path}\0{}\0", self.rng.below(9)).into_bytes();
                (0, What::Other, Kind::DirectoryPart, payload)
            }
            3 if who != DOM0 => (0, What::Other, Kind::Release, b"1\0".to_vec()),
            4 => {
                // No path has such a character.
                let len = self.rng.below(200);
                let mut payload: Vec<u8> = (0..len).map(|_| self.rng.next() as u8).collect();
                payload.insert(self.rng.below(len + 1), 1);
                let kinds = [
                    Kind::Read,
                    Kind::Write,
                    Kind::Mkdir,
                    Kind::Rm,
                    Kind::SetPerms,
                    Kind::Directory,
                    Kind::TransactionEnd,
                    Kind::GetDomainPath,
                    Kind::Error,
                    Kind::WatchEvent,
                    Kind::SetTarget,
                    Kind::Control,
                ];
                (9999, What::Other, *self.rng.of(&kinds), payload)
            }
            _ => (0, What::Other, Kind::Watch, watch),
        }
    }

    fn guest_asks(&mut self, domain: u16) {
        let guest = self.guests.entry(domain).or_default();
        if guest.to_send.len() > 2 * PAYLOAD_MAX {
            return;
        }
        guest.next_id += 1;
        let id = guest.next_id;
        let (asked, bytes) = self.request(domain, id);
        let guest = self.guests.entry(domain).or_default();
        guest.asked.push_back(asked);
        guest.to_send.extend(bytes);
    }

    /// The guest puts some bytes of its requests into its ring.
    fn guest_sends(&mut self, domain: u16) {
        let most = if self.rng.one_in(2) {
            RING
        } else {
            self.rng.below(60)
        };
        let page = &self.rings.pages[&domain];
        let Some(guest) = self.guests.get_mut(&domain).filter(|g| !g.broken) else {
            return;
        };
        let (cons, prod) = (word(page, REQ_CONS), word(page, REQ_PROD));
        let room = RING - prod.wrapping_sub(cons) as usize;
        let count = room.min(most).min(guest.to_send.len());
        for (n, byte) in guest.to_send.drain(..count).enumerate() {
            page.write((prod as usize + n) % RING, &[byte]).unwrap();
        }
        let prod = prod.wrapping_add(count as u32);
        page.store(REQ_PROD, prod).unwrap();
    }

    /// The guest takes some bytes of answers: they are what was written down for it, each once.
    fn guest_takes(&mut self, domain: u16) {
        let at = self.at();
        let most = if self.rng.one_in(4) {
            self.rng.below(60)
        } else {
            RING
        };
        let page = &self.rings.pages[&domain];
        let Some(guest) = self.guests.get_mut(&domain).filter(|g| !g.broken) else {
            return;
        };
        let (cons, prod) = (word(page, RSP_CONS), word(page, RSP_PROD));
        let there = prod.wrapping_sub(cons) as usize;
        assert!(there <= RING, "{at}: the answers' index makes no sense");
        let count = there.min(most);
        for n in 0..count {
            let byte: u8 = page.get(RING + (cons as usize + n) % RING).unwrap();
            let expected = guest.stream.get(guest.got).copied();
            assert_eq!(
                Some(byte),
                expected,
                "{at}: byte {} of its answers",
                guest.got
            );
            guest.got += 1;
        }
        page.store(RSP_CONS, cons.wrapping_add(count as u32))
            .unwrap();
    }

    /// A guest writes nonsense into its page: nothing that could pass for a request.
    fn spoil(&mut self, domain: u16) {
        let page = Rc::clone(&self.rings.pages[&domain]);
        let beyond = 1 + RING as u32 + self.rng.below(1 << 30) as u32;
        let half = self
            .server
            .ring(domain)
            .map(|ring| !ring.partial.is_empty());
        match self.rng.below(3) {
            0 if half == Some(false) => {
                // A message that is too long.
                let cons = word(&page, REQ_CONS);
                let head = Header {
                    kind: 2,
                    req_id: 1,
                    tx_id: 0,
                    len: PAYLOAD_MAX as u32 + 1,
                };
                for (n, byte) in head.encode().iter().enumerate() {
                    page.write((cons as usize + n) % RING, &[*byte]).unwrap();
                }
                page.store(REQ_PROD, cons.wrapping_add(HEADER as u32))
                    .unwrap();
            }
            1 => {
                let value = word(&page, RSP_PROD).wrapping_sub(beyond);
                page.store(RSP_CONS, value).unwrap();
            }
            _ => {
                let value = word(&page, REQ_CONS).wrapping_add(beyond);
                page.store(REQ_PROD, value).unwrap();
            }
        }
        self.guests.entry(domain).or_default().broken = true;
        self.turn(domain);
        self.introduce(domain);
    }

    // --- The daemon ---

    /// A turn for one guest, which the daemon may not live to the end of.
    fn turn(&mut self, domain: u16) {
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
    fn write_down(&mut self) {
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
    fn answered(&mut self, domain: u16, bytes: Vec<u8>) {
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

    /// Is an answer the model's?
    fn compare(&mut self, who: u16, asked: &Asked, answer: Answer) {
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
    fn restart(&mut self) {
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

    fn dom0_asks(&mut self) {
        let (asked, bytes) = self.request(DOM0, 0);
        let answer = self.ask(&bytes);
        self.compare(DOM0, &asked, answer);
    }

    fn ask(&mut self, bytes: &[u8]) -> Answer {
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
    fn introduce(&mut self, domain: u16) {
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

fn word(page: &SharedMemory, at: usize) -> u32 {
    page.load(at).expect("within the page")
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

#[test]
fn fixed_seeds_agree_with_the_model() {
    let mut all = Counts::default();
    for seed in 1..=8 {
        let counts = run(seed, 2500);
        all.requests += counts.requests;
        all.restarts += counts.restarts;
    }
    assert!(all.requests > 5000 && all.restarts > 100, "{all:?}");
    assert_eq!(run(1, 500), run(1, 500), "everything follows from the seed");
}

#[test]
#[ignore = "goes on for OXEN_FUZZ_SECONDS; ./x soak fuzz runs it"]
fn soak_fuzz() {
    let number = |name: &str, default| {
        let value = std::env::var(name).ok();
        value.map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("OXEN_SEED", 1);
    let end = Instant::now() + Duration::from_secs(number("OXEN_FUZZ_SECONDS", 60));
    let mut all = Counts::default();
    let mut seed = first;
    while seed == first || Instant::now() < end {
        let counts = run(seed, 5000);
        all.requests += counts.requests;
        all.restarts += counts.restarts;
        seed = seed.wrapping_add(1);
    }
    println!(
        "fuzz xenstored: seed={first} requests={} restarts={}",
        all.requests, all.restarts
    );
}
