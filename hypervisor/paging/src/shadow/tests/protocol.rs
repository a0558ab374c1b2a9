//! Entry against change: a vcpu enters only with a root that knows all changes of the p2m and of
//! the cache.

use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::{AtomicU64, Ordering};

use oxen_mm::pt::Attrs;
use oxen_types::{Gfn, Mfn, Vaddr};
use spin::Mutex;

use super::machine::long_mode;
use super::memory::Memory;
use super::*;
use crate::bits::*;
use crate::shadow::{Answer, Change, DomainShadow, P2mFlush, VcpuShadow};
use crate::testing::{OWNER, frames};
use crate::walk::Paging;

/// A p2m's flushes, and the times that vcpus had to leave.
#[derive(Default)]
struct Flushes {
    generation: AtomicU64,
    changes: Mutex<Vec<(u64, Change)>>,
    /// Changes up to this generation are forgotten.
    forgotten: AtomicU64,
    expelled: AtomicU64,
}

impl Flushes {
    fn change(&self, change: Change) {
        let new = self.generation() + 1;
        self.changes.lock().push((new, change));
        self.generation.store(new, Ordering::SeqCst);
    }
    fn expelled(&self) -> u64 {
        self.expelled.load(Ordering::SeqCst)
    }
}

impl P2mFlush for Flushes {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
    fn changes_since(&self, generation: u64, each: &mut dyn FnMut(Change)) -> bool {
        let known = self.forgotten.load(Ordering::SeqCst) <= generation;
        let changes = self.changes.lock();
        let later = changes.iter().filter(|(at, _)| known && *at > generation);
        later.for_each(|(_, change)| each(*change));
        known
    }
    fn expel(&self) {
        self.expelled.fetch_add(1, Ordering::SeqCst);
    }
}

/// A domain of two vcpus in long mode, whose first table is frame 0.
struct Domain {
    memory: Memory,
    p2m: Arc<Flushes>,
    shared: DomainShadow<Flushes>,
    vcpus: [VcpuShadow; 2],
    paging: Paging,
}

const WRITE: u32 = 1 << 1;

impl Domain {
    fn new() -> Self {
        let frames = frames(1536);
        let p2m = Arc::new(Flushes::default());
        let shared = DomainShadow::new(frames, OWNER, p2m.clone(), 256, [1, 2]).unwrap();
        let vcpu = || VcpuShadow::new(frames, OWNER).unwrap();
        Self {
            memory: Memory::new(frames),
            p2m,
            shared,
            vcpus: [vcpu(), vcpu()],
            paging: long_mode(),
        }
    }

    fn is_ready(&self, n: usize) -> bool {
        self.vcpus[n].is_ready(&self.shared, &self.paging)
    }

    /// True if the CPU's CR3 changes.
    fn prepare(&mut self, n: usize) -> bool {
        let roots = self.vcpus[n].prepare(&self.shared, &self.memory, &self.paging);
        roots.is_some()
    }

    fn fault(&mut self, n: usize, linear: u64, code: u32) -> Answer {
        let at = Vaddr::new(linear);
        self.vcpus[n].fault(&self.shared, &self.memory, &self.paging, at, code)
    }

    /// The page that the CPU finds.
    fn lookup(&self, n: usize, linear: u64) -> Option<(Mfn, Attrs)> {
        let followed = self.shared.lock();
        followed.cache.lookup(self.vcpus[n].view(), linear >> 12)
    }

    /// Runs until the vcpu may enter, and its access succeeds. The page's gfn.
    fn access(&mut self, n: usize, linear: u64, code: u32) -> Gfn {
        for _ in 0..4 {
            if !self.is_ready(n) {
                self.prepare(n);
            }
            if let Answer::Fill(fill) = self.fault(n, linear, code) {
                let found = self.lookup(n, linear);
                if found.is_some_and(|(mfn, _)| mfn == fill.page.mfn) {
                    return fill.gfn;
                }
            }
        }
        panic!("{linear:#x} is not filled");
    }
}

#[test]
fn a_vcpu_takes_a_root_once() {
    let mut domain = Domain::new();
    assert!(!domain.is_ready(0));
    assert!(domain.prepare(0));
    assert!(domain.is_ready(0) && !domain.is_ready(1));
    assert!(!domain.prepare(0), "the root stays");
}

#[test]
fn a_load_of_cr3_takes_a_root_even_if_the_value_is_the_same() {
    let mut domain = Domain::new();
    domain.prepare(0);
    domain.vcpus[0].new_address_space();
    assert!(!domain.is_ready(0));
    assert!(domain.prepare(0) && domain.is_ready(0));
}

