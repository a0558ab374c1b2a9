//! Courtesy between two writers of one terminal: dom0 writes its lines in small pieces, and the
//! hypervisor's lines wait until such a line has ended, though not for long.

/// Silence after which a line without an end counts as a prompt.
const SILENCE: u64 = 200_000_000;
/// No line of the hypervisor waits longer, whatever dom0 does.
const LONGEST: u64 = 1_000_000_000;
const CAPACITY: usize = 2048;

/// The hypervisor's lines that wait; times in nanoseconds.
pub(super) struct Hold {
    mid_line: bool,
    last_write: u64,
    since: u64,
    len: usize,
    bytes: [u8; CAPACITY],
}

impl Hold {
    pub(super) const fn new() -> Self {
        Self {
            mid_line: false,
            last_write: 0,
            since: 0,
            len: 0,
            bytes: [0; CAPACITY],
        }
    }

    /// Notes what dom0 wrote.
    pub(super) fn dom0_wrote(&mut self, bytes: &[u8], now: u64) {
        if let Some(last) = bytes.last() {
            self.mid_line = *last != b'\n';
            self.last_write = now;
        }
    }

    /// Whether output now would cut a line that dom0 is writing.
    pub(super) fn must_wait(&self, now: u64) -> bool {
        let in_time = self.len == 0 || now.saturating_sub(self.since) < LONGEST;
        self.mid_line && in_time && now.saturating_sub(self.last_write) < SILENCE
    }

    /// Keeps a piece of a line. Returns false if there is no room.
    pub(super) fn keep(&mut self, bytes: &[u8], now: u64) -> bool {
        let Some(room) = self.bytes[self.len..].get_mut(..bytes.len()) else {
            return false;
        };
        if self.len == 0 {
            self.since = now;
        }
        room.copy_from_slice(bytes);
        self.len += bytes.len();
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes all that has waited, to go out now.
    pub(super) fn take(&mut self) -> &[u8] {
        let len = core::mem::take(&mut self.len);
        &self.bytes[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_end_of_a_line() {
        let mut hold = Hold::new();
        assert!(!hold.must_wait(0));
        hold.dom0_wrote(b"half a li", 100);
        assert!(hold.must_wait(101));
        assert!(hold.keep(b"(OXEN) one\n", 101));
        assert!(hold.keep(b"(OXEN) two\n", 102));
        hold.dom0_wrote(b"ne\n", 200);
        assert!(!hold.must_wait(201));
        assert_eq!(hold.take(), b"(OXEN) one\n(OXEN) two\n");
        assert!(hold.is_empty());
    }

    #[test]
    fn a_prompt_is_not_waited_for() {
        let mut hold = Hold::new();
        hold.dom0_wrote(b"~ # ", 0);
        assert!(hold.must_wait(SILENCE - 1));
        assert!(!hold.must_wait(SILENCE));
    }

    #[test]
    fn nor_a_line_without_end() {
        let mut hold = Hold::new();
        hold.dom0_wrote(b".", 0);
        assert!(hold.keep(b"x\n", 5));
        let mut now = 5;
        while hold.must_wait(now) {
            now += SILENCE / 2;
            hold.dom0_wrote(b".", now);
        }
        assert!((LONGEST..LONGEST + SILENCE).contains(&now));
    }

    #[test]
    fn room_is_bounded() {
        let mut hold = Hold::new();
        assert!(hold.keep(&[0; CAPACITY], 0));
        assert!(!hold.keep(b"x", 0));
        assert_eq!(hold.take().len(), CAPACITY);
        assert!(hold.keep(b"x", 0));
    }
}
