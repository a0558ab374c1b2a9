//! Guests that write anything into their rings, and clients that come and go, checked against the
//! properties that must hold all the same.
//!
//! For tests only: [`run`] does a number of turns from a seed, the same each time, and panics where
//! a console does more than it may, loses what an honest guest printed, or would be served forever.

use core::mem::offset_of;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use guest_pv_abi::console::XenconsInterface as Layout;
use oxen_sys::SharedMemory;

use crate::clients::{Clients, Consoles};
use crate::console::{Console, Page, Sinks};
use crate::log::Log;
use crate::rate::PAUSE;
use crate::replay::Replay;

/// Counts of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub turns: u64,
    /// Consoles that were opened again, as after the daemon's death.
    pub restarts: u64,
    /// Rings whose indices made no sense.
    pub faults: u64,
    pub clients: u64,
}

const PAGE: usize = 4096;
const IN_SIZE: usize = 1024;
const OUT_SIZE: usize = 2048;
/// The size at which log files are put aside.
const LOG: u64 = 16 << 10;
const UUID: [u8; 16] = [7; 16];

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn index(&mut self) -> u32 {
        let word = self.next() as u32;
        let edges = [
            0,
            1,
            1024,
            1025,
            2048,
            2049,
            1 << 31,
            u32::MAX,
            u32::MAX - 2047,
        ];
        edges[self.below(edges.len())].wrapping_add(if word & 1 == 0 { 0 } else { word >> 20 })
    }
}

/// Does that many turns with a guest's console, and some with clients, in an empty directory.
///
/// # Panics
/// If a property does not hold.
#[must_use]
pub fn run(seed: u64, turns: u64, scratch: &Path) -> Counts {
    let mut random = Random(seed);
    let mut counts = Counts::default();
    while counts.turns < turns {
        match random.below(8) {
            0..3 => honest(&mut random, scratch, &mut counts),
            3..7 => hostile(&mut random, scratch, &mut counts),
            _ => clients(&mut random, scratch, &mut counts),
        }
    }
    counts
}

fn open(page: &SharedMemory, scratch: &Path, now: Instant) -> Option<Console> {
    // A console owns its page: a successor gets a copy of what its predecessor left.
    let own = SharedMemory::anonymous(PAGE).expect("a page");
    copy(page, &own, 0, PAGE);
    let sinks = Sinks {
        log: Log::open(scratch, "fuzz", UUID, LOG, |_| false).ok(),
        replay: Replay::open(&scratch.join("replay"), UUID).expect("a replay file"),
        ..Sinks::default()
    };
    Console::open(Page::Mapped(own), sinks, now).ok()
}

fn copy(from: &SharedMemory, to: &SharedMemory, at: usize, len: usize) {
    let mut bytes = vec![0; len];
    from.read(at, &mut bytes).expect("inside the page");
    to.write(at, &bytes).expect("inside the page");
}

/// The page of a guest, in which it may write anything.
fn memory(console: &Console) -> &SharedMemory {
    console.memory().expect("a page")
}

fn load(page: &SharedMemory, at: usize) -> u32 {
    page.load(at).expect("an index")
}

fn store(page: &SharedMemory, at: usize, value: u32) {
    page.store(at, value).expect("an index");
}

