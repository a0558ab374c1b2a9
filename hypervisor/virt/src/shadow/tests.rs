//! The cache of shadows as the CPUs of two vcpus would use it, against what their TLBs may hold: random edits
//! of a guest's tables, by whoever is allowed to write them, accesses, flushes, and a pool that runs out. An
//! access that succeeds does so by some translation that was true since the vcpu's last flush; one that
//! faults does so by the tables as they are.

use std::boxed::Box;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::vec::Vec;

use oxen_mm::memmap::{FirmwareKind, FirmwareRange, MemoryMap};
use oxen_mm::pt::{Attrs, Shadow as Fmt, TableAccess};
use oxen_mm::shadow::{self, Around, Cache, Page, Tables, View, Walked};
use oxen_mm::{AllocOptions, FrameTable, Phys};
use oxen_types::DomainId;
use proptest::prelude::*;

use core::sync::atomic::Ordering;

use super::*;
use crate::x86::*;

/// Frames of the guest's memory; the first are its tables.
const FRAMES: u64 = 64;
const TABLES: u64 = 24;
/// Where the tables of each level begin, from the root down, and where they end.
const LEVELS: [u64; 5] = [0, 4, 8, 14, TABLES];
/// From here on, a frame's number in an operation stands for some table of the next level.
const NEXT: u64 = FRAMES + 2;
/// From here on nothing is there, then it may not be written, then not executed.
const ABSENT: u64 = 48;
const READ_ONLY: u64 = 52;
const NO_FETCH: u64 = 58;
const LARGE: u64 = 1 << 7;
const VCPUS: usize = 2;

struct Memory {
    phys: Phys,
    first: u64,
}

impl Memory {
    fn mfn(&self, gfn: u64) -> Mfn {
        Mfn::new(self.first + gfn)
    }
    fn word(&self, at: u64) -> Option<&'static core::sync::atomic::AtomicU64> {
        let gfn = at >> 12;
        let there = gfn < ABSENT || (READ_ONLY..FRAMES).contains(&gfn);
        there.then(|| &self.phys.table(self.mfn(gfn))[(at & 0xfff) as usize / 8])
    }
}

impl PhysRead for Memory {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        Some(self.word(at.raw())?.load(Ordering::Relaxed))
    }
}

impl ShadowSpace for Memory {
    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> bool {
        let Some(word) = self.word(at.raw()) else {
            return false;
        };
        let now = word.load(Ordering::Relaxed);
        let shift = if size == 4 { at.raw() % 8 * 8 } else { 0 };
        let mask = if size == 4 { 0xffff_ffff } else { u64::MAX };
        if now >> shift & mask != old {
            return false;
        }
        word.store(now & !(mask << shift) | new << shift, Ordering::Relaxed);
        true
    }

    fn page(&self, gfn: Gfn) -> Option<GuestPage> {
        let n = gfn.raw();
        self.word(n << 12)?;
        Some(GuestPage {
            mfn: self.mfn(n),
            large: false,
            write: !(READ_ONLY..NO_FETCH).contains(&n),
            exec: n < NO_FETCH,
            cached: true,
        })
    }
}

/// The hypervisor's part: it makes all vcpus' TLBs forget.
struct Outside<'a> {
    memory: &'a Memory,
    flushed: &'a Cell<u32>,
}

impl Around for Outside<'_> {
    fn frame(&self, gfn: u64) -> Option<Mfn> {
        self.memory.word(gfn << 12).map(|_| self.memory.mfn(gfn))
    }
    fn flush(&self) {
        self.flushed.set(self.flushed.get() + 1);
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Table, entry, frame, flags.
    Edit(u64, u64, u64, u64),
    Access(usize, usize, u32),
    Invlpg(usize, usize),
    Cr3(usize, u64),
    Control(usize, Control),
    /// The hypervisor changed the guest's memory.
    Reset,
}

#[derive(Clone, Copy, Debug)]
enum Control {
    Mode(u8),
    Wp,
    Smep,
    Nx,
    Pge,
}

const ADDRESSES: [u64; 8] = [
    0,
    0x1000,
    0x20_0000,
    0x20_1000,
    0x40_0000,
    0x4000_0000,
    0x4020_1000,
    0x7f_ffe0_0000,
];

fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![
        8 => Just(7u64),
        2 => Just(0x67u64),
        2 => 0u64..8,
        1 => (0u64..8).prop_map(|low| low | 1 << 63 | 1),
        1 => Just(0x107),
        1 => Just(7 | LARGE),
    ];
    let frame = prop_oneof![6 => NEXT..NEXT + 12, 1 => 0..TABLES, 1 => TABLES..NEXT];
    let index = prop_oneof![4 => 0u64..3, 1 => 510u64..512];
    let control = prop_oneof![
        4 => (0u8..4).prop_map(Control::Mode),
        2 => Just(Control::Wp),
        1 => Just(Control::Smep),
        1 => Just(Control::Nx),
        1 => Just(Control::Pge),
    ];
    let vcpu = || 0..VCPUS;
    prop_oneof![
        60 => (0..TABLES, index, frame, flags).prop_map(|(t, i, f, b)| Op::Edit(t, i, f, b)),
        100 => (vcpu(), 0..ADDRESSES.len(), prop::sample::select(std::vec![0u32, 2, 4, 6, 16, 20]))
            .prop_map(|(vcpu, at, access)| Op::Access(vcpu, at, access)),
        10 => (vcpu(), 0..ADDRESSES.len()).prop_map(|(vcpu, at)| Op::Invlpg(vcpu, at)),
        18 => (vcpu(), 0..LEVELS[1]).prop_map(|(vcpu, table)| Op::Cr3(vcpu, table)),
        2 => (vcpu(), 0..TABLES).prop_map(|(vcpu, table)| Op::Cr3(vcpu, table)),
        2 => (vcpu(), control).prop_map(|(vcpu, control)| Op::Control(vcpu, control)),
        1 => Just(Op::Reset),
    ]
}

/// The frame that an operation means for an entry of a table.
fn frame_of(table: u64, number: u64) -> u64 {
    let Some(pick) = number.checked_sub(NEXT) else {
        return number;
    };
    let level = LEVELS.iter().filter(|first| **first <= table).count();
    match (LEVELS.get(level), LEVELS.get(level + 1)) {
        (Some(first), Some(end)) => first + pick % (end - first),
        // Pages: tables among them.
        _ => pick * 7 % FRAMES,
    }
}

type Seen = Result<Found, WalkError>;

struct Vcpu {
    paging: Paging,
    view: View,
    /// Its TLB: frame and rights of a linear page.
    tlb: BTreeMap<u64, (Mfn, Attrs)>,
    /// Walks that were true at some moment since its last flush.
    seen: [Vec<Seen>; ADDRESSES.len()],
}

struct Machine {
    memory: Memory,
    cache: Cache,
    vcpus: Vec<Vcpu>,
    flushed: Cell<u32>,
    /// Of them, the TLBs have followed.
    followed: u32,
    filled: u64,
}

impl Machine {
    fn new(pages: usize) -> Self {
        let ram = FirmwareRange {
            start: 0,
            len: 512 << 12,
            kind: FirmwareKind::Ram,
        };
        let phys = Phys::arena(512);
        let mut map = MemoryMap::new(core::iter::once(ram));
        let frames: &'static FrameTable =
            Box::leak(Box::new(FrameTable::new(phys, &mut map, &[]).unwrap()));
        let zeroed = AllocOptions {
            zeroed: true,
            ..AllocOptions::default()
        };
        let first = frames.alloc_own(6, DomainId(1), zeroed).unwrap();
        let vcpu = || Vcpu {
            paging: Paging {
                cr0: CR0_PE | CR0_PG | CR0_WP,
                cr3: 0,
                cr4: CR4_PAE | CR4_PGE,
                efer: EFER_LME | EFER_LMA | EFER_NX,
                ac: false,
                phys_bits: 40,
            },
            view: View::new(frames, DomainId(1)).unwrap(),
            tlb: BTreeMap::new(),
            seen: Default::default(),
        };
        let mut machine = Self {
            memory: Memory {
                phys,
                first: first.raw(),
            },
            cache: Cache::new(frames, DomainId(1), pages).unwrap(),
            vcpus: (0..VCPUS).map(|_| vcpu()).collect(),
            flushed: Cell::new(0),
            followed: 0,
            filled: 0,
        };
        // Tables that lead somewhere.
        for table in 0..TABLES {
            for index in [0, 1, 2, 510, 511] {
                let frame = frame_of(table, NEXT + table * 3 + index);
                let word = &machine.memory.phys.table(machine.memory.mfn(table))[index as usize];
                word.store(frame << 12 | 7, Ordering::Relaxed);
            }
        }
        machine.note();
        machine
    }

    fn walk(&self, vcpu: usize, at: usize) -> Seen {
        let linear = Vaddr::new(ADDRESSES[at]);
        walk::find(&self.memory, &self.vcpus[vcpu].paging, linear, Access::READ)
    }

    fn note(&mut self) {
        for vcpu in 0..VCPUS {
            for at in 0..ADDRESSES.len() {
                let now = self.walk(vcpu, at);
                let seen = &mut self.vcpus[vcpu].seen[at];
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
            }
        }
    }

    /// What a flush of all means to a vcpu: only what is true now, is.
    fn forget(&mut self, vcpu: usize) {
        self.vcpus[vcpu].tlb.clear();
        for at in 0..ADDRESSES.len() {
            let now = self.walk(vcpu, at);
            self.vcpus[vcpu].seen[at] = std::vec![now];
        }
    }

