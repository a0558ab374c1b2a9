//! The shadow as the CPU would use it, against what a TLB may hold: random edits of a guest's tables, accesses
//! and flushes. An access that succeeds does so by some translation that was true since the last flush; one
//! that faults does so by the tables as they are.

use std::boxed::Box;
use std::cell::RefCell;
use std::vec::Vec;

use oxen_mm::memmap::{FirmwareKind, FirmwareRange, MemoryMap};
use oxen_mm::shadow::{Page, Shadow};
use oxen_mm::{FrameTable, Phys};
use oxen_types::DomainId;
use proptest::prelude::*;

use super::*;
use crate::x86::*;

/// Frames of the guest's memory; the first are its tables.
const FRAMES: u64 = 64;
const TABLES: u64 = 8;
/// From here on nothing is there, then it may not be written, then not executed.
const ABSENT: u64 = 40;
const READ_ONLY: u64 = 48;
const NO_FETCH: u64 = 56;
/// Guest frames and the machine's differ by this.
const MFN: u64 = 0x1000;

struct Memory(RefCell<Vec<u64>>);

impl PhysRead for Memory {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        self.0.borrow().get(at.raw() as usize / 8).copied()
    }
}

impl ShadowSpace for Memory {
    fn exchange(&self, at: Gaddr, size: u8, old: u64, new: u64) -> bool {
        let mut words = self.0.borrow_mut();
        let shift = if size == 4 { at.raw() % 8 * 8 } else { 0 };
        let mask = if size == 4 { 0xffff_ffff } else { u64::MAX };
        let word = &mut words[at.raw() as usize / 8];
        if *word >> shift & mask != old {
            return false;
        }
        *word = *word & !(mask << shift) | new << shift;
        true
    }

    fn page(&self, gfn: Gfn) -> Option<GuestPage> {
        let n = gfn.raw();
        let there = n < ABSENT || (READ_ONLY..FRAMES).contains(&n);
        there.then(|| GuestPage {
            mfn: Mfn::new(MFN + n),
            large: false,
            write: !(READ_ONLY..NO_FETCH).contains(&n),
            exec: n < NO_FETCH,
            cached: true,
        })
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Table, entry, frame, flags.
    Edit(u64, u64, u64, u64),
    Access(usize, u32),
    Invlpg(usize),
    Cr3(u64),
    Control(Control),
}

#[derive(Clone, Copy, Debug)]
enum Control {
    Mode(u8),
    Wp,
    Smep,
    Nx,
    Pge,
}

/// Few addresses, of few entries each.
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
        6 => Just(7u64),
        2 => 0u64..8,
        1 => (0u64..8).prop_map(|low| low | 1 << 63 | 1),
        1 => Just(0x107),
        1 => Just(0x87),
    ];
    let frame = prop_oneof![3 => 0..TABLES, 2 => TABLES..FRAMES + 2];
    let index = prop_oneof![0u64..4, 510u64..512];
    let control = prop_oneof![
        4 => (0u8..4).prop_map(Control::Mode),
        2 => Just(Control::Wp),
        1 => Just(Control::Smep),
        1 => Just(Control::Nx),
        1 => Just(Control::Pge),
    ];
    prop_oneof![
        8 => (0..TABLES, index, frame, flags).prop_map(|(t, i, f, b)| Op::Edit(t, i, f, b)),
        12 => (0..ADDRESSES.len(), prop::sample::select(std::vec![0u32, 2, 4, 6, 16, 20]))
            .prop_map(|(at, access)| Op::Access(at, access)),
        2 => (0..ADDRESSES.len()).prop_map(Op::Invlpg),
        1 => (0..TABLES).prop_map(Op::Cr3),
        1 => control.prop_map(Op::Control),
    ]
}

/// A walk that was true at some moment since the last flush.
type Seen = Result<Found, WalkError>;

struct Machine {
    memory: Memory,
    paging: Paging,
    shadow: Shadow,
    seen: [Vec<Seen>; ADDRESSES.len()],
}

impl Machine {
    fn new() -> Self {
        let ram = FirmwareRange {
            start: 0,
            len: 512 << 12,
            kind: FirmwareKind::Ram,
        };
        let mut map = MemoryMap::new(core::iter::once(ram));
        let table = FrameTable::new(Phys::arena(512), &mut map, &[]).unwrap();
        let frames = Box::leak(Box::new(table));
        let mut machine = Self {
            memory: Memory(RefCell::new(std::vec![0; FRAMES as usize * 512])),
            paging: Paging {
                cr0: CR0_PE | CR0_PG | CR0_WP,
                cr3: 0,
                cr4: CR4_PAE | CR4_PGE,
                efer: EFER_LME | EFER_LMA | EFER_NX,
                ac: false,
                phys_bits: 40,
            },
            // So few that they run out.
            shadow: Shadow::new(frames, DomainId(1), 12).unwrap(),
            seen: Default::default(),
        };
        machine.note();
        machine
    }

    fn walk(&self, at: usize) -> Seen {
        let linear = Vaddr::new(ADDRESSES[at]);
        walk::find(&self.memory, &self.paging, linear, Access::READ)
    }

    /// The tables changed: what is true now may be cached from now on.
    fn note(&mut self) {
        for at in 0..ADDRESSES.len() {
            let now = self.walk(at);
            self.seen[at].push(now);
        }
    }

    fn forget(&mut self, at: usize) {
        self.seen[at].clear();
        let now = self.walk(at);
        self.seen[at].push(now);
    }

