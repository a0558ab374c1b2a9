//! A front end of a disk (xen/io/blkif.h) that means harm to the back end: requests that cannot be,
//! requests that change after they were sent, grants that are revoked while they are in use,
//! indices that run away. And one that behaves, until the domain dies in the middle of its
//! requests.

use core::sync::atomic::{Ordering, fence};

use bytemuck::Zeroable;
use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::hypercall;
use crate::base::random::Random;
use crate::base::store::{Store, decimal, join};

const DEVICE: &str = "device/vbd/51712";
const TABLE: u64 = 0x0060_0000;
const RING: u64 = 0x0080_0000;
const DATA: u64 = 0x0081_0000;
/// Pages of data, and the first of their references.
const PAGES: u64 = 64;
const RING_REF: u64 = 8;
const DATA_REF: u64 = 16;
/// Sectors of the disk, at least.
const SECTORS: u64 = 2048;

pub fn hostile(cx: &mut Setting) {
    let mut front = Front::connect();
    let mut random = Random::new(cx.random.next());
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut sent = 0u64;
    while !deadline.is_over() {
        for _ in 0..8 {
            let request = malformed(&mut random);
            front.put(&request);
            sent += 1;
            if random.one_in(4) {
                front.corrupt(&mut random);
            }
        }
        front.push();
        for _ in 0..random.below(16) {
            grant_data(random.below(PAGES), random.pick(&[0, 1, 1, 5, 2, 3]));
        }
        if random.one_in(16) {
            clock::sleep_ms(1);
        }
        front.forget_answers();
    }
    // In the end the ring itself: more requests than it has places.
    front.run_away(random.pick(&[33, 1000, u32::MAX / 2]));
    println!("PASS {} sent={sent}", cx.name);
    // It stays, with all of this under way, until it is ended.
    loop {
        clock::sleep_ms(100);
    }
}

/// Requests as they should be, without end: whoever starts this test ends the domain among them.
pub fn busy(cx: &mut Setting) {
    let mut front = Front::connect();
    let mut random = Random::new(cx.random.next());
    println!("READY {}", cx.name);
    let mut done = 0u64;
    loop {
        for _ in 0..16 {
            front.put(&write(&mut random));
        }
        front.push();
        let answered = front.wait_for_answers();
        done += 16;
        assert!(answered, "no answer after {done} requests");
    }
}

struct Front {
    ring: *mut abi::RingHeader,
    prod: u32,
    port: u32,
}

impl Front {
    /// The handshake of xen/io/xenbus.h, by looking again and again.
    fn connect() -> Self {
        let mut store = Store::open();
        let mut table = abi::AddToPhysmap {
            domid: abi::DOMID_SELF,
            size: 0,
            space: abi::XENMAPSPACE_GRANT_TABLE,
            idx: 0,
            gpfn: TABLE >> 12,
        };
        let result = hypercall::memory(abi::XENMEM_ADD_TO_PHYSMAP, &mut table);
        assert!(result == 0, "no grant table: {result}");
        grant(RING_REF, RING >> 12, 1);
        for page in 0..PAGES {
            grant_data(page, 1);
        }
        let mut alloc = abi::EvtchnAllocUnbound {
            dom: abi::DOMID_SELF,
            remote_dom: 0,
            port: 0,
        };
        let result = hypercall::event(abi::EVTCHNOP_ALLOC_UNBOUND, &mut alloc);
        assert!(result == 0, "no port: {result}");
        let ring = RING as *mut abi::RingHeader;
        // SAFETY: RAM that belongs to no Rust object; the other side does not have it yet.
        unsafe {
            ring.cast::<u8>().write_bytes(0, 4096);
            (&raw mut (*ring).req_event).write_volatile(1);
            (&raw mut (*ring).rsp_event).write_volatile(1);
        }
        let mut digits = [0; 20];
        let mut set = |key: &str, value: &str| {
            let mut path = [0; 64];
            let path = join(&mut path, &[DEVICE, "/", key]);
            assert!(store.write(path, value), "cannot write {path}");
        };
        set("ring-ref", decimal(RING_REF, &mut digits));
        set("event-channel", decimal(alloc.port.into(), &mut digits));
        set("protocol", "x86_64-abi");
        set("feature-persistent", "1");
        set("state", "3");
        let mut path = [0; 64];
        let link = store.read(join(&mut path, &[DEVICE, "/backend"]));
        let link = link.expect("a link to the back end");
        let mut path = [0; 128];
        let state = join(&mut path, &[link.text(), "/state"]);
        let deadline = Deadline::after_seconds(60);
        while store.read(state).is_none_or(|it| it.text() != "4") {
            assert!(!deadline.is_over(), "the back end does not connect");
            clock::sleep_ms(5);
        }
        let mut path = [0; 64];
        store.write(join(&mut path, &[DEVICE, "/state"]), "4");
        Self {
            ring,
            prod: 0,
            port: alloc.port,
        }
    }

