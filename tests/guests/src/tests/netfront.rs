//! A network card's front end that misbehaves (xen/io/netif.h): requests that cannot be, grants
//! that are taken back too early, indices that jump, a guest that dies in the middle of it. dom0's
//! driver has to cope, and the toolset has to clean up.

use core::sync::atomic::{Ordering, fence};

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::random::Random;
use crate::base::store::{Store, decimal, join};
use crate::base::{clock, console, hypercall};

/// Places in RAM above the kernel: grant table, the two rings, packets.
const TABLE: u64 = 0x0060_0000;
const TX: u64 = 0x0070_0000;
const RX: u64 = 0x0070_1000;
const DATA: u64 = 0x0070_2000;
const PAGES: u64 = 64;
/// The grant of each of them, above the console's and the store's.
const TX_REF: u32 = 8;
const RX_REF: u32 = 9;
const DATA_REF: u32 = 16;

const FRONT: &str = "device/vif/0";

pub fn abuse(cx: &mut Setting) {
    set_up_grants();
    let port = connect();
    println!("CONNECTED");
    let mut random = Random::new(cx.random.next());
    // Packets that are right, so that there is I/O to be in the middle of.
    for n in 0..16 {
        send(n, &request(DATA_REF + n % 8, 0, 0, 64));
    }
    offer_buffers(&mut random, false);
    hypercall::send(port);
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut sent = 16u32;
    while !deadline.is_over() {
        for _ in 0..random.below(24) {
            let nonsense = nonsense(&mut random);
            send(sent, &nonsense);
            sent = sent.wrapping_add(1);
        }
        if random.one_in(8) {
            offer_buffers(&mut random, true);
        }
        hypercall::send(port);
        if random.one_in(2) {
            revoke(&mut random);
        }
        if random.one_in(200) {
            jump(&mut random);
            hypercall::send(port);
        }
        if random.one_in(16) {
            clock::sleep_ms(1);
        }
    }
    println!("PASS {} sent={sent}", cx.name);
    console::drain();
    // The end comes while requests are under way, without a word to the other side.
    match random.below(3) {
        0 => hypercall::shutdown(abi::SHUTDOWN_CRASH),
        1 => hypercall::shutdown(abi::SHUTDOWN_POWEROFF),
        _ => loop {
            send(sent, &nonsense(&mut random));
            sent = sent.wrapping_add(1);
            hypercall::send(port);
        },
    }
}

fn set_up_grants() {
    let mut add = abi::AddToPhysmap {
        domid: abi::DOMID_SELF,
        size: 0,
        space: abi::XENMAPSPACE_GRANT_TABLE,
        idx: 0,
        gpfn: TABLE >> 12,
    };
    let result = hypercall::memory(abi::XENMEM_ADD_TO_PHYSMAP, &mut add);
    assert!(result == 0, "no grant table: {result}");
    grant(TX_REF, TX);
    grant(RX_REF, RX);
    for page in 0..PAGES {
        grant(DATA_REF + page as u32, DATA + page * 4096);
    }
    for ring in [TX, RX] {
        poke(ring + 4, 1);
        poke(ring + 12, 1);
    }
}

fn grant(reference: u32, page: u64) {
    set_entry(
        reference,
        page >> 12 << 32 | u64::from(abi::GTF_PERMIT_ACCESS),
    );
}

fn set_entry(reference: u32, entry: u64) {
    // SAFETY: the table is mapped there, 512 entries of it, and belongs to no Rust object.
    unsafe { ((TABLE + u64::from(reference) * 8) as *mut u64).write_volatile(entry) };
}

/// Returns the event channel's port.
fn connect() -> u32 {
    let mut store = Store::open();
    let mut room = [0; 64];
    let link = store.read(join(&mut room, &[FRONT, "/backend"]));
    let link = link.expect("a card");
    let mut room = [0; 128];
    let state = join(&mut room, &[link.text(), "/state"]);
    await_state(&mut store, state, &["2", "4"]);
    let mut alloc = abi::EvtchnAllocUnbound {
        dom: abi::DOMID_SELF,
        remote_dom: 0,
        port: 0,
    };
    let result = hypercall::event(abi::EVTCHNOP_ALLOC_UNBOUND, &mut alloc);
    assert!(result == 0, "no port: {result}");
    for (name, value) in [
        ("tx-ring-ref", TX_REF),
        ("rx-ring-ref", RX_REF),
        ("event-channel", alloc.port),
        ("request-rx-copy", 1),
        ("feature-rx-notify", 1),
        ("feature-sg", 1),
        ("feature-gso-tcpv4", 1),
        ("state", 4),
    ] {
        let (mut room, mut digits) = ([0; 64], [0; 20]);
        let path = join(&mut room, &[FRONT, "/", name]);
        let value = decimal(value.into(), &mut digits);
        assert!(store.write(path, value), "cannot write {path}");
    }
    await_state(&mut store, state, &["4"]);
    alloc.port
}

