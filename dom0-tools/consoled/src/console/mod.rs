//! One guest's console: its page, the sinks of its output and the sources of its input.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use oxen_sys::gntdev::GrantMapping;
use oxen_sys::{Errno, SharedMemory};

use crate::log::Log;
use crate::pty::Pty;
use crate::queue::Queue;
use crate::rate::Budget;
use crate::replay::Replay;
use crate::ring::{Fault, Ring};

/// The most input that waits for room in the ring, in bytes. Beyond, nothing is read from the
/// terminal or clients.
pub(crate) const INPUT: usize = 4096;
/// The most output that waits for the terminal's reader, in bytes.
const PTY_QUEUE: usize = 64 * 1024;

/// The guest's page, by whatever way it was mapped.
pub(crate) enum Page {
    Grant(GrantMapping),
    Mapped(SharedMemory),
}

impl Page {
    pub(crate) fn memory(&self) -> Result<&SharedMemory, Errno> {
        match self {
            Self::Grant(grant) => grant.memory(),
            Self::Mapped(memory) => Ok(memory),
        }
    }
}

/// The sinks of a guest's output. Each may be missing, and the console works without it.
#[derive(Default)]
pub(crate) struct Sinks {
    pub(crate) log: Option<Log>,
    pub(crate) replay: Replay,
    pub(crate) pty: Option<Pty>,
    pub(crate) log_health: Health,
    pub(crate) replay_health: Health,
}

pub(crate) struct Console {
    page: Page,
    ring: Ring,
    sinks: Sinks,
    pty_queue: Queue,
    input: VecDeque<u8>,
    budget: Budget,
    /// Whether the guest has sent an event that was not paid for yet.
    rang: bool,
    /// Whether the guest broke its ring, which is then no longer served.
    broken: bool,
}

/// The result of serving a console once.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The output of the guest.
    pub(crate) output: Vec<u8>,
    /// The guest is to be notified: there is room, or input.
    pub(crate) notify: bool,
    /// Whether there is more to take at once.
    pub(crate) more: bool,
    /// The guest's budget is spent: serve it after a pause, and do not wait for its events until
    /// then.
    pub(crate) pause: bool,
}

impl Console {
    pub(crate) fn open(page: Page, sinks: Sinks, now: Instant) -> Result<Self, Fault> {
        let ring = Ring::open(page.memory()?)?;
        let (pty_queue, input) = (Queue::new(PTY_QUEUE), VecDeque::new());
        Ok(Self {
            page,
            ring,
            sinks,
            pty_queue,
            input,
            budget: Budget::new(now),
            rang: false,
            broken: false,
        })
    }

    /// The page, which the guest writes as it likes.
    pub(crate) fn memory(&self) -> Result<&SharedMemory, Errno> {
        self.page.memory()
    }

    /// Notes an event of the guest, which pays for the service whether it has printed anything or
    /// not.
    pub(crate) const fn rang(&mut self) {
        self.rang = true;
    }

    /// Takes output and gives input, once.
    pub(crate) fn turn(&mut self, now: Instant) -> Result<Turn, Fault> {
        if self.broken {
            return Ok(Turn::default());
        }
        let turn = self.try_turn(now);
        self.broken = turn.is_err();
        turn
    }

    fn try_turn(&mut self, now: Instant) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        let page = self.page.memory()?;
        if self.budget.is_left(now) {
            turn.output = self.ring.peek(page)?;
            if core::mem::take(&mut self.rang) || !turn.output.is_empty() {
                self.budget.spend(turn.output.len());
            }
        } else {
            turn.pause = true;
        }
        if !turn.output.is_empty() {
            // The sinks come first: if the daemon dies now, the output is printed twice rather than
            // never.
            self.sinks.keep(&turn.output, now);
            self.pty_queue.push(&turn.output);
            turn.more = self.ring.take(self.page.memory()?, turn.output.len())?;
            turn.notify = true;
        }
        if !self.input.is_empty() {
            let given = self
                .ring
                .put(self.page.memory()?, self.input.make_contiguous())?;
            self.input.drain(..given);
            turn.notify |= given > 0;
        }
        self.send_to_pty();
        Ok(turn)
    }

    fn send_to_pty(&mut self) {
        if let Some(pty) = &mut self.sinks.pty {
            let _: Result<(), ()> = self.pty_queue.send(|bytes| Ok(pty.write(bytes)));
        }
    }

    /// The room for further input, in bytes.
    pub(crate) fn input_room(&self) -> usize {
        if self.broken {
            0
        } else {
            INPUT.saturating_sub(self.input.len())
        }
    }

    pub(crate) fn type_in(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
    }

    /// Takes input from the terminal.
    pub(crate) fn read_pty(&mut self) {
        let room = self.input_room();
        if let Some(pty) = &mut self.sinks.pty
            && room > 0
        {
            let typed = pty.read(room);
            self.input.extend(typed);
        }
    }

    pub(crate) fn replace_log(&mut self, log: Option<Log>) {
        self.sinks.replace_log(log);
    }

    /// The path of the log.
    pub(crate) fn log_path(&self) -> Option<&Path> {
        self.sinks.log.as_ref().map(Log::path)
    }

    pub(crate) const fn pty(&self) -> Option<&Pty> {
        self.sinks.pty.as_ref()
    }

    /// Whether output is queued for the terminal.
    pub(crate) fn pty_waits(&self) -> bool {
        !self.pty_queue.is_empty()
    }

    pub(crate) fn replay(&self) -> Vec<u8> {
        self.sinks.replay.bytes()
    }
}

impl Sinks {
    /// A sink that fails is tried again from time to time, and reported once: a full disk must not
    /// stop a console, nor be filled further with reports.
    fn keep(&mut self, output: &[u8], now: Instant) {
        if let Some(log) = &mut self.log {
            self.log_health
                .attempt(now, "write its log", || log.write(output));
        }
        self.replay.keep(output);
        let replay = &mut self.replay;
        self.replay_health
            .attempt(now, "keep its output for later", || replay.save(output));
    }

    /// Sends further output to another log.
    pub(crate) fn replace_log(&mut self, log: Option<Log>) {
        self.log = log;
        self.log_health = Health::default();
    }
}

/// The state of a sink that may fail at any time.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failed: Option<Instant>,
}

impl Health {
    /// The time between two attempts at a sink that failed.
    const PAUSE: core::time::Duration = core::time::Duration::from_secs(1);

    /// Does `work`, unless it failed just now. Reports the first failure and the recovery, not each
    /// failure.
    fn attempt(&mut self, now: Instant, what: &str, work: impl FnOnce() -> std::io::Result<()>) {
        if let Some(at) = self.failed
            && now.saturating_duration_since(at) < Self::PAUSE
        {
            return;
        }
        match (work(), self.failed) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                eprintln!("xenconsoled: can {what} again");
                self.failed = None;
            }
            (Err(error), before) => {
                if before.is_none() {
                    eprintln!("xenconsoled: cannot {what}: {error}; trying again each second");
                }
                self.failed = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