    /// TLBs follow what the cache asked for.
    fn follow(&mut self) {
        if self.followed != self.flushed.get() {
            self.followed = self.flushed.get();
            for vcpu in &mut self.vcpus {
                vcpu.tlb.clear();
            }
        }
    }

    fn activate(&mut self, n: usize) {
        let vcpu = &mut self.vcpus[n];
        let (tables, mode) = super::tables(&vcpu.paging);
        let top = (tables == super::GuestTables::Long).then(|| shadow::top(mode, vcpu.paging.cr3));
        let outside = Outside {
            memory: &self.memory,
            flushed: &self.flushed,
        };
        self.cache.activate(&mut vcpu.view, top.as_ref(), &outside);
        vcpu.tlb.clear();
        self.follow();
    }

    fn access(&mut self, n: usize, at: usize, code: u32) {
        let linear = Vaddr::new(ADDRESSES[at]);
        let page = linear.raw() >> 12 & LINEAR_PAGES;
        let access = Access::from_bits_truncate(code);
        for _ in 0..5 {
            while self.cache.is_stale(&self.vcpus[n].view) {
                self.activate(n);
            }
            let vcpu = &mut self.vcpus[n];
            let found = match vcpu.tlb.get(&page) {
                Some(found) => Some(*found),
                None => self.cache.lookup(&vcpu.view, page),
            };
            if let Some(found) = found {
                vcpu.tlb.insert(page, found);
                if self.cpu_allows(n, &found.1, access) {
                    return self.succeeded(n, at, access, found);
                }
                self.vcpus[n].tlb.remove(&page);
            }
            let paging = self.vcpus[n].paging;
            match fault(&self.memory, &paging, linear, code) {
                Answer::Retry => {}
                Answer::Fill(fill) => {
                    self.note();
                    self.fill(n, &paging, &fill);
                    self.follow();
                }
                Answer::Guest(code) => {
                    let expected = match walk::walk(&self.memory, &paging, linear, access) {
                        Err(WalkError::Fault { code }) => code,
                        Err(WalkError::BadTable(_)) => code & 0x16 | 9,
                        other => panic!("the guest sees {code:#x}, not {other:?}"),
                    };
                    assert_eq!(code, expected);
                    return;
                }
                Answer::Memory(fault) => {
                    let there = walk::walk(&self.memory, &paging, linear, access);
                    assert_eq!(there.unwrap().gpa, fault.gpa);
                    let page = self.memory.page(fault.gpa.frame());
                    let allowed = page.is_some_and(|page| {
                        (page.write || !fault.write) && (page.exec || !fault.fetch)
                    });
                    assert!(!allowed && fault.present == page.is_some());
                    return;
                }
            }
        }
        panic!("{linear:?} {access:?} does not end");
    }

    fn fill(&mut self, n: usize, paging: &Paging, fill: &Fill) {
        self.filled += 1;
        let walked = walked(paging, fill);
        let outside = Outside {
            memory: &self.memory,
            flushed: &self.flushed,
        };
        let large = !fill.write || self.cache.may_be_large(fill.gfn.raw());
        let path = walked.path(large);
        let view = &mut self.vcpus[n].view;
        self.cache.fill(view, &path, fill.for_write, &outside);
    }

    /// The CPU's own check: WP and NXE are always on.
    fn cpu_allows(&self, n: usize, attrs: &Attrs, access: Access) -> bool {
        let paging = &self.vcpus[n].paging;
        let of_user = attrs.tag & Fmt::USER != 0;
        let user = access.contains(Access::USER);
        let smep = of_user && paging.cr4 & CR4_SMEP != 0 && paging.cr0 & CR0_PG != 0;
        (of_user || !user)
            && (attrs.write || !access.contains(Access::WRITE))
            && (!access.contains(Access::FETCH) || (attrs.exec && (user || !smep)))
    }

    fn succeeded(&self, n: usize, at: usize, access: Access, (mfn, attrs): (Mfn, Attrs)) {
        let vcpu = &self.vcpus[n];
        let fits = |found: &Found| {
            let gpa = found.place.gpa;
            let there = self.memory.page(gpa.frame());
            found.check(&vcpu.paging, access).is_ok()
                && there.is_some_and(|there| {
                    there.mfn == mfn
                        && (there.write || !access.contains(Access::WRITE))
                        && (there.exec || !access.contains(Access::FETCH))
                })
        };
        let seen = vcpu.seen[at].iter().flatten().any(fits);
        assert!(
            seen,
            "{n}: {:#x} {access:?} reached {mfn:?} {attrs:?}",
            ADDRESSES[at]
        );
    }