fn await_state(store: &mut Store, path: &str, wanted: &[&str]) {
    let deadline = Deadline::after_seconds(60);
    while store
        .read(path)
        .is_none_or(|state| !wanted.contains(&state.text()))
    {
        assert!(!deadline.is_over(), "the back end does not connect");
        clock::sleep_ms(10);
    }
}

fn request(gref: u32, offset: u16, flags: u16, size: u16) -> [u8; 12] {
    let mut bytes = [0; 12];
    let request = abi::NetifTxRequest {
        gref,
        offset,
        flags,
        id: gref as u16,
        size,
    };
    bytes.copy_from_slice(bytemuck::bytes_of(&request));
    bytes
}

/// Something in the form of a request or of more about one.
fn nonsense(random: &mut Random) -> [u8; 12] {
    let flags = random.pick(&[0, 0, 1, 2, 4, 4, 4, 8, 12, 0xffff]);
    let size = random.pick(&[0, 1, 13, 14, 64, 1514, 4096, 4097, 0xffff]);
    let offset = random.pick(&[0, 0, 1, 2048, 4095, 4096, 0xffff]);
    let gref = match random.below(4) {
        0 => random.nasty() as u32,
        1 => random.below(512) as u32,
        _ => DATA_REF + random.below(PAGES) as u32,
    };
    match random.below(8) {
        0 => core::array::from_fn(|_| random.next() as u8),
        // As the kind of more about it: a large segment of no size, a wrong kind, one more to come.
        1 => {
            let kind = random.pick(&[0, 1, 1, 2, 3, 4, 5, 255]);
            let more = random.pick(&[0, 1]);
            [
                kind,
                more,
                0,
                0,
                random.pick(&[0, 1, 2, 9]),
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ]
        }
        _ => request(gref, offset, flags, size),
    }
}

/// Puts it into the ring and moves the producer's index.
fn send(index: u32, slot: &[u8; 12]) {
    let place = TX + 64 + u64::from(index % abi::NETIF_TX_RING_SLOTS as u32) * 12;
    for (offset, byte) in slot.iter().enumerate() {
        // SAFETY: within the ring's page, which belongs to no Rust object.
        unsafe { ((place + offset as u64) as *mut u8).write_volatile(*byte) };
    }
    fence(Ordering::SeqCst);
    poke(TX, index.wrapping_add(1));
}

/// Pages to receive into; some that are none.
fn offer_buffers(random: &mut Random, wrong: bool) {
    let first = peek(RX);
    for n in 0..16 {
        let index = first.wrapping_add(n);
        let gref = match wrong && random.one_in(4) {
            true => random.nasty() as u32,
            false => DATA_REF + 32 + n,
        };
        let place = RX + 64 + u64::from(index % abi::NETIF_RX_RING_SLOTS as u32) * 8;
        poke(place, n);
        poke(place + 4, gref);
    }
    fence(Ordering::SeqCst);
    poke(RX, first.wrapping_add(16));
}

/// Takes a grant back that may be in use, and gives it again or gives nonsense.
fn revoke(random: &mut Random) {
    let page = random.below(PAGES);
    let reference = DATA_REF + page as u32;
    set_entry(reference, 0);
    match random.below(4) {
        0 => set_entry(reference, random.next() << 32 | 1),
        1 => set_entry(reference, (DATA + page * 4096) >> 12 << 32 | 5),
        _ => grant(reference, DATA + page * 4096),
    }
}

/// More requests than a ring has.
fn jump(random: &mut Random) {
    let ring = random.pick(&[TX, RX]);
    poke(ring, peek(ring).wrapping_add(random.nasty() as u32));
}

fn poke(at: u64, value: u32) {
    // SAFETY: within the rings' pages, which belong to no Rust object.
    unsafe { (at as *mut u32).write_volatile(value) };
}

fn peek(at: u64) -> u32 {
    // SAFETY: as above.
    unsafe { (at as *const u32).read_volatile() }
}
