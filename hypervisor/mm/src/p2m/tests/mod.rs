//! The p2m's operations, one by one; against a model in [`model`]; log-dirty mode in [`log`];
//! lists in [`together`]; the paging pool in [`pool`].

mod exec;
mod log;
mod model;
mod pool;
mod together;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use oxen_core::seams::{
    Access, FaultKind, FrameSource, GuestMemory, MapKind, Mapped, P2mEntry as P2m, PageRef,
};
use oxen_types::{Gaddr, Mfn};

use super::*;
use crate::frames::{AllocOptions, test_table};
use crate::pt::{Ept, Npt};

const DOM: DomainId = DomainId(5);
const OTHER: DomainId = DomainId(6);
const POOL: u64 = 128;

/// Counts flushes, and notes how much memory was free at the last one.
#[derive(Default)]
struct Log {
    flushes: AtomicU64,
    free_then: AtomicU64,
}

struct LoggedFlush(&'static FrameTable, Arc<Log>);

impl FlushGuest for LoggedFlush {
    fn flush(&self, _: Cause<'_>) {
        self.1.flushes.fetch_add(1, Ordering::Relaxed);
        let free = self.0.stats().free_frames;
        self.1.free_then.store(free, Ordering::Relaxed);
    }
}

fn config(owner: DomainId) -> SpaceConfig {
    SpaceConfig {
        owner,
        identity: false,
        address_bits: 40,
        max_frames: 1 << 20,
        pool_pages: POOL,
        rules: Rules {
            large_exec: true,
            guest_pat: true,
        },
    }
}

fn space_of<F: Format>(
    frames: &'static FrameTable,
    config: SpaceConfig,
) -> (GuestSpace<F>, Arc<Log>) {
    let log = Arc::new(Log::default());
    let flush = Box::new(LoggedFlush(frames, log.clone()));
    (GuestSpace::new(frames, config, flush).unwrap(), log)
}

fn space(frames: &'static FrameTable) -> (GuestSpace<Npt>, Arc<Log>) {
    space_of(frames, config(DOM))
}

fn flushes(log: &Log) -> u64 {
    log.flushes.load(Ordering::Relaxed)
}

fn g(n: u64) -> Gfn {
    Gfn::new(n)
}

#[test]
fn superpages_where_memory_allows_and_small_pages_else() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    space.populate(g(0x200), 9).unwrap();
    assert_eq!(space.leaf(g(0x3ff)).unwrap().level, 2);
    // Leave nothing but single frames free: every second one of what is there.
    let mut held: Vec<Mfn> = Vec::new();
    while let Some(mfn) = frames.alloc_own(0, OTHER, AllocOptions::default()) {
        held.push(mfn);
    }
    for mfn in held.iter().filter(|mfn| mfn.raw() % 2 == 0) {
        frames.free_own(*mfn, 1);
    }
    space.populate(g(0x400), 9).unwrap();
    assert_eq!(space.leaf(g(0x400)).unwrap().level, 1);
    assert_eq!(
        (space.ram_frames(), space.max_gfn(), flushes(&log)),
        (1024, g(0x5ff), 0)
    );
    // Not enough for another: nothing is left of the attempt.
    let before = (frames.stats(), space.table_pages());
    let left = before.0.free_frames;
    let fits = (0..).take_while(|order| 1 << order <= left).count() as u32;
    assert_eq!(space.populate(g(1 << 20), fits), Err(Errno::NoMem));
    assert_eq!(
        (frames.stats(), space.table_pages(), space.ram_frames()),
        (before.0, before.1, 1024)
    );
}