    fn control(&mut self, n: usize, control: Control) {
        let p = &mut self.vcpus[n].paging;
        match control {
            Control::Mode(mode) => {
                p.cr0 |= CR0_PG;
                p.cr4 |= CR4_PAE | CR4_PSE;
                p.efer &= !(EFER_LMA | EFER_LME);
                match mode {
                    0 => p.cr0 &= !CR0_PG,
                    1 => p.cr4 &= !CR4_PAE,
                    2 => {}
                    _ => p.efer |= EFER_LMA | EFER_LME,
                }
            }
            Control::Wp => p.cr0 ^= CR0_WP,
            Control::Smep => p.cr4 ^= CR4_SMEP,
            Control::Nx => p.efer ^= EFER_NX,
            Control::Pge => p.cr4 ^= CR4_PGE,
        }
        self.forget(n);
        self.activate(n);
    }

    /// A vcpu writes an entry, by a mapping that lets it, or else by a fault on a new one.
    fn edit(&mut self, table: u64, index: u64, frame: u64, flags: u64) {
        let mfn = self.memory.mfn(table);
        let by_tlb = |vcpu: &Vcpu| vcpu.tlb.values().any(|(m, attrs)| *m == mfn && attrs.write);
        if !self.cache.is_writable(mfn) && !self.vcpus.iter().any(by_tlb) {
            let outside = Outside {
                memory: &self.memory,
                flushed: &self.flushed,
            };
            if !self.cache.write_faults(table, &outside) {
                self.cache.reset();
                for vcpu in &mut self.vcpus {
                    vcpu.tlb.clear();
                }
            }
            self.follow();
        }
        let paging = &self.vcpus[0].paging;
        let short = paging.efer & EFER_LMA == 0 && paging.cr4 & CR4_PAE == 0;
        let value = frame_of(table, frame) << 12 | flags;
        let words = self.memory.phys.table(mfn);
        if short {
            let word = &words[(index / 2) as usize];
            let shift = index % 2 * 32;
            let old = word.load(Ordering::Relaxed);
            let new = old & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
            word.store(new, Ordering::Relaxed);
        } else {
            words[index as usize].store(value, Ordering::Relaxed);
        }
        self.note();
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Edit(table, index, frame, flags) => self.edit(table, index, frame, flags),
            Op::Access(vcpu, at, code) => self.access(vcpu, at, code),
            // It may forget more, and does.
            Op::Invlpg(vcpu, at) => {
                self.cache.resync();
                self.vcpus[vcpu].tlb.remove(&(ADDRESSES[at] >> 12));
                let now = self.walk(vcpu, at);
                if now.is_ok_and(|found| found.shift == 12) || now.is_err() {
                    self.vcpus[vcpu].seen[at] = std::vec![now];
                }
            }
            Op::Cr3(vcpu, table) => {
                self.vcpus[vcpu].paging.cr3 = table << 12;
                self.forget(vcpu);
                self.activate(vcpu);
            }
            Op::Control(vcpu, control) => self.control(vcpu, control),
            Op::Reset => {
                self.cache.reset();
                for vcpu in &mut self.vcpus {
                    vcpu.tlb.clear();
                }
            }
        }
    }
}

fn walked<'a>(paging: &Paging, fill: &'a Fill) -> Walked<'a> {
    let (tables, mode) = super::tables(paging);
    Walked {
        tables: match tables {
            GuestTables::None => Tables::None,
            GuestTables::Short => Tables::Short,
            GuestTables::Pae => Tables::Pae,
            GuestTables::Long => Tables::Long,
        },
        mode,
        no_execute: paging.efer & EFER_NX != 0,
        cr3: paging.cr3,
        entries: fill.entries.get(..fill.depth).unwrap_or(&[]),
        shift: fill.shift,
        linear: fill.linear,
        page: Page {
            gfn: fill.gfn.raw(),
            mfn: fill.mfn,
            large: fill.large,
            user: fill.user,
            write: fill.write,
            exec: fill.exec,
            cached: fill.cached,
            global: fill.global,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]
    #[test]
    fn cached_shadows_keep_to_a_tlbs_rules(
        pages in prop::sample::select(std::vec![32usize, 64, 256]),
        list in prop::collection::vec(op(), 1..400),
    ) {
        let mut machine = Machine::new(pages);
        for op in list {
            machine.step(op);
        }
    }
}

/// What the property is about does happen.
#[test]
fn tables_are_protected_evicted_and_forgotten() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let list = prop::collection::vec(op(), if cfg!(miri) { 300 } else { 3000 });
    let mut machine = Machine::new(64);
    for op in list.new_tree(&mut runner).unwrap().current() {
        machine.step(op);
    }
    let counts = machine.cache.counts();
    let all = [
        counts.made,
        counts.protected,
        counts.loosened,
        counts.dropped,
        counts.evicted,
    ];
    assert!(
        cfg!(miri) || all.iter().all(|count| *count > 3),
        "{counts:?}"
    );
}
