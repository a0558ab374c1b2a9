//! The cost of dom0's requests beside hostile guests, counted in steps of work: the daemon's loop,
//! without its system calls, on rings whose guests send requests as fast as they can.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use oxen_sys::SharedMemory;
use xenstored::error::StoreError;
use xenstored::server::{ConnId, Indices, Platform, Server};
use xenstored::session::Session;
use xenstored::turns::{SLICE, TURN, Turns, rest};
use xenstored::wire::{Header, Kind, message};

const RING: usize = 1024;
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

/// Steps that the system calls of a turn of the loop take at least: to look what arrived, to take
/// it in, to write the journal, to send a reply.
const LOOP: u64 = 32;
/// Requests of dom0 that are measured.
const REQUESTS: u64 = 400;

#[derive(Default)]
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

    fn disconnect(&mut self, _: u16) {}
}

/// How a guest makes the store work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Makes a path of 900 levels and takes it away.
    Deep,
    /// Commits transactions of hundreds of nodes.
    Commits,
    /// Makes hundreds of nodes and takes them away at once.
    Trees,
    /// Has 129 watches on what it writes.
    Watches,
}

const ATTACKS: [Attack; 4] = [
    Attack::Deep,
    Attack::Commits,
    Attack::Trees,
    Attack::Watches,
];

struct Guest {
    attack: Attack,
    to_send: VecDeque<u8>,
    round: u32,
}

impl Guest {
    /// More requests than the ring can hold.
    fn fill(&mut self) {
        while self.to_send.len() < 2 * RING {
            self.round += 1;
            self.more();
        }
    }

    fn ask(&mut self, kind: Kind, tx: u32, payload: &[u8]) {
        self.to_send.extend(message(kind, self.round, tx, payload));
    }

    fn more(&mut self) {
        let round = self.round;
        match self.attack {
            Attack::Deep => {
                let path = format!("data/{}\0", vec!["a"; 900].join("/"));
                self.ask(Kind::Write, 0, path.as_bytes());
                self.ask(Kind::Rm, 0, b"data/a\0");
            }
            Attack::Commits => {
                // Numbers are given in order, as none is open.
                self.ask(Kind::TransactionStart, 0, b"\0");
                for n in 0..450 {
                    let path = format!("data/{}/{n}\0{round}", n / 40);
                    self.ask(Kind::Write, round, path.as_bytes());
                }
                self.ask(Kind::TransactionEnd, round, b"T\0");
            }
            Attack::Trees => {
                for n in 0..900 {
                    let path = format!("data/t/{}/{n}\0", n / 40);
                    self.ask(Kind::Write, 0, path.as_bytes());
                }
                self.ask(Kind::Rm, 0, b"data/t\0");
            }
            Attack::Watches => {
                if round <= 129 {
                    let watch = format!("data\0{round}\0");
                    self.ask(Kind::Watch, 0, watch.as_bytes());
                }
                let path = format!("data/{}\0v", round % 30);
                self.ask(Kind::Write, 0, path.as_bytes());
                self.ask(Kind::Directory, 0, b"data\0");
            }
        }
    }

    /// Puts in what fits and takes out all there is. True if the daemon is to be notified.
    fn work(&mut self, page: &SharedMemory) -> bool {
        self.fill();
        let word = |at| page.load(at).unwrap();
        let (cons, prod) = (word(REQ_CONS), word(REQ_PROD));
        let room = RING - prod.wrapping_sub(cons) as usize;
        for (n, byte) in self.to_send.drain(..room).enumerate() {
            page.write((prod as usize + n) % RING, &[byte]).unwrap();
        }
        page.store(REQ_PROD, prod.wrapping_add(room as u32))
            .unwrap();
        let made_room = word(RSP_CONS) != word(RSP_PROD);
        page.store(RSP_CONS, word(RSP_PROD)).unwrap();
        room > 0 || made_room
    }
}

struct Daemon {
    server: Server,
    rings: Rings,
    guests: BTreeMap<u16, Guest>,
    turns: Turns,
    dom0: ConnId,
    /// Steps in which there was nothing to do.
    idle: u64,
    guests_rest: u64,
    longest_turn: u64,
}

impl Daemon {
    fn new(attacks: &[Attack]) -> Self {
        let mut server = Server::new();
        let dom0 = server.open_socket();
        let mut daemon = Self {
            server,
            rings: Rings::default(),
            guests: BTreeMap::new(),
            turns: Turns::default(),
            dom0,
            idle: 0,
            guests_rest: 0,
            longest_turn: 0,
        };
        for (n, attack) in (1..).zip(attacks) {
            let page = Rc::new(SharedMemory::anonymous(4096).unwrap());
            daemon.rings.pages.insert(n, page);
            for (kind, payload) in [
                (Kind::Mkdir, format!("/local/domain/{n}/data\0")),
                (Kind::SetPerms, format!("/local/domain/{n}/data\0n{n}\0")),
                (Kind::Introduce, format!("{n}\x001\x005\0")),
            ] {
                daemon.dom0_asks(kind, payload.as_bytes());
            }
            let guest = Guest {
                attack: *attack,
                to_send: VecDeque::new(),
                round: 0,
            };
            daemon.guests.insert(n, guest);
        }
        daemon
    }