/// A guest that keeps to the protocol: everything arrives once and in order, both ways, however
/// often the daemon is killed between two turns.
fn honest(random: &mut Random, scratch: &Path, counts: &mut Counts) {
    let page = SharedMemory::anonymous(PAGE).expect("a page");
    let start = random.index();
    for at in [
        offset_of!(Layout, in_cons),
        offset_of!(Layout, in_prod),
        offset_of!(Layout, out_cons),
        offset_of!(Layout, out_prod),
    ] {
        store(&page, at, start);
    }
    let mut now = Instant::now();
    let mut console = open(&page, scratch, now).expect("a console");
    let mut printed: VecDeque<u8> = VecDeque::new();
    let mut typed: VecDeque<u8> = VecDeque::new();
    for _ in 0..64 {
        let (out_prod, out_cons) = (
            load(memory(&console), offset_of!(Layout, out_prod)),
            load(memory(&console), offset_of!(Layout, out_cons)),
        );
        let room = OUT_SIZE - out_prod.wrapping_sub(out_cons) as usize;
        let bytes: Vec<u8> = (0..random.below(room + 1))
            .map(|_| random.next() as u8)
            .collect();
        for (i, byte) in bytes.iter().enumerate() {
            let at = offset_of!(Layout, output) + (out_prod as usize + i) % OUT_SIZE;
            memory(&console).write(at, &[*byte]).expect("in the ring");
        }
        store(
            memory(&console),
            offset_of!(Layout, out_prod),
            out_prod.wrapping_add(bytes.len() as u32),
        );
        printed.extend(&bytes);
        let input: Vec<u8> = (0..random.below(console.input_room().min(200) + 1))
            .map(|_| random.next() as u8)
            .collect();
        console.type_in(&input);
        typed.extend(&input);
        console.rang();
        let turn = console.turn(now).expect("an honest guest");
        counts.turns += 1;
        for byte in &turn.output {
            assert_eq!(printed.pop_front(), Some(*byte), "output lost or invented");
        }
        if turn.pause {
            now += PAUSE;
        }
        take_input(memory(&console), random.below(IN_SIZE), &mut typed);
        // Input that the guest has not got yet dies with the daemon.
        if random.below(16) == 0 && console.input_room() == crate::console::INPUT {
            let page = SharedMemory::anonymous(PAGE).expect("a page");
            copy(memory(&console), &page, 0, PAGE);
            drop(console);
            console = open(&page, scratch, now).expect("a console");
            counts.restarts += 1;
        }
    }
}

/// The guest reads up to `most` bytes of its input, which is what was typed.
fn take_input(page: &SharedMemory, most: usize, typed: &mut VecDeque<u8>) {
    let mut cons = load(page, offset_of!(Layout, in_cons));
    let prod = load(page, offset_of!(Layout, in_prod));
    let waits = prod.wrapping_sub(cons) as usize;
    assert!(waits <= IN_SIZE, "more input than the ring holds");
    for _ in 0..waits.min(most) {
        let at = offset_of!(Layout, input) + cons as usize % IN_SIZE;
        let byte: u8 = page.get(at).expect("in the ring");
        assert_eq!(typed.pop_front(), Some(byte), "input lost or invented");
        cons = cons.wrapping_add(1);
    }
    store(page, offset_of!(Layout, in_cons), cons);
}

/// A guest that writes anything anywhere at any time. It costs a bounded number of looks and bytes
/// a second.
fn hostile(random: &mut Random, scratch: &Path, counts: &mut Counts) {
    let page = SharedMemory::anonymous(PAGE).expect("a page");
    let mut now = Instant::now();
    let mut since = now;
    let mut console = open(&page, scratch, now).expect("a console");
    let (mut bytes, mut looks, mut faulted) = (0u64, 0u64, false);
    // Some guests only want to be served forever.
    let patient = random.below(2) == 0;
    for _ in 0..256 {
        for _ in 0..random.below(3) {
            misbehave(random, memory(&console), patient);
        }
        let input = vec![b'x'; random.below(console.input_room().min(64) + 1)];
        console.type_in(&input);
        console.rang();
        counts.turns += 1;
        match console.turn(now) {
            Ok(turn) => {
                assert!(turn.output.len() <= OUT_SIZE);
                assert!(!faulted || turn.output.is_empty(), "served after a fault");
                assert!(!turn.pause || turn.output.is_empty());
                bytes += turn.output.len() as u64;
                looks += u64::from(!turn.pause && !faulted);
                if turn.pause {
                    now += PAUSE;
                }
            }
            Err(_) => {
                assert!(!faulted, "a fault is told once");
                faulted = true;
                counts.faults += 1;
            }
        }
        assert!(console.input_room() <= crate::console::INPUT);
        // The burst, and then so much a second.
        let seconds = now.duration_since(since).as_secs_f64();
        let most = f64::from(256 << 10) + seconds * f64::from(1 << 20);
        assert!(bytes as f64 <= most + OUT_SIZE as f64, "{bytes} bytes");
        assert!(looks as f64 <= most / 2048.0 + 1.0, "{looks} looks");
        if !patient && random.below(32) == 0 {
            let page = SharedMemory::anonymous(PAGE).expect("a page");
            copy(memory(&console), &page, 0, PAGE);
            drop(console);
            console = open(&page, scratch, now).expect("a console");
            // A successor knows nothing of the budget.
            (bytes, looks, faulted, since) = (0, 0, false, now);
            counts.restarts += 1;
        }
    }
    assert!(console.replay().len() <= 64 << 10);
    for name in ["guest-fuzz.log", "guest-fuzz.log.1"] {
        let size = std::fs::metadata(scratch.join(name)).map_or(0, |meta| meta.len());
        assert!(size <= LOG + OUT_SIZE as u64, "{name} has {size} bytes");
    }
}

