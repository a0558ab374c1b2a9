//! Shadows by their guest frame: a hash of chains. All shadows of a frame are in one chain.

use alloc::vec::Vec;

use super::key::Key;
use super::pool::{Info, NONE, Pair, Pool};

pub(super) struct Index {
    heads: Vec<Pair>,
}

/// More shadows of one frame than this, and all is forgotten: no guest of good will has them.
pub(super) const MOST_SHAPES: usize = 64;

impl Index {
    pub(super) fn new(pages: usize) -> Option<Self> {
        let mut heads = Vec::new();
        let count = (pages / 4).clamp(16, 1 << 14).next_power_of_two();
        heads.try_reserve_exact(count).ok()?;
        heads.resize(count, NONE);
        Some(Self { heads })
    }

    fn bucket(&self, gfn: u64) -> usize {
        // Fibonacci hashing; neighbours are spread.
        let hash = gfn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.heads.len() - 1)
    }

    pub(super) fn clear(&mut self) {
        self.heads.fill(NONE);
    }

    fn head(&self, gfn: u64) -> Pair {
        self.heads.get(self.bucket(gfn)).copied().unwrap_or(NONE)
    }

    pub(super) fn find(&self, pool: &Pool, key: &Key) -> Option<Pair> {
        let mut at = self.head(key.gfn);
        while let Some(info) = pool.info(at) {
            if info.key == *key {
                return Some(at);
            }
            at = info.chain;
        }
        None
    }

    /// The first shadow of a guest's table, or the one after `last`.
    pub(super) fn next_of(&self, pool: &Pool, gfn: u64, last: Option<Pair>) -> Option<Pair> {
        let mut at = match last {
            None => self.head(gfn),
            Some(last) => pool.info(last)?.chain,
        };
        while let Some(info) = pool.info(at) {
            if info.key.gfn == gfn && info.guest.is_some() {
                return Some(at);
            }
            at = info.chain;
        }
        None
    }

    pub(super) fn insert(&mut self, pool: &mut Pool, pair: Pair, mut info: Info) {
        let bucket = self.bucket(info.key.gfn);
        let Some(head) = self.heads.get_mut(bucket) else {
            return;
        };
        info.chain = *head;
        *head = pair;
        pool.describe(pair, info);
    }

    pub(super) fn remove(&mut self, pool: &mut Pool, pair: Pair) {
        let Some(info) = pool.info(pair).copied() else {
            return;
        };
        let bucket = self.bucket(info.key.gfn);
        let Some(head) = self.heads.get_mut(bucket) else {
            return;
        };
        if *head == pair {
            *head = info.chain;
            return;
        }
        let mut at = *head;
        while let Some(other) = pool.info_mut(at) {
            if other.chain == pair {
                other.chain = info.chain;
                return;
            }
            at = other.chain;
        }
    }
}
