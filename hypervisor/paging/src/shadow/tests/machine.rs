//! A cache of shadows with two vcpus that have TLBs, checked at each access.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use oxen_mm::pt::{Attrs, Shadow as Fmt, pages_at};
use oxen_types::{Mfn, Vaddr};

use super::history::{History, MARKS};
use super::memory::{Entry, Memory, Outside};
use super::*;
use crate::bits::*;
use crate::shadow::ShadowSpace;
use crate::shadow::cache::{Allowance, Cache, View};
use crate::shadow::fault::{ACCESSED, Answer, Fill, LINEAR_PAGES, fault};
use crate::testing::{OWNER, frames};
use crate::walk::{self, Access, Found, Paging, Step, WalkError};

/// A guest in long mode whose first table is frame 0.
pub(super) fn long_mode() -> Paging {
    Paging {
        cr0: CR0_PE | CR0_PG | CR0_WP,
        cr3: 0,
        cr4: CR4_PAE | CR4_PGE,
        efer: EFER_LME | EFER_LMA | EFER_NX,
        ac: false,
        limits: walk::Limits {
            phys_bits: 40,
            pages_1g: true,
        },
    }
}

pub(super) struct Vcpu {
    pub(super) paging: Paging,
    pub(super) view: View,
    /// Its TLB: frame and rights of a linear page.
    pub(super) tlb: BTreeMap<u64, (Mfn, Attrs)>,
    /// For each address, what was in the tables since its last flush.
    pub(super) seen: Vec<History>,
}

pub(super) struct Machine {
    pub(super) memory: Memory,
    pub(super) cache: Cache,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) flushed: Cell<u32>,
    /// Of them, the TLBs have followed.
    pub(super) followed: u32,
    /// Changes of the p2m that the cache has to follow before a vcpu enters.
    pub(super) changed: Vec<u64>,
    /// Pages that the next fault finds changed, and how.
    pub(super) race: Option<(u64, Remap)>,
}

impl Machine {
    pub(super) fn new(pages: usize) -> Self {
        let frames = frames(1536);
        let vcpu = || Vcpu {
            paging: long_mode(),
            view: View::new(frames, OWNER).unwrap(),
            tlb: BTreeMap::new(),
            seen: ADDRESSES.map(History::new).into(),
        };
        let mut machine = Self {
            memory: Memory::new(frames),
            cache: Cache::new(frames, OWNER, pages, [1, 2]).unwrap(),
            vcpus: (0..VCPUS).map(|_| vcpu()).collect(),
            flushed: Cell::new(0),
            followed: 0,
            changed: Vec::new(),
            race: None,
        };
        machine.note();
        machine
    }

    pub(super) fn note(&mut self) {
        for vcpu in &mut self.vcpus {
            for seen in &mut vcpu.seen {
                seen.note(&self.memory);
            }
        }
    }

    /// Flushes a vcpu's whole TLB: from now on the vcpu knows only the present tables.
    pub(super) fn forget(&mut self, vcpu: usize) {
        let vcpu = &mut self.vcpus[vcpu];
        vcpu.tlb.clear();
        for seen in &mut vcpu.seen {
            seen.forget(&self.memory);
        }
    }

    /// TLBs follow what the cache asked for.
    pub(super) fn follow(&mut self) {
        if self.followed != self.flushed.get() {
            self.followed = self.flushed.get();
            for vcpu in &mut self.vcpus {
                vcpu.tlb.clear();
            }
        }
    }

    pub(super) fn activate(&mut self, n: usize) {
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
    pub(super) fn remap(&mut self, gfn: u64, how: Remap) {
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

    /// Follows changes of the p2m, as every vcpu does before it enters.
    pub(super) fn follow_p2m(&mut self) {
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
    pub(super) fn check(&self) {
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

    pub(super) fn access(&mut self, n: usize, at: usize, code: u32) {
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

    pub(super) fn fill(&mut self, n: usize, paging: &Paging, fill: &Fill) {
        let outside = Outside {
            memory: &self.memory,
            flushed: &self.flushed,
        };
        let view = &mut self.vcpus[n].view;
        self.cache.fill(view, paging, fill, &outside);
    }

    /// The CPU's own check: WP and NXE are always on.
    pub(super) fn cpu_allows(&self, n: usize, attrs: &Attrs, access: Access) -> bool {
        let paging = &self.vcpus[n].paging;
        let of_user = attrs.tag & Fmt::USER != 0;
        let user = access.contains(Access::USER);
        let smep = of_user && paging.cr4 & CR4_SMEP != 0 && paging.cr0 & CR0_PG != 0;
        (of_user || !user)
            && (attrs.write || !access.contains(Access::WRITE))
            && (!access.contains(Access::FETCH) || (attrs.exec && (user || !smep)))
    }

    pub(super) fn succeeded(
        &self,
        n: usize,
        at: usize,
        access: Access,
        (mfn, attrs): (Mfn, Attrs),
    ) {
        let vcpu = &self.vcpus[n];
        // Each entry by itself: shadows of tables serve several walks, as a CPU's caches of them
        // do.
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

    pub(super) fn control(&mut self, n: usize, control: Control) {
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
    pub(super) fn edit(&mut self, table: u64, index: u64, frame: u64, flags: u64) {
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

    pub(super) fn step(&mut self, op: Op) {
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
                    // PAE's top entries are registers of the CPU, loaded with CR3 (SDM volume 3,
                    // 4.4.1).
                    let pae = paging.cr0 & CR0_PG != 0
                        && paging.cr4 & CR4_PAE != 0
                        && paging.efer & EFER_LMA == 0;
                    let top = pae.then_some(paging.cr3 >> 12);
                    self.vcpus[vcpu].seen[at].forget_but(top, &self.memory);
                }
            }
            // Translations of other address spaces, and of this one, may go at any time: they do at
            // each load.
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
