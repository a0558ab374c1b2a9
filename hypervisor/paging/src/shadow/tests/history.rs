//! The history of the guest's tables, which a CPU may still know: each word with the values it had
//! since a flush.

use std::cell::RefCell;
use std::vec::Vec;

use oxen_types::{Gaddr, Vaddr};

use super::memory::Memory;
use super::*;
use crate::shadow::fault::{ACCESSED, DIRTY};
use crate::walk::{self, Access, Found, Paging, PhysRead};

pub(super) const MARKS: u64 = ACCESSED | DIRTY;

/// The words of all tables that a walk to some address can read, each with the values that it had.
pub(super) struct History {
    /// Within a table, in any mode.
    offsets: Vec<u64>,
    /// By table and offset.
    words: Vec<Vec<u64>>,
}

impl History {
    pub(super) fn new(linear: u64) -> Self {
        let long = [39, 30, 21, 12].map(|shift| linear >> shift & 0x1ff);
        let short = [22, 12].map(|shift| (linear >> shift & 0x3ff) / 2);
        let mut offsets: Vec<_> = long.into_iter().chain(short).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let words = std::vec![Vec::new(); FRAMES as usize * offsets.len()];
        Self { offsets, words }
    }

    pub(super) fn note(&mut self, memory: &Memory) {
        let places = (0..FRAMES).flat_map(|table| self.offsets.iter().map(move |at| (table, at)));
        for (values, (table, offset)) in self.words.iter_mut().zip(places) {
            let now = memory.read_u64(Gaddr::new((table << 12) | (offset * 8)));
            if let Some(now) = now
                && values.last() != Some(&now)
            {
                values.push(now);
            }
        }
    }

    pub(super) fn forget(&mut self, memory: &Memory) {
        self.forget_but(None, memory);
    }

    /// Those of one table are kept.
    pub(super) fn forget_but(&mut self, table: Option<u64>, memory: &Memory) {
        let tables = self.words.chunks_mut(self.offsets.len());
        for (_, words) in (0..).zip(tables).filter(|(n, _)| Some(*n) != table) {
            words.iter_mut().for_each(Vec::clear);
        }
        self.note(memory);
    }

    fn values(&self, at: Gaddr) -> &[u64] {
        let (table, offset) = (at.raw() >> 12, at.raw() % 4096 / 8);
        let found = self.offsets.binary_search(&offset).ok();
        let index = found.map(|found| table as usize * self.offsets.len() + found);
        index
            .and_then(|index| self.words.get(index))
            .map_or(&[], Vec::as_slice)
    }

    /// The values that an entry had.
    pub(super) fn entries(&self, at: Gaddr, size: u8) -> impl Iterator<Item = u64> {
        let (shift, mask) = match size {
            4 => (at.raw() % 8 * 8, 0xffff_ffff),
            _ => (0, u64::MAX),
        };
        self.values(at).iter().map(move |word| word >> shift & mask)
    }

    /// Whether any walk fits that takes each word as it was at some moment.
    pub(super) fn some_walk(
        &self,
        memory: &Memory,
        paging: &Paging,
        linear: Vaddr,
        fits: impl Fn(&Found) -> bool,
    ) -> bool {
        let mut picks = Vec::new();
        loop {
            let then = Then {
                history: self,
                memory,
                picks: RefCell::new(picks),
                choices: RefCell::default(),
            };
            if walk::find(&then, paging, linear, Access::READ).is_ok_and(|found| fits(&found)) {
                return true;
            }
            // The next way to choose, as one counts.
            let choices = then.choices.into_inner();
            picks = then.picks.into_inner();
            picks.truncate(choices.len());
            while let Some(pick) = picks.pop() {
                if pick + 1 < choices[picks.len()] {
                    picks.push(pick + 1);
                    break;
                }
            }
            if picks.is_empty() {
                return false;
            }
        }
    }
}

/// Memory with some of the values that its words had, in the order in which a walk reads them.
struct Then<'a> {
    history: &'a History,
    memory: &'a Memory,
    picks: RefCell<Vec<usize>>,
    /// How many there were to choose from.
    choices: RefCell<Vec<usize>>,
}

impl PhysRead for Then<'_> {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        // A walk reads an entry with whatever marks it has.
        let marks = MARKS | MARKS << 32;
        let mut values: Vec<_> = self.history.values(at).iter().map(|v| v & !marks).collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            return self.memory.read_u64(at);
        }
        let (mut picks, mut choices) = (self.picks.borrow_mut(), self.choices.borrow_mut());
        if picks.len() == choices.len() {
            picks.push(0);
        }
        let pick = picks[choices.len()];
        choices.push(values.len());
        values.get(pick).copied()
    }
}