    fn clock(&self) -> u64 {
        self.server.work() + self.idle
    }

    fn dom0_asks(&mut self, kind: Kind, payload: &[u8]) {
        let bytes = message(kind, 1, 0, payload);
        let header = Header::decode(bytes.first_chunk().unwrap());
        self.server
            .receive(self.dom0, header, payload, &mut self.rings);
        self.server.take_records();
        let outbox = self.server.outbox(self.dom0).unwrap();
        assert!(!outbox.is_empty());
        outbox.clear();
    }

    fn guests_turn(&mut self) {
        let mut asking = BTreeSet::new();
        for (domain, guest) in &mut self.guests {
            if guest.work(&self.rings.pages[domain]) {
                asking.insert(*domain);
            }
        }
        // The guests send requests whenever they can.
        let (rings, mut served) = (&mut self.rings, Vec::new());
        let used = self
            .turns
            .serve(&asking, &mut self.server, |domain, server| {
                served.push(domain);
                let page = Rc::clone(&rings.pages[&domain]);
                let mut session = rings.sessions.remove(&domain).unwrap();
                let more = session.serve(&page, server, rings, SLICE).unwrap();
                rings.sessions.insert(domain, session);
                more
            });
        self.server.take_records();
        served.extend(self.server.take_told());
        for domain in served {
            if let Some(session) = self.rings.sessions.get_mut(&domain) {
                let page = &self.rings.pages[&domain];
                session.send(page, &mut self.server).unwrap();
            }
        }
        self.server.take_notices();
        self.longest_turn = self.longest_turn.max(used);
        self.idle += LOOP;
        let pause = rest(used, Duration::from_nanos(used));
        self.guests_rest = self.clock() + pause.as_nanos() as u64;
    }

    /// The mean steps from dom0's request to its reply, over requests at random moments.
    fn measure(&mut self) -> f64 {
        let requests: [(Kind, &[u8]); 3] = [
            (Kind::Write, b"/local/domain/0/backend/x/state\x004"),
            (Kind::Read, b"/local/domain/0/backend/x/state\0"),
            (Kind::Directory, b"/local/domain/0/backend\0"),
        ];
        // The attacks get going.
        for _ in 0..2000 {
            self.guests_turn();
        }
        let mut random = 1u32;
        let mut sum = 0;
        let mut asked = self.clock();
        let mut done = 0;
        while done < REQUESTS {
            if asked <= self.clock() {
                let (kind, payload) = requests[done as usize % requests.len()];
                self.dom0_asks(kind, payload);
                self.idle += LOOP;
                sum += self.clock() - asked;
                done += 1;
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                asked = self.clock() + u64::from(random >> 24);
            }
            if self.guests.is_empty() {
                self.idle += asked.saturating_sub(self.clock());
            } else if self.guests_rest <= self.clock() {
                self.guests_turn();
            } else {
                let next = asked.min(self.guests_rest);
                self.idle += next.saturating_sub(self.clock());
            }
        }
        sum as f64 / REQUESTS as f64
    }
}

fn ratio(attacks: &[Attack]) -> (f64, u64) {
    let quiet = Daemon::new(&[]).measure();
    let mut beside = Daemon::new(attacks);
    (beside.measure() / quiet, beside.longest_turn)
}

#[test]
fn dom0_takes_at_most_five_times_as_long_beside_four_hostile_guests() {
    let mut mixes: Vec<Vec<Attack>> = ATTACKS.map(|attack| vec![attack; 4]).to_vec();
    mixes.push(ATTACKS.to_vec());
    for mix in mixes {
        let (ratio, longest) = ratio(&mix);
        println!("{mix:?}: {ratio:.2} times as long, longest turn {longest} steps");
        assert!(ratio <= 5.0, "{mix:?}: {ratio:.2} times as long");
    }
}

/// No turn is longer than the largest request that the quotas allow, whatever many guests request.
#[test]
fn a_turn_is_bounded_by_work() {
    const LARGEST: u64 = 8 * 1024;
    for guests in [4, 32] {
        let attacks: Vec<Attack> = ATTACKS.iter().copied().cycle().take(guests).collect();
        let mut daemon = Daemon::new(&attacks);
        for _ in 0..4000 {
            daemon.guests_turn();
        }
        let longest = daemon.longest_turn;
        assert!(
            longest <= TURN + LARGEST,
            "{guests} guests: {longest} steps"
        );
    }
}

#[test]
#[ignore = "prints what ./x bench shows"]
fn figures() {
    let (mixed, longest) = ratio(&ATTACKS);
    let worst = ATTACKS.map(|attack| ratio(&[attack; 4]).0);
    println!("figure store-hostile {mixed:.3}");
    println!(
        "figure store-hostile-worst {:.3}",
        worst.into_iter().fold(0.0, f64::max)
    );
    println!("figure store-turn {longest}");
}
