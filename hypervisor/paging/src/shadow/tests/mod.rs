//! The cache of shadows as the CPUs of two vcpus would use it, against what their TLBs may hold: random edits
//! of a guest's tables, by whoever is allowed to write them, accesses, flushes, and a pool that runs out. An
//! access that succeeds does so by entries each of which was true at some moment since the vcpu's last flush, accessed
//! and dirty bits included: a CPU's caches of tables know no more of one another. One that faults does so by the tables as they are. The hypervisor changes the guest's memory, at
//! moments of its choice: whenever a vcpu could enter, no shadow leads to anything that the guest has not got.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use oxen_mm::pt::{Attrs, Shadow as Fmt, pages_at};
use oxen_mm::{AllocOptions, Phys};
use oxen_types::paging::GuestPage;
use oxen_types::{Gaddr, Gfn, Mfn, Vaddr};
use proptest::prelude::*;

use crate::bits::*;
use crate::shadow::cache::{Allowance, Cache, ShadowedGuest, View};
use crate::shadow::fault::{ACCESSED, Answer, DIRTY, Fill, LINEAR_PAGES, ShadowSpace, fault};
use crate::testing::{OWNER, frames, zeroed};
use crate::walk::{self, Access, Found, Paging, PhysRead, Step, WalkError};

mod history;
pub(crate) mod soak;

use history::{History, MARKS};

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
/// A page of 2 MiB.
const LARGE_FIRST: u64 = 512;
const LARGE_END: u64 = 1024;
const LARGE: u64 = 1 << 7;
const VCPUS: usize = 2;

/// What the hypervisor says of a gfn: the frame's number and rights.
#[derive(Clone, Copy)]
struct Entry {
    frame: u64,
    write: bool,
    exec: bool,
}

struct Memory {
    phys: Phys,
    first: u64,
    large_first: u64,
    p2m: RefCell<Vec<Option<Entry>>>,
    large: Cell<bool>,
}

fn p2m() -> Vec<Option<Entry>> {
    let entry = |gfn| {
        let there = gfn < ABSENT || (READ_ONLY..FRAMES).contains(&gfn) || gfn >= LARGE_FIRST;
        there.then_some(Entry {
            frame: gfn,
            write: !(READ_ONLY..NO_FETCH).contains(&gfn),
            exec: !(NO_FETCH..LARGE_FIRST).contains(&gfn),
        })
    };
    (0..LARGE_END).map(entry).collect()
}

impl Memory {
    /// Of the hypervisor's own number.
    fn mfn(&self, frame: u64) -> Mfn {
        match frame.checked_sub(LARGE_FIRST) {
            Some(n) => Mfn::new(self.large_first + n),
            None => Mfn::new(self.first + frame),
        }
    }
    fn entry(&self, gfn: u64) -> Option<Entry> {
        *self.p2m.borrow().get(gfn as usize)?
    }
    fn word(&self, at: u64) -> Option<&'static core::sync::atomic::AtomicU64> {
        let mfn = self.mfn(self.entry(at >> 12)?.frame);
        Some(&self.phys.table(mfn)[(at & 0xfff) as usize / 8])
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
        let entry = self.entry(gfn.raw())?;
        Some(GuestPage {
            mfn: self.mfn(entry.frame),
            large: gfn.raw() >= LARGE_FIRST && self.large.get(),
            write: entry.write,
            exec: entry.exec,
            cached: true,
        })
    }
}

/// The hypervisor's part: it makes all vcpus' TLBs forget.
struct Outside<'a> {
    memory: &'a Memory,
    flushed: &'a Cell<u32>,
}

impl ShadowedGuest for Outside<'_> {
    fn frame(&self, gfn: u64) -> Option<Mfn> {
        Some(self.memory.mfn(self.memory.entry(gfn)?.frame))
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
    /// Table, and the number of the address space if the guest has such.
    Cr3(usize, u64, u64),
    Control(usize, Control),
    /// The hypervisor changed much of the guest's memory.
    Reset,
    /// It changes a page, or two.
    Remap(u64, Remap),
    /// It does so while an access's fault is looked at.
    Race(usize, usize, u32, u64, Remap),
}

#[derive(Clone, Copy, Debug)]
enum Remap {
    Swap(u64),
    Take,
    GiveBack,
    Protect,
}

