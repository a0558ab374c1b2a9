//! Scripts on a console: what to wait for and what to type, in the order of the command line.

use super::plain::Plain;
use crate::cli::Console;
use crate::output::Output;
use clap::ArgMatches;
use oxen_domain::{Error, Result};
use regex_lite::{Regex, RegexBuilder};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How much of the output an error shows.
const TAIL: usize = 400;

#[derive(Debug)]
pub(super) enum Step {
    Expect(Regex),
    Send(Vec<u8>),
}

/// The steps as they were given; clap keeps options of different names apart, and their places.
pub(super) fn steps(args: &Console, matches: &ArgMatches) -> Result<Vec<Step>> {
    let matches = matches.subcommand_matches("console");
    let places = |name| {
        matches
            .and_then(|m| m.indices_of(name))
            .into_iter()
            .flatten()
    };
    let mut steps = Vec::new();
    for (place, text) in places("expect").zip(&args.expect) {
        let regex = RegexBuilder::new(text).multi_line(true).build();
        let regex = regex.map_err(|error| {
            let cause = error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned();
            Error::new(
                format!("--expect {text:?} is not a regular expression"),
                cause,
            )
        })?;
        steps.push((place, Step::Expect(regex)));
    }
    for (place, text) in places("send").zip(&args.send) {
        steps.push((place, Step::Send(unescape(text)?)));
    }
    steps.sort_by_key(|(place, _)| *place);
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}

/// Does the steps, one after the other.
pub(super) fn run(
    args: &Console,
    steps: &[Step],
    mut stream: UnixStream,
    out: &Output,
) -> Result<()> {
    let matched = perform(args, steps, &mut stream);
    if args.verbose {
        // The console's last line may have no end.
        show(b"\n");
    }
    let matched = matched?;
    if !args.verbose {
        out.print(
            &serde_json::json!({ "matched": matched }),
            &matched.join("\n"),
        );
    }
    Ok(())
}

/// The lines that matched.
fn perform(args: &Console, steps: &[Step], stream: &mut UnixStream) -> Result<Vec<String>> {
    let lost = |error: std::io::Error| Error::new("the console was lost", error);
    let mut seen = Plain::default();
    let mut matched = Vec::new();
    for step in steps {
        match step {
            Step::Send(text) => stream.write_all(text).map_err(lost)?,
            Step::Expect(regex) => {
                let end = wait(args, regex, stream, &mut seen)?;
                matched.push(line_around(seen.text(), end));
                seen.forget(end);
            }
        }
    }
    Ok(matched)
}

/// Reads until `regex` matches what was seen; returns the end of the match.
fn wait(args: &Console, regex: &Regex, stream: &mut UnixStream, seen: &mut Plain) -> Result<usize> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut buffer = [0u8; 4096];
    let fail = |cause: String, seen: &str| {
        let tail = &seen[seen.ceil_char_boundary(seen.len().saturating_sub(TAIL))..];
        Error::new(
            format!(
                "the console of {} did not show {:?}",
                args.domain,
                regex.as_str()
            ),
            cause,
        )
        .remedy(format!("its last output was {:?}", tail.trim()))
    };
    loop {
        if let Some(found) = regex.find(seen.text()) {
            return Ok(found.end());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(fail(
                format!("{} seconds are over", args.timeout),
                seen.text(),
            ));
        }
        stream
            .set_read_timeout(Some(left))
            .map_err(|error| Error::new("the console was lost", error))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(fail("the console has ended".to_owned(), seen.text())),
            Ok(length) => {
                let new = buffer.get(..length).unwrap_or_default();
                if args.verbose {
                    show(new);
                }
                seen.add(new);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(fail(error.to_string(), seen.text())),
        }
    }
}

/// As it comes: where a piece ends says nothing about lines.
fn show(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // The reader may have closed the pipe.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// The line in which a match ends.
fn line_around(seen: &str, end: usize) -> String {
    let (before, after) = seen.split_at_checked(end).unwrap_or((seen, ""));
    // The match may end with the line's own end.
    let inside = before.strip_suffix('\n').unwrap_or(before);
    let start = inside.rfind('\n').map_or(0, |at| at + 1);
    let rest = if inside.len() < before.len() {
        0
    } else {
        after.find('\n').unwrap_or(after.len())
    };
    let line = seen.get(start..end + rest).unwrap_or_default();
    line.trim_end().to_owned()
}

fn unescape(text: &str) -> Result<Vec<u8>> {
    let wrong = |what: &str| {
        Error::new(
            format!("--send {text:?} cannot be understood"),
            what.to_owned(),
        )
    };
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('e') => 0x1b,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars
                    .by_ref()
                    .take(2)
                    .filter(char::is_ascii_hexdigit)
                    .collect();
                let digits = Some(digits)
                    .filter(|digits| digits.len() == 2)
                    .unwrap_or_default();
                u8::from_str_radix(&digits, 16)
                    .map_err(|_| wrong("\\x needs two hexadecimal digits"))?
            }
            _ => {
                return Err(wrong(
                    "use \\n, \\r, \\t, \\e, \\\\ or \\xNN after a backslash",
                ));
            }
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