    fn slot(&self, index: u32) -> *mut u8 {
        let slot = index as usize % abi::BLKIF_RING_SLOTS;
        (RING as usize + 64 + slot * abi::BLKIF_RING_SLOT) as *mut u8
    }

    fn put(&mut self, request: &abi::BlkifRequest) {
        let bytes = bytemuck::bytes_of(request);
        // SAFETY: a slot of the ring, which is as long as a request.
        unsafe {
            self.slot(self.prod)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.prod = self.prod.wrapping_add(1);
    }

    /// Changes bytes of requests that the other side may be reading.
    fn corrupt(&self, random: &mut Random) {
        let at = random.below(abi::BLKIF_RING_SLOT as u64) as usize;
        let slot = self.slot(random.next() as u32);
        // SAFETY: within a slot.
        unsafe { slot.add(at).write_volatile(random.next() as u8) };
    }

    fn push(&mut self) {
        fence(Ordering::SeqCst);
        // SAFETY: the ring is mapped.
        unsafe { (&raw mut (*self.ring).req_prod).write_volatile(self.prod) };
        fence(Ordering::SeqCst);
        hypercall::send(self.port);
    }

    fn run_away(&mut self, by: u32) {
        self.prod = self.prod.wrapping_add(by);
        self.push();
    }

    fn answered(&self) -> u32 {
        // SAFETY: the ring is mapped.
        unsafe { (&raw const (*self.ring).rsp_prod).read_volatile() }
    }

    /// Waits a little until there is room for the next burst, and goes on without if there is none.
    fn forget_answers(&mut self) {
        for _ in 0..20 {
            if self.prod.wrapping_sub(self.answered()) <= 24 {
                return;
            }
            clock::sleep_ms(1);
        }
    }

    fn wait_for_answers(&mut self) -> bool {
        let deadline = Deadline::after_seconds(60);
        while self.answered() != self.prod {
            if deadline.is_over() {
                return false;
            }
            hypercall::poll(&[self.port], clock::now() + 10_000_000);
        }
        true
    }
}

fn write(random: &mut Random) -> abi::BlkifRequest {
    let mut request = abi::BlkifRequest::zeroed();
    request.operation = random.pick(&[abi::BLKIF_OP_WRITE, abi::BLKIF_OP_READ]);
    request.nr_segments = 1 + random.below(11) as u8;
    request.id = random.next();
    request.sector_number = random.below(SECTORS - 88);
    for segment in &mut request.seg {
        segment.gref = (DATA_REF + random.below(PAGES)) as u32;
        segment.last_sect = 7;
    }
    request
}

fn malformed(random: &mut Random) -> abi::BlkifRequest {
    let mut request = write(random);
    for _ in 0..random.below(4) {
        match random.below(9) {
            0 => request.operation = random.next() as u8,
            1 => request.nr_segments = random.nasty() as u8,
            2 => request.sector_number = random.nasty(),
            3 => request.handle = random.next() as u16,
            4 => {
                let at = random.below(11) as usize;
                request.seg[at].gref = random.nasty() as u32;
            }
            5 => {
                let at = random.below(11) as usize;
                request.seg[at].first_sect = random.next() as u8;
                request.seg[at].last_sect = random.next() as u8;
            }
            // A frame of the table itself, or the ring's, as data.
            6 => request.seg[0].gref = random.below(16) as u32,
            7 => {
                request.operation = abi::BLKIF_OP_DISCARD;
                request.nr_segments = random.next() as u8;
            }
            _ => {
                request.operation = abi::BLKIF_OP_INDIRECT;
                request.nr_segments = random.pick(&[abi::BLKIF_OP_WRITE, abi::BLKIF_OP_READ, 77]);
            }
        }
    }
    request
}

fn grant_data(page: u64, flags: u64) {
    grant(DATA_REF + page, (DATA >> 12) + page, flags);
}

/// An entry for dom0; flags 0 revoke it, whatever use it is in.
fn grant(reference: u64, frame: u64, flags: u64) {
    let at = (TABLE + reference * 8) as *mut u64;
    // SAFETY: the table is mapped there, and belongs to no Rust object. dom0 is domain 0.
    unsafe { at.write_volatile(frame << 32 | flags) };
}