#[derive(Clone, Copy, Debug)]
enum Control {
    Mode(u8),
    Wp,
    Smep,
    Nx,
    Pge,
    Pcid,
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
        1 => Just(7 | LARGE | LARGE_FIRST << 12),
    ];
    let frame = prop_oneof![
        12 => NEXT..NEXT + 12,
        2 => 0..TABLES,
        2 => TABLES..NEXT,
        1 => LARGE_FIRST..LARGE_END,
    ];
    let index = prop_oneof![4 => 0u64..3, 1 => 510u64..512];
    let control = prop_oneof![
        4 => (0u8..4).prop_map(Control::Mode),
        2 => Just(Control::Wp),
        1 => Just(Control::Smep),
        1 => Just(Control::Nx),
        1 => Just(Control::Pge),
        1 => Just(Control::Pcid),
    ];
    let vcpu = || 0..VCPUS;
    let access = || prop::sample::select(std::vec![0u32, 2, 4, 6, 16, 20]);
    let gfn =
        || prop_oneof![8 => TABLES..FRAMES, 1 => 0..TABLES, 1 => LARGE_FIRST..LARGE_FIRST + 4];
    let remap = || {
        prop_oneof![
            2 => (TABLES..ABSENT).prop_map(Remap::Swap),
            1 => Just(Remap::Take),
            3 => Just(Remap::GiveBack),
            1 => Just(Remap::Protect),
        ]
    };
    prop_oneof![
        60 => (0..TABLES, index, frame, flags).prop_map(|(t, i, f, b)| Op::Edit(t, i, f, b)),
        100 => (vcpu(), 0..ADDRESSES.len(), access())
            .prop_map(|(vcpu, at, access)| Op::Access(vcpu, at, access)),
        10 => (vcpu(), 0..ADDRESSES.len()).prop_map(|(vcpu, at)| Op::Invlpg(vcpu, at)),
        18 => (vcpu(), 0..LEVELS[1], 0u64..3).prop_map(|(vcpu, table, n)| Op::Cr3(vcpu, table, n)),
        2 => (vcpu(), 0..TABLES, 0u64..3).prop_map(|(vcpu, table, n)| Op::Cr3(vcpu, table, n)),
        2 => (vcpu(), control).prop_map(|(vcpu, control)| Op::Control(vcpu, control)),
        1 => Just(Op::Reset),
        2 => (gfn(), remap()).prop_map(|(gfn, how)| Op::Remap(gfn, how)),
        4 => (vcpu(), 0..ADDRESSES.len(), access(), gfn(), remap())
            .prop_map(|(vcpu, at, access, gfn, how)| Op::Race(vcpu, at, access, gfn, how)),
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

struct Vcpu {
    paging: Paging,
    view: View,
    /// Its TLB: frame and rights of a linear page.
    tlb: BTreeMap<u64, (Mfn, Attrs)>,
    /// For each address, what was in the tables since its last flush.
    seen: Vec<History>,
}

struct Machine {
    memory: Memory,
    cache: Cache,
    vcpus: Vec<Vcpu>,
    flushed: Cell<u32>,
    /// Of them, the TLBs have followed.
    followed: u32,
    /// Changes of the p2m that the cache has to follow before a vcpu enters.
    changed: Vec<u64>,
    /// Pages that the next fault finds changed, and how.
    race: Option<(u64, Remap)>,
}

impl Machine {
    fn new(pages: usize) -> Self {
        let frames = frames(1536);
        let phys = frames.phys();
        let first = zeroed(frames, 6);
        let large = AllocOptions::default();
        let large = frames.alloc_own(9, OWNER, large).unwrap();
        let vcpu = || Vcpu {
            paging: Paging {
                cr0: CR0_PE | CR0_PG | CR0_WP,
                cr3: 0,
                cr4: CR4_PAE | CR4_PGE,
                efer: EFER_LME | EFER_LMA | EFER_NX,
                ac: false,
                limits: walk::Limits {
                    phys_bits: 40,
                    pages_1g: true,
                },
            },
            view: View::new(frames, OWNER).unwrap(),
            tlb: BTreeMap::new(),
            seen: ADDRESSES.map(History::new).into(),
        };
        let mut machine = Self {
            memory: Memory {
                phys,
                first: first.raw(),
                large_first: large.raw(),
                p2m: RefCell::new(p2m()),
                large: Cell::new(true),
            },
            cache: Cache::new(frames, OWNER, pages, [1, 2]).unwrap(),
            vcpus: (0..VCPUS).map(|_| vcpu()).collect(),
            flushed: Cell::new(0),
            followed: 0,
            changed: Vec::new(),
            race: None,
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

    fn note(&mut self) {
        for vcpu in &mut self.vcpus {
            for seen in &mut vcpu.seen {
                seen.note(&self.memory);
            }
        }
    }

    /// What a flush of all means to a vcpu: only what is true now, is.
    fn forget(&mut self, vcpu: usize) {
        let vcpu = &mut self.vcpus[vcpu];
        vcpu.tlb.clear();
        for seen in &mut vcpu.seen {
            seen.forget(&self.memory);
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
        let outside = Outside {
            memory: &self.memory,
            flushed: &self.flushed,
        };
        self.cache.activate(&mut vcpu.view, &vcpu.paging, &outside);
        vcpu.tlb.clear();
        self.follow();
    }

    /// A page of the guest's memory becomes another.
    fn remap(&mut self, gfn: u64, how: Remap) {
        let mut p2m = self.memory.p2m.borrow_mut();
        let at = gfn as usize;
        match how {
            Remap::Swap(other) => {
                p2m.swap(at, other as usize);
                self.changed.push(other);
            }
            Remap::Take => p2m[at] = None,
            Remap::GiveBack if p2m[at].is_none() => {
                // Frames that nobody has; the page may be a table.
                let has = |frame| p2m.iter().flatten().any(|entry| entry.frame == frame);
                if let Some(frame) = (0..FRAMES).find(|frame| !has(*frame)) {
                    let (write, exec) = (true, true);
                    p2m[at] = Some(Entry { frame, write, exec });
                }
            }
            Remap::GiveBack => {}
            Remap::Protect => {
                if let Some(entry) = &mut p2m[at] {
                    entry.write = false;
                }
            }
        }
        if gfn >= LARGE_FIRST {
            self.memory.large.set(false);
        }
        self.changed.push(gfn);
    }

    /// What every vcpu does before it enters, after a change.
    fn follow_p2m(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        for gfn in core::mem::take(&mut self.changed) {
            if !self.cache.page_changed(gfn, &mut Allowance::for_changes()) {
                self.cache.reset();
            }
        }
        for vcpu in &mut self.vcpus {
            vcpu.tlb.clear();
        }
        self.note();
        self.check();
    }

    /// No shadow leads to what the guest has not got, or has not got in this way.
    fn check(&self) {
        let p2m = self.memory.p2m.borrow();
        let rights = |entry: &Entry| (self.memory.mfn(entry.frame), (entry.write, entry.exec));
        let rights: BTreeMap<_, _> = p2m.iter().flatten().map(rights).collect();
        for (first, level, attrs) in self.cache.leaves() {
            for n in 0..pages_at(level) {
                let there = rights.get(&Mfn::new(first.raw() + n));
                let (write, exec) = there.expect("a frame that is gone");
                assert!((*write || !attrs.write) && (*exec || !attrs.exec));
            }
        }
    }

    fn access(&mut self, n: usize, at: usize, code: u32) {
        let linear = Vaddr::new(ADDRESSES[at]);
        let page = linear.raw() >> 12 & LINEAR_PAGES;
        let access = Access::from_bits_truncate(code);
        for _ in 0..6 {
            self.follow_p2m();
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
            let answer = match self.race.take() {
                Some((gfn, how)) if gfn % 2 == 0 => {
                    // After the p2m was looked at, or just before.
                    let answer = fault(&self.memory, &paging, linear, code);
                    self.note();
                    self.remap(gfn, how);
                    answer
                }
                Some((gfn, how)) => {
                    self.remap(gfn, how);
                    fault(&self.memory, &paging, linear, code)
                }
                None => fault(&self.memory, &paging, linear, code),
            };
            match answer {
                Answer::Retry => {}
                Answer::Fill(fill) => {
                    self.note();
                    self.fill(n, &paging, &fill);
                    self.follow();
                }
                // As things were then.
                _ if !self.changed.is_empty() => {}
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
        let outside = Outside {
            memory: &self.memory,
            flushed: &self.flushed,
        };
        let view = &mut self.vcpus[n].view;
        self.cache.fill(view, paging, fill, &outside);
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
        // Each entry by itself: shadows of tables serve several walks, as a CPU's caches of them do.
        let seen_marked = |found: &Found, step: &Step, marks: u64| {
            let others = vcpu.seen[at].entries(step.at, found.entry_size);
            let mut same = others.filter(|other| other & !MARKS == step.entry & !MARKS);
            same.any(|other| other & marks == marks)
        };
        let marked = |found: &Found| {
            let steps = found.steps.iter().flatten();
            let count = steps.clone().count();
            steps.enumerate().all(|(n, step)| {
                let dirty = n + 1 == count && access.contains(Access::WRITE);
                let marks = if dirty { MARKS } else { ACCESSED };
                step.bare || seen_marked(found, step, marks)
            })
        };
        let fits = |found: &Found| {
            let gpa = found.place.gpa;
            let there = self.memory.page(gpa.frame());
            found.check(&vcpu.paging, access).is_ok()
                && marked(found)
                && there.is_some_and(|there| {
                    there.mfn == mfn
                        && (there.write || !access.contains(Access::WRITE))
                        && (there.exec || !access.contains(Access::FETCH))
                })
        };
        let linear = Vaddr::new(ADDRESSES[at]);
        let seen = vcpu.seen[at].some_walk(&self.memory, &vcpu.paging, linear, fits);
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
                p.cr4 &= !CR4_PCIDE;
                p.cr3 &= !0xfff;
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
            // In long mode only, and with number 0.
            Control::Pcid if p.efer & EFER_LMA != 0 => {
                p.cr3 &= !0xfff;
                p.cr4 ^= CR4_PCIDE;
            }
            Control::Pcid => {}
        }
        self.forget(n);
        self.activate(n);
    }

    /// A vcpu writes an entry, by a mapping that lets it, or else by a fault on a new one.
    fn edit(&mut self, table: u64, index: u64, frame: u64, flags: u64) {
        // By a vcpu that enters.
        self.follow_p2m();
        let Some(entry) = self.memory.entry(table) else {
            return;
        };
        let mfn = self.memory.mfn(entry.frame);
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
            Op::Remap(gfn, how) => self.remap(gfn, how),
            Op::Race(vcpu, at, code, gfn, how) => {
                self.race = Some((gfn, how));
                self.access(vcpu, at, code);
                self.race = None;
            }
            Op::Edit(table, index, frame, flags) => self.edit(table, index, frame, flags),
            Op::Access(vcpu, at, code) => self.access(vcpu, at, code),
            // It may forget more, and does.
            Op::Invlpg(vcpu, at) => {
                if !self.cache.resync() {
                    self.cache.reset();
                    self.vcpus.iter_mut().for_each(|vcpu| vcpu.tlb.clear());
                }
                self.vcpus[vcpu].tlb.remove(&(ADDRESSES[at] >> 12));
                let linear = Vaddr::new(ADDRESSES[at]);
                let paging = &self.vcpus[vcpu].paging;
                let now = walk::find(&self.memory, paging, linear, Access::READ);
                if now.is_ok_and(|found| found.shift == 12) || now.is_err() {
                    // PAE's top entries are registers of the CPU, loaded with CR3 (SDM volume 3, 4.4.1).
                    let pae = paging.cr0 & CR0_PG != 0
                        && paging.cr4 & CR4_PAE != 0
                        && paging.efer & EFER_LMA == 0;
                    let top = pae.then_some(paging.cr3 >> 12);
                    self.vcpus[vcpu].seen[at].forget_but(top, &self.memory);
                }
            }
            // Translations of other address spaces, and of this one, may go at any time: they do at each load.
            Op::Cr3(vcpu, table, number) => {
                let paging = &mut self.vcpus[vcpu].paging;
                let numbered = paging.cr4 & CR4_PCIDE != 0 && paging.efer & EFER_LMA != 0;
                paging.cr3 = table << 12 | if numbered { number } else { 0 };
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
        machine.follow_p2m();
        machine.check();
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
        counts.changed,
        counts.resets,
    ];
    assert!(
        cfg!(miri) || all.iter().all(|count| *count > 3),
        "{counts:?}"
    );
}
