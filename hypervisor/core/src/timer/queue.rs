//! One CPU's timers in the order of their deadlines, without memory of its own.
//!
//! Each timer has a node, made with its owner, which moves into the queue when the timer is armed
//! and back when it is not. So arming a timer cannot fail, however many there are. The nodes form a
//! treap: a search tree by deadline, in which no node is heavier than the one above it. The weights
//! are spread evenly, so that it is about as deep as a balanced tree.

use alloc::boxed::Box;

use super::TimerKind;

/// The deadline, and the timer's id, which differs among timers of the same deadline.
pub(super) type Key = (u64, u64);

type Link<T> = Option<Box<Node<T>>>;

pub(super) struct Node<T> {
    pub(super) key: Key,
    pub(super) kind: TimerKind,
    /// Set while the timer is queued.
    pub(super) owner: Option<T>,
    weight: u64,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Node<T> {
    /// `id`: no two timers of the machine have the same.
    pub(super) fn new(kind: TimerKind, id: u64) -> Self {
        Self {
            key: (0, id),
            kind,
            owner: None,
            weight: spread(id),
            left: None,
            right: None,
        }
    }
}

/// Spreads consecutive numbers over all (the last steps of SplitMix64).
fn spread(id: u64) -> u64 {
    let x = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(super) struct Queue<T> {
    root: Link<T>,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { root: None }
    }

    /// The timer with the earliest deadline.
    pub(super) fn first(&self) -> Option<&Node<T>> {
        let mut first = self.root.as_deref()?;
        while let Some(earlier) = first.left.as_deref() {
            first = earlier;
        }
        Some(first)
    }

    pub(super) fn insert(&mut self, mut node: Box<Node<T>>) {
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|above| above.weight >= node.weight) {
            let Some(above) = at else { return };
            at = above.towards(node.key);
        }
        (node.left, node.right) = split(at.take(), node.key);
        *at = Some(node);
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Box<Node<T>>> {
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|node| node.key != key) {
            at = at.as_mut()?.towards(key);
        }
        let mut found = at.take()?;
        *at = join(found.left.take(), found.right.take());
        Some(found)
    }
}

impl<T> Node<T> {
    fn towards(&mut self, key: Key) -> &mut Link<T> {
        if key < self.key {
            &mut self.left
        } else {
            &mut self.right
        }
    }
}

/// The nodes before and after a key that is not among them.
fn split<T>(mut tree: Link<T>, key: Key) -> (Link<T>, Link<T>) {
    let (mut before, mut after) = (None, None);
    let (mut low, mut high) = (&mut before, &mut after);
    while let Some(mut node) = tree {
        if node.key < key {
            tree = node.right.take();
            low = &mut low.insert(node).right;
        } else {
            tree = node.left.take();
            high = &mut high.insert(node).left;
        }
    }
    (before, after)
}

/// One tree of two, of which the first has the earlier nodes.
fn join<T>(mut before: Link<T>, mut after: Link<T>) -> Link<T> {
    let mut all = None;
    let mut at = &mut all;
    loop {
        match (before, after) {
            (None, rest) | (rest, None) => {
                *at = rest;
                return all;
            }
            (Some(mut low), Some(high)) if low.weight >= high.weight => {
                (before, after) = (low.right.take(), Some(high));
                at = &mut at.insert(low).right;
            }
            (Some(low), Some(mut high)) => {
                (before, after) = (Some(low), high.left.take());
                at = &mut at.insert(high).left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn depth(link: &Link<()>) -> usize {
        let below = |node: &Node<()>| depth(&node.left).max(depth(&node.right));
        link.as_deref().map_or(0, |node| 1 + below(node))
    }

    fn node(id: u64, deadline: u64) -> Box<Node<()>> {
        let mut node = Box::new(Node::new(TimerKind::Poll, id));
        node.key.0 = deadline;
        node
    }

    proptest! {
        /// The queue behaves like a sorted map.
        #[test]
        fn timers_come_in_order(steps in prop::collection::vec((0u64..60, 0u64..20, any::<bool>()), 0..200)) {
            let (mut queue, mut model) = (Queue::new(), BTreeMap::new());
            for (id, deadline, add) in steps {
                let old = model.iter().find(|(_, other)| **other == id).map(|(key, _)| *key);
                if let Some(key) = old {
                    model.remove(&key);
                    prop_assert_eq!(queue.remove(key).map(|node| node.key), Some(key));
                }
                if add {
                    model.insert((deadline, id), id);
                    queue.insert(node(id, deadline));
                } else {
                    prop_assert!(queue.remove((deadline, id)).is_none());
                }
                prop_assert_eq!(queue.first().map(|node| node.key), model.keys().next().copied());
            }
            let left: Vec<Key> = core::iter::from_fn(|| {
                let key = queue.first()?.key;
                queue.remove(key).map(|node| node.key)
            })
            .collect();
            prop_assert_eq!(left, model.into_keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_timers_do_not_make_it_deep() {
        let mut queue = Queue::new();
        for id in 0..10_000 {
            queue.insert(node(id, id));
        }
        assert!(depth(&queue.root) < 60, "{}", depth(&queue.root));
    }
}
