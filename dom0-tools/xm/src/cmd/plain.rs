//! A console's output as plain text: what moves cursors and sets colours is left out, so that `# $`
//! matches a prompt whatever a shell sends after it (ECMA-48 control sequences).

/// Text so far. Sequences may arrive in pieces.
#[derive(Default)]
pub(super) struct Plain {
    text: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [`, to the first letter or other final byte.
    Control,
    /// `ESC ]` and its like, to a bell or `ESC \`.
    Command,
    CommandEscape,
    /// `ESC (` and its like: one more byte.
    Charset,
}

impl Plain {
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Drops the first `length` bytes.
    pub(super) fn forget(&mut self, length: usize) {
        self.text.drain(..length.min(self.text.len()));
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.one(*byte);
        }
    }

    fn one(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Text, 0x1b) | (State::Escape, 0x1b) => State::Escape,
            (State::Text, b'\r' | 0 | 7) => State::Text,
            (State::Text, byte) => {
                self.text.push(byte);
                State::Text
            }
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']' | b'P' | b'_' | b'^' | b'X') => State::Command,
            (State::Escape, b'(' | b')' | b'#' | b'%') => State::Charset,
            (State::Control, 0x20..=0x3f) => State::Control,
            (State::Command, 0x1b) => State::CommandEscape,
            (State::Command, 7) => State::Text,
            (State::Command, _) => State::Command,
            (State::CommandEscape, b'\\') => State::Text,
            (State::CommandEscape, _) => State::Command,
            (State::Escape | State::Control | State::Charset, _) => State::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(pieces: &[&[u8]]) -> String {
        let mut plain = Plain::default();
        pieces.iter().for_each(|piece| plain.add(piece));
        String::from_utf8_lossy(plain.text()).into_owned()
    }

    #[test]
    fn only_text_is_left() {
        assert_eq!(plain(&[b"a\r\nb# \x1b[6n"]), "a\nb# ");
        assert_eq!(
            plain(&[b"\x1b[1;32mok\x1b[0m \x1b(B\x1b]0;title\x07x\x1b]1;y\x1b\\z"]),
            "ok xz"
        );
    }

    #[test]
    fn sequences_may_come_in_pieces() {
        assert_eq!(plain(&[b"a\x1b", b"[3", b"1", b"mb"]), "ab");
    }

    #[test]
    fn text_once_used_is_forgotten() {
        let mut plain = Plain::default();
        plain.add(b"hello");
        plain.forget(3);
        plain.forget(30);
        assert_eq!(plain.text(), b"");
    }
}