#[test]
fn populate_checks_what_it_is_asked() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    assert_eq!(space.populate(g(1), 1), Err(Errno::Inval));
    assert_eq!(space.populate(g(0), 19), Err(Errno::Inval));
    assert_eq!(space.populate(g(1 << 28), 0), Err(Errno::Inval));
    assert_eq!(space.populate(g(u64::MAX), 0), Err(Errno::Inval));
    assert_eq!(space.populate_kept(g(0x100), 0), Err(Errno::Perm));
    space.populate(g((1 << 28) - 1), 0).unwrap();
    space.populate(g(0x2ff), 0).unwrap();
    assert_eq!(space.populate(g(0x200), 9), Err(Errno::Exist));
    assert_eq!(space.populate(g(0x2ff), 0), Err(Errno::Exist));
    space.set_max_frames(9);
    space.populate(g(0x400), 2).unwrap();
    assert_eq!(space.populate(g(0x408), 2), Err(Errno::NoMem));
    space.populate(g(0x408), 1).unwrap();
    space.populate(g(0x40a), 0).unwrap();
    assert_eq!(
        (space.ram_frames(), space.populate(g(0x40b), 0)),
        (9, Err(Errno::NoMem))
    );
}

#[test]
fn a_release_flushes_before_the_frame_is_free() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    space.populate(g(0), 9).unwrap();
    let free = frames.stats().free_frames;
    space.release(g(7)).unwrap();
    assert_eq!(flushes(&log), 1);
    // The table that the split took was the pool's, and the released page was not there yet.
    assert_eq!(log.free_then.load(Ordering::Relaxed), free);
    assert_eq!(
        (frames.stats().free_frames, space.ram_frames()),
        (free + 1, 511)
    );
    assert_eq!(space.release(g(7)), Err(Errno::NoEnt));
    assert_eq!((space.lookup(g(7)), flushes(&log)), (None, 1));
    assert_eq!(space.lookup(g(8)).unwrap().kind, MapKind::Ram);
}

#[test]
fn a_released_page_counts_while_others_hold_it() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    space.set_max_frames(1);
    space.populate(g(0), 0).unwrap();
    let held = space.page(g(0), true).unwrap();
    held.write(0, b"secret");
    space.release(g(0)).unwrap();
    assert_eq!(
        (space.ram_frames(), space.populate(g(0), 0)),
        (1, Err(Errno::NoMem))
    );
    drop(held);
    space.populate(g(0), 0).unwrap();
    let mut seen = [1; 6];
    GuestMemory::read(&space, g(0).base(), &mut seen).unwrap();
    assert_eq!(seen, [0; 6]);
}

#[test]
fn copies_cross_pages_and_fault_where_nothing_is() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    space.populate(g(4), 2).unwrap();
    let data: Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
    space.write(g(4).at(4000), &data).unwrap();
    let mut back = alloc::vec![0; 9000];
    GuestMemory::read(&space, g(4).at(4000), &mut back).unwrap();
    assert_eq!(back, data);
    assert_eq!(space.write(g(7).at(4090), &data[..7]), Err(Errno::Fault));
    assert_eq!(
        GuestMemory::read(&space, g(3).at(4095), &mut back[..2]),
        Err(Errno::Fault)
    );
    assert_eq!(
        GuestMemory::read(&space, Gaddr::new(u64::MAX), &mut back[..2]),
        Err(Errno::Fault)
    );
    assert_eq!(
        GuestMemory::read(&space, Gaddr::new(1 << 40), &mut back[..1]),
        Err(Errno::Fault)
    );
    assert_eq!(
        GuestMemory::read(&space, Gaddr::new(u64::MAX), &mut []),
        Ok(())
    );
    // The last page that there is.
    let last = g((1 << 28) - 1);
    space.populate(last, 0).unwrap();
    space.write(last.at(4092), &data[..4]).unwrap();
    assert_eq!(space.write(last.at(4092), &data[..5]), Err(Errno::Fault));
}