#[test]
fn each_register_that_rules_paging_counts() {
    let mut domain = Domain::new();
    domain.prepare(0);
    let first = domain.paging;
    let changes: [fn(&mut Paging); 5] = [
        |p| p.cr3 ^= 0x1000,
        |p| p.cr0 ^= CR0_WP,
        |p| p.cr4 ^= CR4_SMEP,
        |p| p.cr4 ^= CR4_PGE,
        |p| p.efer ^= EFER_NX,
    ];
    for change in changes {
        change(&mut domain.paging);
        assert!(!domain.is_ready(0));
        assert!(domain.prepare(0) && domain.is_ready(0));
        domain.paging = first;
        assert!(!domain.is_ready(0));
        domain.prepare(0);
    }
}

#[test]
fn a_changed_page_is_taken_out_before_a_vcpu_enters() {
    let mut domain = Domain::new();
    let gfn = domain.access(0, 0x1000, 0);
    assert!(domain.is_ready(0));
    domain.memory.p2m.borrow_mut()[gfn.raw() as usize] = None;
    domain.p2m.change(Change::Page(gfn));
    assert!(!domain.is_ready(0));
    let expelled = domain.p2m.expelled();
    domain.prepare(0);
    assert!(domain.is_ready(0));
    let resets = domain.shared.counts().unwrap().resets;
    // A table in use has to take all with it.
    assert!(resets == 1 || domain.p2m.expelled() == expelled);
    assert_eq!(domain.lookup(0, 0x1000), None);
}

#[test]
fn a_page_that_changes_between_its_fault_and_the_entry_is_not_entered_with() {
    let mut domain = Domain::new();
    domain.prepare(0);
    let Answer::Fill(fill) = domain.fault(0, 0x1000, 0) else {
        panic!("no page");
    };
    domain.memory.p2m.borrow_mut()[fill.gfn.raw() as usize] = None;
    domain.p2m.change(Change::Page(fill.gfn));
    assert!(!domain.is_ready(0));
    domain.prepare(0);
    assert_eq!(domain.lookup(0, 0x1000), None);
}

#[test]
fn many_changes_take_all_and_nobody_is_inside_meanwhile() {
    for forgotten in [false, true] {
        let mut domain = Domain::new();
        domain.access(0, 0x1000, 0);
        domain.access(1, 0x1000, 0);
        let expelled = domain.p2m.expelled();
        match forgotten {
            true => {
                domain.p2m.change(Change::Guest);
                domain.p2m.forgotten.store(1, Ordering::SeqCst);
            }
            false => domain.p2m.change(Change::Many),
        }
        assert!(!domain.is_ready(0) && !domain.is_ready(1));
        assert!(domain.prepare(0), "the root is another");
        assert_eq!(domain.p2m.expelled(), expelled + 1);
        assert!(domain.is_ready(0) && !domain.is_ready(1));
        assert_eq!(domain.lookup(0, 0x1000), None);
        assert!(domain.prepare(1), "of the other vcpu, too");
    }
}

#[test]
fn a_flush_of_the_guests_follows_its_tables_and_keeps_the_rest() {
    let mut domain = Domain::new();
    domain.access(0, 0x1000, 0);
    domain.p2m.change(Change::Guest);
    assert!(!domain.is_ready(0));
    assert!(!domain.prepare(0), "the root stays");
    assert_eq!(domain.shared.counts().unwrap().resets, 0);
    assert!(domain.lookup(0, 0x1000).is_some());
}

#[test]
fn a_vcpu_whose_rights_another_took_flushes_its_tlb_first() {
    let mut domain = Domain::new();
    domain.prepare(1);
    assert!(domain.is_ready(1));
    // Many tables in use: the cache protects the oldest, and takes rights away.
    let protects = |domain: &mut Domain| {
        let before = domain.p2m.expelled();
        for table in 0..LEVELS[1] {
            domain.paging.cr3 = table << 12;
            for linear in ADDRESSES {
                if !domain.is_ready(0) {
                    domain.prepare(0);
                }
                domain.fault(0, linear, WRITE);
            }
        }
        domain.p2m.expelled() > before
    };
    let first = domain.paging.cr3;
    assert!(protects(&mut domain));
    domain.paging.cr3 = first;
    assert!(!domain.is_ready(1));
    domain.prepare(1);
    assert!(domain.is_ready(1));
}

#[test]
fn a_smaller_pool_gives_its_pages_back_and_every_vcpu_its_root() {
    let mut domain = Domain::new();
    domain.access(0, 0x1000, 0);
    assert_eq!(domain.shared.pool(), 256 << 12);
    assert_eq!(domain.shared.set_pool(64 << 12), Ok(true));
    assert_eq!(domain.shared.pool(), 64 << 12);
    assert!(!domain.is_ready(0));
    assert!(domain.prepare(0) && domain.is_ready(0));
}
