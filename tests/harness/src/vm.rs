//! A running machine. It ends at the latest when the handle is dropped, or its wall-clock limit is
//! over.

use std::io::Write;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use regex_lite::Regex;

use crate::console::{Console, Missed};
use crate::images::test_log;
use crate::machine::{Machine, Serial};

/// How many lines of the console a failure shows.
const TAIL: usize = 60;

/// Lines that no healthy machine prints. Only whole lines match: the text that a test waits for
/// may be in the rest of one.
const FATAL: &str = r"(?m)^.*(Kernel panic - not syncing|PANIC on CPU).*\n";

/// A QEMU process with its console.
pub struct Vm {
    child: Child,
    input: Option<ChildStdin>,
    console: Console,
    deadline: Instant,
    fatal: Option<Regex>,
    /// Numbers the commands, so that no marker fits twice.
    pub(crate) commands: u32,
}

impl Vm {
    /// Starts the machine. `name` names its log; `limit` is the longest it may live.
    pub fn start(machine: &Machine, name: &str, limit: Duration) -> Result<Self> {
        ensure!(
            machine.serial == Serial::Pipes,
            "a machine that is driven needs its serial line on pipes"
        );
        let mut command = machine.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", machine.qemu.display()))?;
        let output = child.stdout.take().context("QEMU has no stdout")?;
        let console = Console::new(output, &test_log(name)).inspect_err(|_| {
            let _ = child.kill();
        })?;
        let input = child.stdin.take();
        let deadline = Instant::now() + limit;
        let fatal = Some(Regex::new(FATAL)?);
        Ok(Self {
            child,
            input,
            console,
            deadline,
            fatal,
            commands: 0,
        })
    }

    /// Do not take a panic of a kernel on the console as the end (for tests that cause one).
    pub fn tolerate_panics(&mut self) {
        self.fatal = None;
    }

    /// Waits for a pattern; returns what was printed from the last match to the end of this one.
    pub fn expect(&mut self, pattern: &str, limit: Duration) -> Result<String> {
        let regex = Regex::new(pattern).with_context(|| format!("bad pattern {pattern:?}"))?;
        let limit = limit.min(self.deadline.saturating_duration_since(Instant::now()));
        match self.console.expect(&regex, self.fatal.as_ref(), limit) {
            Ok(seen) => Ok(seen),
            Err(Missed::TimedOut) => {
                Err(self.failure(&format!("no {pattern:?} in {} s", limit.as_secs())))
            }
            Err(Missed::Closed) => {
                Err(self.failure(&format!("the machine ended before {pattern:?}")))
            }
            Err(Missed::Fatal(line)) => {
                // What explains it comes after the line.
                self.console.wait_closed(Duration::from_secs(2));
                Err(self.failure(&format!("waiting for {pattern:?}: {line}")))
            }
        }
    }

    /// Types text on the serial line, as it is.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().context("the serial line is closed")?;
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.flush())
            .context("the machine takes no input")
    }

    /// Three Ctrl-A: the input goes from dom0 to the hypervisor, or back.
    pub fn switch_input(&mut self) -> Result<()> {
        self.send("\x01\x01\x01")
    }

    /// Waits for the machine to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let limit = limit.min(self.deadline.saturating_duration_since(Instant::now()));
        if !self.console.wait_closed(limit) {
            return Err(self.failure(&format!("the machine did not end in {} s", limit.as_secs())));
        }
        Ok(self.child.wait()?)
    }

    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Nothing of this kind may be in the console's text so far.
    pub fn refuse(&self, pattern: &str) -> Result<()> {
        let regex = Regex::new(pattern).with_context(|| format!("bad pattern {pattern:?}"))?;
        if let Some(line) = self
            .console
            .text()
            .lines()
            .find(|line| regex.is_match(line))
        {
            bail!(
                "the console holds what it must not ({pattern:?}): {line}\nconsole: {}",
                self.console.log().display()
            );
        }
        Ok(())
    }

    /// An error that shows the end of the console.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let tail = self.console.tail(TAIL);
        let log = self.console.log().display();
        anyhow!("{what}\n--- end of the console ({log}):\n{tail}\n---")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
