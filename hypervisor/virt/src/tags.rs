//! The numbers that tell cached translations of one vcpu from another's (AMD's ASIDs, Intel's
//! VPIDs): each physical CPU hands them out to the vcpus that it runs.
//!
//! Invariant: within one generation of one CPU no number is given twice. When they run out, the
//! generation changes, all translations are flushed at the next entry, and every vcpu whose tag is
//! of an older generation must take a new one first.

/// The tag under which a vcpu's translations may be cached on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tag {
    cpu: u32,
    generation: u64,
    number: u32,
}

impl Tag {
    /// No CPU has translations under it: generations begin at 1.
    pub(crate) const NONE: Self = Self {
        cpu: 0,
        generation: 0,
        number: 0,
    };

    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

#[derive(Debug)]
pub(crate) struct TagPool {
    cpu: u32,
    generation: u64,
    next: u32,
    /// One more than the last.
    end: u32,
    /// The next entry on this CPU must flush everything.
    flush_all: bool,
}

impl TagPool {
    pub(crate) fn new(cpu: u32, count: u32) -> Self {
        // What ran before us may have left translations.
        Self {
            cpu,
            generation: 1,
            next: 1,
            end: count.max(2),
            flush_all: true,
        }
    }

    pub(crate) fn is_current(&self, tag: Tag) -> bool {
        tag.cpu == self.cpu && tag.generation == self.generation
    }

    /// A tag under which nothing is cached yet (once `take_flush` has been obeyed).
    pub(crate) fn allocate(&mut self) -> Tag {
        if self.next >= self.end {
            self.generation += 1;
            self.next = 1;
            self.flush_all = true;
        }
        let number = self.next;
        self.next += 1;
        Tag {
            cpu: self.cpu,
            generation: self.generation,
            number,
        }
    }

    /// Must this entry flush all numbers? The answer is given once.
    pub(crate) fn take_flush(&mut self) -> bool {
        core::mem::take(&mut self.flush_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_twice_in_a_generation_and_a_flush_between_generations() {
        let mut pool = TagPool::new(3, 4);
        assert!(pool.take_flush() && !pool.take_flush());
        let first: [_; 3] = core::array::from_fn(|_| pool.allocate());
        assert_eq!(first.map(|t| t.number()), [1, 2, 3]);
        assert!(first.iter().all(|&t| pool.is_current(t)) && !pool.take_flush());
        let next = pool.allocate();
        assert_eq!(next.number(), 1);
        assert!(pool.take_flush() && pool.is_current(next));
        assert!(first.iter().all(|&t| !pool.is_current(t)));
    }

    #[test]
    fn a_tag_is_worth_nothing_elsewhere() {
        let mut a = TagPool::new(0, 8);
        let b = TagPool::new(1, 8);
        let tag = a.allocate();
        assert!(a.is_current(tag) && !b.is_current(tag));
        assert!(!a.is_current(Tag::NONE));
    }
}
