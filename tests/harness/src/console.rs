//! The console of a machine: everything it printed, a cursor into it, and a copy in a log file.
//!
//! A thread drains the pipe at all times, so that a machine that prints much never stalls. The text
//! is kept without carriage returns; invalid UTF-8 is replaced.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use regex_lite::Regex;

/// The text that a machine has printed so far.
pub struct Console {
    shared: Arc<Shared>,
    /// The text before this offset has been matched already.
    cursor: usize,
    log: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    closed: bool,
}

/// Why a wait ended without a match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    TimedOut,
    /// The machine ended.
    Closed,
    /// One of the fatal patterns came instead: the line with it.
    Fatal(String),
}

impl Console {
    pub(crate) fn new(mut from: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        if let Some(directory) = log.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let mut file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            grown: Condvar::new(),
        });
        let reader = Arc::clone(&shared);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut pending = Vec::new();
            loop {
                let count = from.read(&mut buffer).unwrap_or(0);
                // The log is a by-product: a full disk must not end the run.
                let _ = file.write_all(&buffer[..count]);
                pending.extend(buffer[..count].iter().filter(|byte| **byte != b'\r'));
                let mut state = reader.lock();
                take_text(&mut pending, &mut state.text);
                state.closed = count == 0;
                reader.grown.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Ok(Self {
            shared,
            cursor: 0,
            log: log.to_owned(),
        })
    }

    /// Waits for the pattern after what was matched last; returns the text up to the match's end.
    pub(crate) fn expect(
        &mut self,
        pattern: &Regex,
        fatal: Option<&Regex>,
        limit: Duration,
    ) -> Result<String, Missed> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            let fresh = &state.text[self.cursor..];
            if let Some(found) = pattern.find(fresh) {
                let seen = fresh[..found.end()].to_owned();
                self.cursor += found.end();
                return Ok(seen);
            }
            if let Some(found) = fatal.and_then(|fatal| fatal.find(fresh)) {
                return Err(Missed::Fatal(found.as_str().trim().to_owned()));
            }
            if state.closed {
                return Err(Missed::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::TimedOut);
            }
            state = self
                .shared
                .grown
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the machine closes its console, or the limit is over; tells which.
    pub(crate) fn wait_closed(&self, limit: Duration) -> bool {
        let state = self.shared.lock();
        let (state, _) = self
            .shared
            .grown
            .wait_timeout_while(state, limit, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.closed
    }

    /// All that was printed.
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }

    /// The text that was printed since the last match. The text stays unread.
    pub fn unread(&self) -> String {
        self.shared.lock().text[self.cursor..].to_owned()
    }

    /// The last lines.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Where the raw bytes are kept.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves what is complete UTF-8 from `pending` to `text`; bytes that can never be become U+FFFD.
fn take_text(pending: &mut Vec<u8>, text: &mut String) {
    loop {
        match std::str::from_utf8(pending) {
            Ok(valid) => {
                text.push_str(valid);
                pending.clear();
                return;
            }
            Err(error) => {
                let valid: Vec<u8> = pending.drain(..error.valid_up_to()).collect();
                text.push_str(&String::from_utf8_lossy(&valid));
                match error.error_len() {
                    Some(bad) => {
                        pending.drain(..bad);
                        text.push(char::REPLACEMENT_CHARACTER);
                    }
                    None => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &'static [u8], name: &str) -> Console {
        let log = std::env::temp_dir().join(format!("oxen-console-{}-{name}", std::process::id()));
        Console::new(text, &log).expect("a log in the temporary directory")
    }

    fn pattern(text: &str) -> Regex {
        Regex::new(text).expect("a valid pattern")
    }

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn matches_in_order_and_not_twice() {
        let mut console = console(b"one\r\ntwo\r\none\r\n", "order");
        assert_eq!(
            console.expect(&pattern("one"), None, SOON),
            Ok("one".into())
        );
        assert_eq!(
            console.expect(&pattern("one"), None, SOON),
            Ok("\ntwo\none".into())
        );
        assert_eq!(
            console.expect(&pattern("one"), None, SOON),
            Err(Missed::Closed)
        );
    }

    #[test]
    fn a_fatal_line_ends_the_wait() {
        let mut console = console(b"fine\nKernel panic - not syncing: x\n", "fatal");
        let fatal = pattern("(?m)^.*Kernel panic.*$");
        let missed = console.expect(&pattern("never"), Some(&fatal), SOON);
        assert_eq!(
            missed,
            Err(Missed::Fatal("Kernel panic - not syncing: x".into()))
        );
    }

    #[test]
    fn broken_utf8_is_replaced_and_split_utf8_is_joined() {
        let mut text = String::new();
        let mut pending = b"a\xffb\xc3".to_vec();
        take_text(&mut pending, &mut text);
        assert_eq!(
            (text.as_str(), pending.as_slice()),
            ("a\u{fffd}b", &b"\xc3"[..])
        );
        pending.push(0xa4);
        take_text(&mut pending, &mut text);
        assert_eq!(text, "a\u{fffd}b\u{e4}");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let console = console(b"1\n2\n3\n", "tail");
        assert!(console.wait_closed(SOON));
        assert_eq!(console.tail(2), "2\n3");
    }
}