    fn flush(&mut self) {
        self.shadow.flush();
        (0..ADDRESSES.len()).for_each(|at| self.forget(at));
    }

    /// All of a large page is invalidated by any part of it.
    fn invalidated(&mut self, at: usize) {
        self.forget(at);
        let Ok(page) = self.walk(at) else { return };
        for (other, address) in ADDRESSES.iter().enumerate() {
            let inside = ADDRESSES[at] >> page.shift == address >> page.shift;
            let mut walks = self.seen[other].iter();
            if inside && walks.all(|walk| walk.is_ok_and(|found| found.shift == page.shift)) {
                self.forget(other);
            }
        }
    }

    /// What is global outlasts it.
    fn load_cr3(&mut self, table: u64) {
        self.paging.cr3 = table << 12;
        self.shadow.flush_local();
        for seen in &mut self.seen {
            seen.retain(|walk| walk.is_ok_and(|found| found.global));
        }
        self.note();
    }

    /// As the CPU: by what the shadow holds, or else by a fault.
    fn access(&mut self, at: usize, code: u32) {
        let linear = Vaddr::new(ADDRESSES[at]);
        let access = Access::from_bits_truncate(code);
        for _ in 0..4 {
            let page = self.shadow.lookup(linear.raw() >> 12);
            if let Some(page) = page.filter(|page| self.cpu_allows(page, access)) {
                return self.succeeded(at, access, &page);
            }
            match fault(&self.memory, &self.paging, linear, code) {
                Answer::Retry => {}
                Answer::Fill(fill) => {
                    assert!(!fill.large);
                    self.shadow.fill(
                        fill.linear,
                        Page {
                            mfn: fill.mfn,
                            level: 1,
                            user: fill.user,
                            write: fill.write,
                            exec: fill.exec,
                            cached: fill.cached,
                            global: fill.global,
                        },
                        fill.shift,
                    );
                    self.marked(at, access);
                    // Its accessed and dirty bits are an edit too.
                    self.note();
                }
                Answer::Guest(code) => {
                    let expected = match walk::walk(&self.memory, &self.paging, linear, access) {
                        Err(WalkError::Fault { code }) => code,
                        Err(WalkError::BadTable(_)) => code & 0x16 | 9,
                        other => panic!("the guest sees {code:#x}, not {other:?}"),
                    };
                    assert_eq!(code, expected);
                    return;
                }
                Answer::Memory(fault) => {
                    let there = walk::walk(&self.memory, &self.paging, linear, access);
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

    /// The CPU's own check: WP and NXE are always on.
    fn cpu_allows(&self, page: &Page, access: Access) -> bool {
        let user = access.contains(Access::USER);
        let smep = page.user && self.paging.cr4 & CR4_SMEP != 0 && self.pages();
        (page.user || !user)
            && (page.write || !access.contains(Access::WRITE))
            && (!access.contains(Access::FETCH) || (page.exec && (user || !smep)))
    }

    fn pages(&self) -> bool {
        self.paging.cr0 & CR0_PG != 0
    }

    fn succeeded(&self, at: usize, access: Access, page: &Page) {
        let fits = |found: &Found| {
            let gpa = found.place.gpa;
            let there = self.memory.page(gpa.frame());
            found.check(&self.paging, access).is_ok()
                && there.is_some_and(|there| {
                    there.mfn == page.mfn
                        && (there.write || !access.contains(Access::WRITE))
                        && (there.exec || !access.contains(Access::FETCH))
                })
        };
        let seen = self.seen[at].iter().flatten().any(fits);
        assert!(seen, "{:#x} {access:?} reached {page:?}", ADDRESSES[at]);
    }

    /// After a fill the entries are accessed, and the page's is dirty if it was written.
    fn marked(&self, at: usize, access: Access) {
        let found = self.walk(at).unwrap();
        for step in found.steps.iter().flatten().filter(|step| !step.bare) {
            assert!(step.entry & ACCESSED != 0);
        }
        if let (Some(last), true) = (
            found.steps.iter().flatten().last(),
            access.contains(Access::WRITE),
        ) {
            assert!(last.entry & DIRTY != 0);
        }
    }

    fn control(&mut self, control: Control) {
        let p = &mut self.paging;
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
        self.flush();
    }

    fn edit(&mut self, table: u64, index: u64, frame: u64, flags: u64) {
        let legacy = self.paging.efer & EFER_LMA == 0 && self.paging.cr4 & CR4_PAE == 0;
        let value = frame << 12 | flags;
        let mut words = self.memory.0.borrow_mut();
        if legacy {
            let word = &mut words[(table * 512 + index / 2) as usize];
            let shift = index % 2 * 32;
            *word = *word & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
        } else {
            words[(table * 512 + index) as usize] = value;
        }
        drop(words);
        self.note();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
    #[test]
    fn a_shadow_is_a_tlb(list in prop::collection::vec(op(), 1..200)) {
        let mut machine = Machine::new();
        for op in list {
            match op {
                Op::Edit(table, index, frame, flags) => machine.edit(table, index, frame, flags),
                Op::Access(at, code) => machine.access(at, code),
                Op::Invlpg(at) => {
                    machine.shadow.invalidate(ADDRESSES[at] >> 12);
                    machine.invalidated(at);
                }
                Op::Cr3(table) => machine.load_cr3(table),
                Op::Control(control) => machine.control(control),
            }
        }
    }
}
