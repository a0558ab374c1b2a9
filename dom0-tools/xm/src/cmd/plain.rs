//! A console's output as plain text: what moves cursors and sets colours is left out, so that `# $`
//! matches a prompt whatever a shell sends after it (ECMA-48 control sequences).

/// Text so far. Sequences may arrive in pieces.
#[derive(Default)]
pub(super) struct Plain {
    text: String,
    /// The beginning of a character whose rest has not come.
    raw: Vec<u8>,
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
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Drops the first `length` bytes, which end a character.
    pub(super) fn forget(&mut self, length: usize) {
        self.text.drain(..length.min(self.text.len()));
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.one(*byte);
        }
        self.decode();
    }

    /// Decodes bytes as UTF-8; invalid ones become the replacement character.
    fn decode(&mut self) {
        let raw = core::mem::take(&mut self.raw);
        let mut chunks = raw.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text.push_str(chunk.valid());
            match str::from_utf8(chunk.invalid()) {
                Ok(_) => {}
                Err(error) if error.error_len().is_none() && chunks.peek().is_none() => {
                    self.raw = chunk.invalid().to_vec();
                }
                Err(_) => self.text.push(char::REPLACEMENT_CHARACTER),
            }
        }
    }

    fn one(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Text, 0x1b) | (State::Escape, 0x1b) => State::Escape,
            (State::Text, b'\r' | 0 | 7) => State::Text,
            (State::Text, byte) => {
                self.raw.push(byte);
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
        plain.text().to_owned()
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
        assert_eq!(plain.text(), "");
    }

    #[test]
    fn characters_may_come_in_pieces_and_be_wrong() {
        assert_eq!(plain(&[b"a\xe2", b"\x97", b"\x8fb"]), "a\u{25cf}b");
        assert_eq!(plain(&[b"a\xff\xe2", b"b\xe2"]), "a\u{fffd}\u{fffd}b");
    }
}
