//! Messages that wait to be taken by the other side.

use std::collections::{HashSet, VecDeque};
use std::io::IoSlice;

/// Messages that go out together.
const TOGETHER: usize = 64;

/// A queue of whole messages, taken byte by byte.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<Message>,
    /// Bytes of the first message that are gone already.
    taken: usize,
    bytes: usize,
    replies: usize,
    /// Events in the queue, to queue no equal ones.
    events: HashSet<Vec<u8>>,
}

#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    is_event: bool,
}

impl Outbox {
    pub fn push_reply(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.replies = self.replies.saturating_add(1);
        self.push(Message {
            bytes,
            is_event: false,
        });
    }

    /// Queues an event, unless the queue is longer than `limit` or holds the same (and it may be
    /// merged).
    pub fn push_event(&mut self, bytes: Vec<u8>, merge: bool, limit: usize) -> bool {
        if self.bytes >= limit || (merge && !self.events.insert(bytes.clone())) {
            return false;
        }
        self.push(Message {
            bytes,
            is_event: true,
        });
        true
    }

    fn push(&mut self, message: Message) {
        self.bytes = self.bytes.saturating_add(message.bytes.len());
        self.messages.push_back(message);
    }

    /// The next bytes to go; empty when there are none.
    pub fn next(&self) -> &[u8] {
        self.messages
            .front()
            .and_then(|m| m.bytes.get(self.taken..))
            .unwrap_or(&[])
    }

    /// The next bytes to go, of several messages, for one call of the kernel.
    pub fn next_together(&self) -> Vec<IoSlice<'_>> {
        let rest = self.messages.iter().skip(1).map(|m| m.bytes.as_slice());
        let first = core::iter::once(self.next());
        first.chain(rest).take(TOGETHER).map(IoSlice::new).collect()
    }

    /// The number of bytes that wait.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The number of replies that wait.
    pub const fn replies(&self) -> usize {
        self.replies
    }

    /// `count` bytes went; at most all.
    pub fn advance(&mut self, count: usize) {
        let mut left = count.min(self.bytes);
        self.bytes -= left;
        while let Some(first) = self.messages.front() {
            let rest = first.bytes.len().saturating_sub(self.taken);
            if left < rest {
                self.taken += left;
                return;
            }
            left -= rest;
            self.taken = 0;
            if first.is_event {
                self.events.remove(&first.bytes);
            } else {
                self.replies = self.replies.saturating_sub(1);
            }
            self.messages.pop_front();
        }
    }

    /// All bytes that wait.
    pub fn rest(&self) -> Vec<u8> {
        let all: Vec<u8> = self
            .messages
            .iter()
            .flat_map(|m| &m.bytes)
            .copied()
            .collect();
        all.get(self.taken..)
            .map(<[u8]>::to_vec)
            .unwrap_or_default()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_out_in_order_and_in_parts() {
        let mut outbox = Outbox::default();
        outbox.push_reply(b"abc".to_vec());
        assert!(outbox.push_event(b"de".to_vec(), true, 100));
        assert!(!outbox.push_event(b"de".to_vec(), true, 100), "merged");
        assert!(outbox.push_event(b"de".to_vec(), false, 100));
        assert!(!outbox.push_event(b"f".to_vec(), true, 7), "full");
        assert_eq!((outbox.len(), outbox.replies()), (7, 1));
        assert_eq!(outbox.next(), b"abc");
        outbox.advance(1);
        assert_eq!(outbox.next(), b"bc");
        let together: Vec<u8> = outbox
            .next_together()
            .iter()
            .flat_map(|s| s.to_vec())
            .collect();
        assert_eq!(together, b"bcdede");
        assert_eq!(outbox.rest(), b"bcdede");
        outbox.advance(3);
        assert_eq!((outbox.next(), outbox.replies()), (b"e".as_slice(), 0));
        outbox.advance(100);
        assert!(outbox.is_empty() && outbox.next().is_empty());
        assert!(
            outbox.push_event(b"de".to_vec(), true, 100),
            "no longer queued"
        );
    }
}