fn misbehave(random: &mut Random, page: &SharedMemory, patient: bool) {
    let indices = [
        offset_of!(Layout, in_cons),
        offset_of!(Layout, in_prod),
        offset_of!(Layout, out_cons),
        offset_of!(Layout, out_prod),
    ];
    match random.below(5) {
        _ if patient => {
            let prod = load(page, offset_of!(Layout, out_prod));
            let waits = prod.wrapping_sub(load(page, offset_of!(Layout, out_cons)));
            let more = (random.below(8) as u32).min(OUT_SIZE as u32 - waits);
            store(page, offset_of!(Layout, out_prod), prod.wrapping_add(more));
        }
        0 => store(page, indices[random.below(4)], random.index()),
        1 => {
            let at = random.below(PAGE - 8);
            let bytes = random.next().to_le_bytes();
            page.write(at, &bytes).expect("inside the page");
        }
        // Mostly the guest prints, so that there is something to lose.
        _ => {
            let prod = load(page, offset_of!(Layout, out_prod));
            let more = random.below(OUT_SIZE + 1) as u32;
            store(page, offset_of!(Layout, out_prod), prod.wrapping_add(more));
        }
    }
}

/// Consoles for clients, which read as they like.
#[derive(Default)]
struct Fake {
    there: bool,
    room: usize,
}

impl Consoles for Fake {
    fn find(&self, domain: u16) -> Option<(String, Vec<u8>)> {
        (self.there && domain < 4).then(|| ("fuzz".to_owned(), b"old\n".to_vec()))
    }

    fn input_room(&self, _: u16) -> usize {
        self.room
    }

    fn type_in(&mut self, _: u16, bytes: &[u8]) {
        self.room = self
            .room
            .checked_sub(bytes.len())
            .expect("more than there is room for");
    }
}

/// Clients that say anything, read or not, and leave at any time. Once all have left nothing is
/// left to poll.
fn clients(random: &mut Random, scratch: &Path, counts: &mut Counts) {
    let path = scratch.join("socket");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("a socket");
    let mut clients = Clients::new(listener);
    let mut fake = Fake::default();
    let mut open: Vec<UnixStream> = Vec::new();
    let mut now = Instant::now();
    let words = [
        "0\n",
        "3\n",
        "1 noreplay\n",
        "2 x\n",
        "70000\n",
        "\n",
        "9\n",
        "text",
        "\u{fffd}",
    ];
    for _ in 0..128 {
        counts.turns += 1;
        match random.below(8) {
            0 | 1 if open.len() < 12 => {
                let stream = UnixStream::connect(&path).expect("a connection");
                stream.set_nonblocking(true).expect("a connection");
                open.push(stream);
                counts.clients += 1;
            }
            2 if !open.is_empty() => drop(open.swap_remove(random.below(open.len()))),
            3..6 if !open.is_empty() => {
                let client = random.below(open.len());
                let word = words[random.below(words.len())].repeat(1 + random.below(40));
                // The connection may be refused already.
                let _ = open[client].write(word.as_bytes());
            }
            6 if !open.is_empty() => {
                let client = random.below(open.len());
                let _ = open[client].read(&mut [0; 300]);
            }
            _ => {
                fake.there = random.below(4) > 0;
                fake.room = random.below(200);
                now += Duration::from_millis(random.below(4000) as u64);
                clients.output(random.below(4) as u16, &vec![b'o'; random.below(4000)]);
                if random.below(8) == 0 {
                    clients.console_ended(random.below(4) as u16);
                }
            }
        }
        clients.take_in(&mut fake, now);
        clients.send();
    }
    drop(open);
    fake.room = 0;
    for round in 0.. {
        let mut fds = clients.poll_fds(&fake);
        let at_once = rustix::event::Timespec::default();
        if rustix::event::poll(&mut fds, Some(&at_once)).expect("poll") == 0 {
            break;
        }
        drop(fds);
        assert!(round < 64, "clients that left are polled for ever");
        clients.take_in(&mut fake, now);
        clients.send();
    }
}
