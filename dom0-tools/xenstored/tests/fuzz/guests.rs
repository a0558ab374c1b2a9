//! Random requests and actions of guests, and random requests of dom0.

use std::rc::Rc;

use oxen_sys::SharedMemory;
use xenstored::wire::{HEADER, Header, Kind, PAYLOAD_MAX, message};

use crate::common::Op;
use crate::world::{Asked, DOM0, What, World};

const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;
/// Of each half of the ring.
const RING: usize = 1024;

impl World {
    pub fn path(&mut self) -> String {
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

    pub fn op(&mut self) -> Op {
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
    pub fn request(&mut self, who: u16, id: u32) -> (Asked, Vec<u8>) {
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

    /// A request that the model does not know.
    pub fn other(&mut self, who: u16) -> (u32, What, Kind, Vec<u8>) {
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

    pub fn guest_asks(&mut self, domain: u16) {
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
    pub fn guest_sends(&mut self, domain: u16) {
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

    /// The guest takes some bytes of replies, which must be the expected ones, each once.
    pub fn guest_takes(&mut self, domain: u16) {
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
    pub fn spoil(&mut self, domain: u16) {
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
}

fn word(page: &SharedMemory, at: usize) -> u32 {
    page.load(at).expect("within the page")
}
