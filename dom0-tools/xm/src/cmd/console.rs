//! `xm console`: a guest's console through xenconsoled, for a person at a terminal; with --expect
//! and --send for scripts.

use super::script::{self, Step};
use crate::cli::Console;
use crate::machine::Machine;
use crate::output::Output;
use crate::terminal::Raw;
use clap::ArgMatches;
use oxen_domain::world::DomId;
use oxen_domain::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Where xenconsoled listens, and what overrides it.
const SOCKET: &str = "/run/xen/console.sock";
const SOCKET_ENV: &str = "XENCONSOLED_SOCKET";
/// Ctrl-].
const LEAVE: u8 = 0x1d;

pub(super) fn run(args: &Console, matches: &ArgMatches, out: &Output) -> Result<ExitCode> {
    let domain = Machine::open()?.find(&args.domain)?.info.domain;
    let steps = script::steps(args, matches)?;
    if steps.is_empty() {
        return attach(domain);
    }
    let replay = !matches!(steps.first(), Some(Step::Send(_)));
    let stream = connect(domain, replay)?;
    script::run(args, &steps, stream, out)?;
    Ok(ExitCode::SUCCESS)
}

/// Connects the user's terminal until Ctrl-] or the console's end.
pub(super) fn attach(domain: DomId) -> Result<ExitCode> {
    let mut stream = connect(domain, true)?;
    let stdin = std::io::stdin();
    let raw = Raw::enter(&stdin);
    let result = pass(&stdin, &mut stream);
    drop(raw);
    result.map_err(|error| {
        Error::new("the console was lost", error).remedy("is xenconsoled running? try again")
    })?;
    crate::output::write("\n");
    Ok(ExitCode::SUCCESS)
}

fn pass(stdin: &std::io::Stdin, stream: &mut UnixStream) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let mut buffer = [0u8; 4096];
    let mut listening = true;
    loop {
        let (typed, printed) = {
            let mut fds = vec![PollFd::new(&*stream, PollFlags::IN)];
            if listening {
                fds.push(PollFd::new(stdin, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            (
                fds.get(1).is_some_and(|fd| !fd.revents().is_empty()),
                fds.first().is_some_and(|fd| !fd.revents().is_empty()),
            )
        };
        if printed {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            stdout.write_all(buffer.get(..length).unwrap_or_default())?;
            stdout.flush()?;
        }
        if typed {
            // Not through the buffered reader: poll would not see what it holds.
            let length = rustix::io::read(stdin, &mut buffer)?;
            let typed = buffer.get(..length).unwrap_or_default();
            let leave = typed.iter().position(|byte| *byte == LEAVE);
            stream.write_all(typed.get(..leave.unwrap_or(length)).unwrap_or_default())?;
            if leave.is_some() {
                return Ok(());
            }
            // No more input is no reason to stop looking.
            listening = length > 0;
        }
    }
}

/// A raw connection to a domain's console.
fn connect(domain: DomId, replay: bool) -> Result<UnixStream> {
    let path = std::env::var(SOCKET_ENV).unwrap_or_else(|_| SOCKET.to_owned());
    let what = format!("cannot reach the console of domain {domain}");
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::new(
            &what,
            format!("xenconsoled is not running: nobody listens on {path}"),
        )
        .remedy("start xenconsoled"),
        ErrorKind::PermissionDenied => {
            Error::new(&what, "no permission").remedy("run this as root")
        }
        _ => Error::new(&what, error),
    })?;
    let lost = |error: std::io::Error| {
        Error::new(&what, error).remedy("is xenconsoled running? try again")
    };
    let request = if replay {
        format!("{domain}\n")
    } else {
        format!("{domain} noreplay\n")
    };
    stream.write_all(request.as_bytes()).map_err(lost)?;
    let answer = line(&mut stream).map_err(lost)?;
    if answer == "ok" || answer.starts_with("ok ") {
        return Ok(stream);
    }
    let cause = answer
        .strip_prefix("error ")
        .unwrap_or("xenconsoled closed the connection")
        .to_owned();
    Err(Error::new(what, cause))
}

/// The first line, byte by byte: what follows belongs to the console.
fn line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while line.len() < 1024 && stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