#[test]
fn maps_replace_ram_but_not_grants_or_devices() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    space.populate(g(0), 1).unwrap();
    let free = frames.stats().free_frames;
    let shared = frames.alloc(DOM).unwrap();
    let mfn = shared.mfn();
    space
        .map(g(0), shared.try_clone().unwrap(), MapKind::Xen)
        .unwrap();
    assert_eq!((frames.stats().free_frames, flushes(&log)), (free, 1));
    assert_eq!(
        space.lookup(g(0)),
        Some(P2m {
            mfn,
            kind: MapKind::Xen
        })
    );
    assert_eq!(space.page(g(0), true).err(), Some(Errno::Inval));
    assert_eq!(space.page(g(0), false).unwrap().mfn(), mfn);
    assert_eq!(space.release(g(0)), Err(Errno::Inval));
    let read_only = MapKind::Grant { writable: false };
    let writable = MapKind::Grant { writable: true };
    space
        .map(g(2), shared.try_clone().unwrap(), read_only)
        .unwrap();
    assert_eq!(flushes(&log), 1, "nothing was there");
    assert_eq!(
        space.map(g(2), shared.try_clone().unwrap(), MapKind::Xen),
        Err(Errno::Busy)
    );
    assert_eq!(space.write(g(2).base(), &[1]), Err(Errno::Fault));
    assert_eq!(GuestMemory::read(&space, g(2).base(), &mut [0]), Ok(()));
    assert_eq!(space.unmap(g(2), mfn, writable), Err(Errno::NoEnt));
    assert_eq!(space.unmap(g(2), Mfn::new(1), read_only), Err(Errno::NoEnt));
    space.unmap(g(2), mfn, read_only).unwrap();
    assert_eq!(
        space.map(g(3), shared.try_clone().unwrap(), MapKind::Ram),
        Err(Errno::Inval)
    );
    assert_eq!(
        space.map(g(3), shared.try_clone().unwrap(), MapKind::Mmio),
        Err(Errno::Inval)
    );
    assert_eq!(
        space.map(g(1 << 28), shared.try_clone().unwrap(), MapKind::Xen),
        Err(Errno::Inval)
    );
    space.unmap(g(0), mfn, MapKind::Xen).unwrap();
    drop(shared);
    assert_eq!(frames.stats().free_frames, free + 1);
}

#[test]
fn a_list_is_unmapped_with_one_flush_for_each_batch() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    let kind = MapKind::Grant { writable: true };
    let granted = frames.alloc(OTHER).unwrap();
    let mfn = granted.mfn();
    for at in 0..100 {
        space
            .map(g(at), granted.try_clone().unwrap(), kind)
            .unwrap();
    }
    drop(granted);
    let free = frames.stats().free_frames;
    let place = |at| Mapped {
        gfn: g(at),
        mfn,
        kind,
    };
    // The last is not there.
    let mut told = Vec::new();
    space.unmap_all(&mut (0..=100).map(place), &mut |done| told.push(done));
    assert!(told[..100].iter().all(Result::is_ok));
    assert_eq!(told[100..], [Err(Errno::NoEnt)]);
    assert_eq!(flushes(&log), 2);
    // The flush came before the frame was free.
    assert!(log.free_then.load(Ordering::Relaxed) <= free);
    assert!(frames.stats().free_frames > free);
    space.unmap_all(&mut core::iter::empty(), &mut |_| unreachable!());
    assert_eq!(flushes(&log), 2, "nothing was there");
}

#[test]
fn a_page_moves_with_its_contents() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    space.populate(g(0), 9).unwrap();
    space.populate(g(0x800), 0).unwrap();
    let mfn = space.lookup(g(5)).unwrap().mfn;
    let free = frames.stats().free_frames;
    space.write(g(5).base(), b"here").unwrap();
    space.move_ram(g(5), g(0x800)).unwrap();
    assert_eq!(
        space.lookup(g(0x800)),
        Some(P2m {
            mfn,
            kind: MapKind::Ram
        })
    );
    assert_eq!(
        (space.lookup(g(5)), flushes(&log), space.ram_frames()),
        (None, 1, 512)
    );
    assert_eq!(frames.stats().free_frames, free + 1, "the page there");
    assert_eq!(space.move_ram(g(5), g(6)), Err(Errno::Inval));
    assert_eq!(space.move_ram(g(6), g(6)), Ok(()));
    space.map_mmio(g(0x900), Mfn::new(0xfee00), 1).unwrap();
    assert_eq!(space.move_ram(g(6), g(0x900)), Err(Errno::Busy));
    space.move_ram(g(6), g(0x1000)).unwrap();
    assert_eq!(space.max_gfn(), g(0x1000));
    let mut seen = [0; 4];
    GuestMemory::read(&space, g(0x800).base(), &mut seen).unwrap();
    assert_eq!(&seen, b"here");
}

