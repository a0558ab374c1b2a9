//! Queues of bytes for receivers that may be slow.

use std::collections::VecDeque;

/// A queue that drops its oldest bytes when it is full, and says how many were lost.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes: VecDeque<u8>,
    limit: usize,
    lost: usize,
}

impl Queue {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            lost: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.lost = self.lost.saturating_add(over);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Lets `send` take what it can.
    pub(crate) fn send<E>(
        &mut self,
        mut send: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        if self.lost > 0 {
            let note = format!("\r\n[{} bytes of console output lost]\r\n", self.lost);
            self.lost = 0;
            for byte in note.bytes().rev() {
                self.bytes.push_front(byte);
            }
        }
        while !self.bytes.is_empty() {
            let sent = send(self.bytes.as_slices().0)?;
            if sent == 0 {
                break;
            }
            self.bytes.drain(..sent.min(self.bytes.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loses_the_oldest_and_says_so() {
        let mut queue = Queue::new(10);
        queue.push(b"0123456789abc");
        let mut got = Vec::new();
        let mut room = 3;
        queue
            .send(|bytes| {
                let n = bytes.len().min(room);
                room -= n;
                got.extend_from_slice(&bytes[..n]);
                Ok::<_, ()>(n)
            })
            .unwrap();
        assert_eq!(got, b"\r\n[");
        queue
            .send(|bytes| {
                got.extend_from_slice(bytes);
                Ok::<_, ()>(bytes.len())
            })
            .unwrap();
        assert_eq!(got, b"\r\n[3 bytes of console output lost]\r\n3456789abc");
        assert!(queue.is_empty());
    }
}
