//! Short lists of page ranges, for what is mapped and what must stay trapped.

use alloc::vec::Vec;

use oxen_types::{Mfn, PAGE_SHIFT};

/// Whole pages, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pages {
    first: u64,
    last: u64,
}

impl Pages {
    /// The pages that `size` bytes at `addr` touch. `None`: empty, or past the end of the world.
    pub(super) fn covering(addr: u64, size: u64) -> Option<Self> {
        let end = addr.checked_add(size.checked_sub(1)?)?;
        Some(Self {
            first: addr >> PAGE_SHIFT,
            last: end >> PAGE_SHIFT,
        })
    }

    pub(super) fn contains(&self, addr: u64) -> bool {
        (self.first..=self.last).contains(&(addr >> PAGE_SHIFT))
    }

    pub(super) fn first(&self) -> Mfn {
        Mfn::new(self.first)
    }

    pub(super) fn count(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Sorted, without overlaps. Neighbours stay apart: they may be refused one by one.
pub(super) fn union(pages: impl IntoIterator<Item = Pages>) -> Vec<Pages> {
    let mut list: Vec<Pages> = pages.into_iter().collect();
    list.sort_unstable_by_key(|pages| pages.first);
    list.dedup_by(|next, kept| {
        let overlap = next.first <= kept.last;
        if overlap {
            kept.last = kept.last.max(next.last);
        }
        overlap
    });
    list
}

/// `list` without the pages of `holes`; both as [`union`] makes them.
pub(super) fn difference(list: &[Pages], holes: &[Pages]) -> Vec<Pages> {
    let mut rest = Vec::with_capacity(list.len());
    for range in list {
        let mut next = Some(range.first);
        let from = holes.partition_point(|hole| hole.last < range.first);
        for hole in holes.iter().skip(from) {
            let Some(first) = next.filter(|_| hole.first <= range.last) else {
                break;
            };
            if let Some(last) = hole.first.checked_sub(1).filter(|last| first <= *last) {
                rest.push(Pages { first, last });
            }
            next = hole.last.checked_add(1);
        }
        if let Some(first) = next.filter(|first| *first <= range.last) {
            rest.push(Pages { first, ..*range });
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(first: u64, last: u64) -> Pages {
        Pages { first, last }
    }

    #[test]
    fn covering_counts_partial_pages() {
        assert_eq!(Pages::covering(0xfff, 2), Some(p(0, 1)));
        assert_eq!(Pages::covering(0x1000, 0x1000), Some(p(1, 1)));
        assert_eq!(Pages::covering(0x1000, 0), None);
        assert_eq!(Pages::covering(u64::MAX, 2), None);
        assert_eq!(p(3, 5).count(), 3);
    }

    #[test]
    fn holes_split_and_trim() {
        assert_eq!(difference(&[p(0, 9)], &[p(3, 4)]), [p(0, 2), p(5, 9)]);
        assert_eq!(difference(&[p(0, 9)], &[p(0, 4), p(9, 20)]), [p(5, 8)]);
        assert_eq!(difference(&[p(0, 9)], &[p(0, u64::MAX)]), []);
        assert_eq!(difference(&[p(5, 9)], &[p(0, 4)]), [p(5, 9)]);
        let list = [p(0, 1), p(2, 6), p(8, 9)];
        assert_eq!(
            difference(&list, &[p(1, 3), p(5, 8)]),
            [p(0, 0), p(4, 4), p(9, 9)]
        );
    }

    #[test]
    fn unions_merge_overlaps_only() {
        assert_eq!(union([p(5, 9), p(0, 4), p(1, 2)]), [p(0, 4), p(5, 9)]);
        assert_eq!(union([p(5, 9), p(0, 5), p(9, 9)]), [p(0, 9)]);
    }
}