#[test]
fn device_memory_is_never_ram() {
    let frames = test_table(0x2000);
    let (space, log) = space(frames);
    assert_eq!(space.map_mmio(g(0), Mfn::new(0x1fff), 2), Err(Errno::Perm));
    assert_eq!(
        space.map_mmio(g(0), Mfn::new(u64::MAX), 2),
        Err(Errno::Inval)
    );
    space.map_mmio(g(0x1fe), Mfn::new(0xfe1fe), 0x403).unwrap();
    assert_eq!(space.leaf(g(0x1ff)).unwrap().level, 1);
    assert_eq!(space.leaf(g(0x200)).unwrap().level, 2);
    assert_eq!(
        space.lookup(g(0x600)),
        Some(P2m {
            mfn: Mfn::new(0xfe600),
            kind: MapKind::Mmio
        })
    );
    assert!(!space.leaf(g(0x600)).unwrap().attrs.cached);
    space.map_mmio(g(0x1ff), Mfn::new(0xfe1ff), 0x10).unwrap();
    assert_eq!(
        space.map_mmio(g(0x1ff), Mfn::new(0xfe200), 1),
        Err(Errno::Exist)
    );
    assert_eq!(space.populate(g(0x300), 0), Err(Errno::Exist));
    assert_eq!(
        GuestMemory::read(&space, g(0x300).base(), &mut [0]),
        Err(Errno::Fault)
    );
    assert_eq!(space.page(g(0x300), false).err(), Some(Errno::Inval));
    assert_eq!(flushes(&log), 0);
    space.unmap_mmio(g(0x1ff), 0x201).unwrap();
    assert_eq!(flushes(&log), 1);
    assert!(space.lookup(g(0x3ff)).is_none() && space.lookup(g(0x400)).is_some());
    assert!(space.lookup(g(0x1fe)).is_some());
    space.unmap_mmio(g(0), 1 << 28).unwrap();
    assert_eq!(space.table_pages(), 1);
}

#[test]
fn identity_memory_comes_back_by_number() {
    let frames = test_table(0x2000);
    let identity = SpaceConfig {
        identity: true,
        ..config(DomainId::DOM0)
    };
    let before = frames.stats();
    assert_eq!(
        frames.reserve_identity(Mfn::new(0x400), 0x400, DomainId::DOM0),
        0x400
    );
    assert_eq!(
        frames.reserve_identity(Mfn::new(0x10), 1, DomainId::DOM0),
        1
    );
    let (space, _) = space_of::<Npt>(frames, identity);
    space.populate(g(0x400), 10).unwrap();
    assert_eq!(space.leaf(g(0x400)).unwrap().level, 2);
    assert_eq!(space.lookup(g(0x523)).unwrap().mfn, Mfn::new(0x523));
    assert_eq!(
        space.populate(g(0x800), 0),
        Err(Errno::NoMem),
        "not set aside"
    );
    space.write(g(0x523).base(), &[7]).unwrap();
    space.release(g(0x523)).unwrap();
    assert_eq!(
        (frames.use_of(Mfn::new(0x523)), space.ram_frames()),
        (crate::FrameUse::SetAside, 0x3ff)
    );
    // A granted page covers the hole; then the page comes back, empty.
    let granted = frames.alloc(OTHER).unwrap();
    let (mfn, kind) = (granted.mfn(), MapKind::Grant { writable: true });
    space.map(g(0x523), granted, kind).unwrap();
    assert_eq!(space.populate(g(0x523), 0), Err(Errno::Exist));
    space.unmap(g(0x523), mfn, kind).unwrap();
    space.populate(g(0x523), 0).unwrap();
    let mut seen = [1];
    GuestMemory::read(&space, g(0x523).base(), &mut seen).unwrap();
    assert_eq!(
        (space.lookup(g(0x523)).unwrap().mfn, seen),
        (Mfn::new(0x523), [0])
    );
    // While another still maps the frame it cannot come back.
    let held = space.page(g(0x600), true).unwrap();
    space.release(g(0x600)).unwrap();
    assert_eq!(space.populate(g(0x600), 0), Err(Errno::NoMem));
    drop(held);
    space.populate(g(0x600), 0).unwrap();
    // The first MiB keeps what the firmware wrote.
    frames.phys().write(Mfn::new(0x10), 0, b"EBDA");
    space.populate_kept(g(0x10), 0).unwrap();
    let mut seen = [0; 4];
    GuestMemory::read(&space, g(0x10).base(), &mut seen).unwrap();
    assert_eq!(&seen, b"EBDA");
    drop(space);
    assert_eq!(frames.stats().free_frames, before.free_frames - 0x400);
}

