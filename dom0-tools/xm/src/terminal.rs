//! The user's terminal in raw mode, set back however we leave.

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io::Stdin;

pub(crate) struct Raw<'a> {
    stdin: &'a Stdin,
    before: Option<Termios>,
}

impl<'a> Raw<'a> {
    /// Does nothing where standard input is not a terminal.
    pub(crate) fn enter(stdin: &'a Stdin) -> Self {
        let before = if isatty(stdin) {
            tcgetattr(stdin).ok()
        } else {
            None
        };
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        Self { stdin, before }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(self.stdin, OptionalActions::Now, before);
        }
    }
}
