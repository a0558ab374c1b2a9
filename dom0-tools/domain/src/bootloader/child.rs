//! A process whose output is read within a limited time.

use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{self, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Instant;

/// How long xmgrub may run. It computes for one minute at most; the rest is for a slow or busy
/// disk.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a killed process may take to go: one that waits for a disk goes when the disk responds.
const GOING: Duration = Duration::from_secs(2);
/// How often a reader checks whether the guest is still wanted.
const LOOK: Duration = Duration::from_millis(200);
/// How many bytes of standard error are read.
const COMPLAINT: u64 = 64 << 10;

pub(super) struct Child<'a> {
    wanted: &'a dyn Fn() -> bool,
    process: Option<process::Child>,
    out: ChildStdout,
    err: ChildStderr,
    until: Instant,
}

impl<'a> Child<'a> {
    /// # Errors
    /// `io::Error` if the process cannot be started.
    pub(super) fn start(command: &mut Command, wanted: &'a dyn Fn() -> bool) -> io::Result<Self> {
        Self::start_for(command, PATIENCE, wanted)
    }

    fn start_for(
        command: &mut Command,
        patience: Duration,
        wanted: &'a dyn Fn() -> bool,
    ) -> io::Result<Self> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(out), Some(err)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        Ok(Self {
            wanted,
            process: Some(process),
            out,
            err,
            until: Instant::now() + patience,
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// A `String` if the process failed: the last line of its standard error, or its exit status.
    pub(super) fn end(mut self) -> Result<(), String> {
        let mut text = Vec::new();
        let err = Timed {
            from: &mut self.err,
            until: self.until,
            wanted: self.wanted,
        };
        let read = err.take(COMPLAINT).read_to_end(&mut text);
        if let Err(error) = &read
            && error.kind() == ErrorKind::TimedOut
        {
            return Err("the disk was not read in time".to_owned());
        }
        let status = self.reap(self.until.saturating_duration_since(Instant::now()));
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(explain(&text, &status.to_string())),
            None => Err("the disk was not read in time".to_owned()),
        }
    }

    /// The reason for a failure, after reading from the process has ended.
    pub(super) fn complain(mut self) -> Option<String> {
        self.until = self.until.min(Instant::now() + GOING);
        self.end().err()
    }

    /// The exit status, if the process ends within that time.
    fn reap(&mut self, patience: Duration) -> Option<process::ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.process.as_mut()?.try_wait() {
                Ok(None) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => return None,
                Ok(status) => {
                    self.process = None;
                    return status;
                }
                Err(_) => return None,
            }
        }
    }
}

impl Read for Child<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Timed {
            from: &mut self.out,
            until: self.until,
            wanted: self.wanted,
        }
        .read(buffer)
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        // The process may have ended already.
        let _ = process.kill();
        if self.reap(GOING).is_none()
            && let Some(mut process) = self.process.take()
        {
            std::thread::spawn(move || process.wait());
        }
    }
}

/// A reader that gives up at a point in time, or when `wanted` returns false.
struct Timed<'a, T> {
    from: &'a mut T,
    until: Instant,
    wanted: &'a dyn Fn() -> bool,
}

impl<T: Read + AsFd> Read for Timed<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(left.min(LOOK)).map_err(|_| ErrorKind::TimedOut)?;
            let mut fds = [PollFd::new(&*self.from, PollFlags::IN)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) if left.is_zero() || !(self.wanted)() => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Ok(0) => {}
                Ok(_) => return self.from.read(buffer),
                // Read tries again after this one.
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn explain(complaint: &[u8], status: &str) -> String {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().next_back().unwrap_or_default();
    let line = line.strip_prefix("xmgrub: ").unwrap_or(line);
    if line.is_empty() {
        format!("xmgrub ended ({status}): the disk takes too much memory or time")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, millis: u64) -> Child<'static> {
        let mut command = Command::new("/bin/sh");
        let patience = Duration::from_millis(millis);
        let command = command.args(["-c", script]);
        Child::start_for(command, patience, &|| true).expect("a shell")
    }

    #[test]
    fn the_last_line_tells_why() {
        let why = |script| sh(script, 60_000).end().expect_err("it failed");
        let script = "echo noise >&2; echo 'xmgrub: /a.img: no menu' >&2; exit 1";
        assert_eq!(why(script), "/a.img: no menu");
        assert!(why("kill -9 $$").contains("too much memory or time"));
        assert_eq!(sh("exit 0", 60_000).end(), Ok(()));
    }

    #[test]
    fn who_hangs_is_given_up() {
        let start = Instant::now();
        let mut child = sh("echo a line; exec sleep 600", 200);
        let mut bytes = Vec::new();
        let error = child.read_to_end(&mut bytes).expect_err("it hangs");
        assert_eq!(
            (error.kind(), bytes.as_slice()),
            (ErrorKind::TimedOut, b"a line\n".as_slice())
        );
        assert!(child.end().expect_err("too late").contains("in time"));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    #[test]
    fn who_is_not_wanted_any_more_is_given_up() {
        let mut command = Command::new("/bin/sh");
        let command = command.args(["-c", "exec sleep 5"]);
        let patience = Duration::from_secs(60);
        let mut child = Child::start_for(command, patience, &|| false).expect("a shell");
        let error = child
            .read_to_end(&mut Vec::new())
            .expect_err("it is given up");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