#[test]
fn faults_are_told_apart() {
    let frames = test_table(0x2000);
    let (space, _) = space(frames);
    let page = frames.alloc(OTHER).unwrap();
    let kind = MapKind::Grant { writable: false };
    space.map(g(3), page, kind).unwrap();
    space.populate(g(4), 0).unwrap();
    use Access::*;
    let at = |n: u64, access| space.fault(g(n).at(8), access);
    assert_eq!(at(3, Read), FaultKind::Spurious);
    assert_eq!(at(3, Write), FaultKind::Forbidden(kind));
    assert_eq!(at(3, Execute), FaultKind::Forbidden(kind));
    assert_eq!(at(4, Execute), FaultKind::Spurious);
    assert_eq!(at(5, Read), FaultKind::Absent);
    assert_eq!(at(1 << 28, Read), FaultKind::OutOfRange);
}

#[test]
fn teardown_is_bounded_and_leaves_nothing() {
    let frames = test_table(0x4000);
    let before = frames.stats();
    let (space, log) = space(frames);
    space.populate(g(0), 9).unwrap();
    space.populate(g(0x10_0000), 8).unwrap();
    space.map_mmio(g(0x20_0000), Mfn::new(0xf0000), 3).unwrap();
    let outside = space.page(g(1), true).unwrap();
    assert!(!space.teardown(10));
    assert!(space.ram_frames() >= 256 - 9);
    assert!(!space.teardown(200));
    assert!(space.teardown(200) && space.teardown(1));
    assert!(flushes(&log) >= 3);
    assert_eq!((space.ram_frames(), space.lookup(g(0))), (1, None));
    drop(outside);
    assert_eq!(space.ram_frames(), 0);
    drop(space);
    assert_eq!(frames.stats(), before);
}

/// While a page comes and goes, a reader sees its own domain's zeros or nothing, never what
/// another domain wrote to the same frame.
#[test]
fn a_reader_never_sees_a_frame_that_went_elsewhere() {
    let frames = test_table(0x2000);
    let (ours, _) = space(frames);
    let (theirs, _) = space_of::<Npt>(frames, config(OTHER));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..500 {
                ours.populate(g(5), 0).unwrap();
                ours.release(g(5)).unwrap();
                theirs.populate(g(9), 0).unwrap();
                theirs.write(g(9).base(), &[0xaa; 4096]).unwrap();
                theirs.release(g(9)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut seen = [0u8; 4096];
        while !done.load(Ordering::Relaxed) {
            match GuestMemory::read(&ours, g(5).base(), &mut seen) {
                Ok(()) => assert!(seen.iter().all(|&b| b == 0)),
                Err(error) => assert_eq!(error, Errno::Fault),
            }
            let page: Option<PageRef> = ours.page(g(5), true).ok();
            if let Some(page) = page {
                assert_eq!(
                    (page.owner(), page.word(0).load(Ordering::Relaxed)),
                    (Some(DOM), 0)
                );
            }
        }
    });
    assert_eq!(ours.ram_frames() + theirs.ram_frames(), 0);
}
