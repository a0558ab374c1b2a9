//! The store at the command line: `xenstore read PATH`, also under the names of Xen's programs
//! (`xenstore-read`), with their options.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use xenstored::client::{Client, Operations, Perm, Perms, StoreError};

/// Looks at and changes the store that domains and tools share.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// By the socket, as always
    #[arg(short = 's', global = true, hide = true)]
    socket: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a node and all below it
    Ls {
        /// Whole paths, one a line
        #[arg(short)]
        flat: bool,
        /// Permissions too
        #[arg(short)]
        perms: bool,
        /// Values as they are, also what no terminal should get
        #[arg(short = 'R')]
        raw: bool,
        /// Long lines too, as always
        #[arg(short, hide = true)]
        wide: bool,
        #[arg(default_value = "/")]
        path: String,
    },
    /// Prints values
    Read {
        /// The path before each value
        #[arg(short)]
        paths: bool,
        /// Values as they are, also what no terminal should get
        #[arg(short = 'R')]
        raw: bool,
        #[arg(required = true)]
        path: Vec<String>,
    },
    /// Writes values, all at once
    Write {
        /// Path and value, and so on
        #[arg(required = true, num_args = 2.., value_names = ["PATH", "VALUE"])]
        pairs: Vec<String>,
    },
    /// Removes nodes and all below them, all at once
    Rm {
        /// Parents that are left empty too
        #[arg(short)]
        tidy: bool,
        #[arg(required = true)]
        path: Vec<String>,
    },
    /// Lists the names of children
    List {
        /// Whole paths
        #[arg(short)]
        paths: bool,
        #[arg(default_value = "/")]
        path: String,
    },
    /// Prints the path of each change below a node; also @introduceDomain and @releaseDomain
    Watch {
        /// End after so many events (the first comes at once)
        #[arg(short)]
        n: Option<u64>,
        /// End after so many seconds without one, with status 1
        #[arg(short = 't', long)]
        timeout: Option<u64>,
        #[arg(required = true)]
        path: Vec<String>,
    },
    /// Sets permissions: the owner's entry first, as in `n0 r5 b7`
    Chmod {
        /// All below too
        #[arg(short)]
        recursive: bool,
        /// All above too
        #[arg(short)]
        upto: bool,
        path: String,
        #[arg(required = true)]
        perm: Vec<Perm>,
    },
    /// Succeeds if all these nodes are there
    Exists {
        #[arg(required = true)]
        path: Vec<String>,
    },
    /// A command to the daemon; `help` lists them
    Control {
        #[arg(required = true)]
        word: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Options::parse_from(arguments()).command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xenstore: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `xenstore-ls -f` is `xenstore ls -f`.
fn arguments() -> Vec<OsString> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|a| {
        Path::new(a)
            .file_name()?
            .to_str()?
            .strip_prefix("xenstore-")
            .map(OsString::from)
    });
    if let Some(name) = name {
        args.insert(1, name);
    }
    args
}

fn run(command: Command) -> anyhow::Result<bool> {
    let mut client = Client::connect().context("is xenstored running?")?;
    match command {
        Command::Ls {
            flat,
            perms,
            raw,
            wide: _,
            path,
        } => {
            let mut out = Lister {
                client: &mut client,
                flat,
                perms,
                raw,
                out: io::stdout().lock(),
            };
            out.node(&path, 0)?;
        }
        Command::Read { paths, raw, path } => {
            let mut out = io::stdout().lock();
            for path in path {
                let value = client.read(&path).with_context(|| path.clone())?;
                if paths {
                    write!(out, "{path}: ")?;
                }
                out.write_all(&shown(&value, raw))?;
                writeln!(out)?;
            }
        }
        Command::Write { pairs } => {
            if pairs.len() % 2 != 0 {
                bail!(
                    "a path without a value: {}",
                    pairs.last().map_or("", String::as_str)
                );
            }
            client.transact(|t| {
                pairs
                    .chunks_exact(2)
                    .try_for_each(|p| t.write(&p[0], &p[1]))
            })?;
        }
        Command::Rm { tidy, path } => {
            for path in path {
                client
                    .transact(|t| remove(t, &path, tidy))
                    .with_context(|| path.clone())?;
            }
        }
        Command::List { paths, path } => {
            for name in client.directory(&path).with_context(|| path.clone())? {
                println!("{}", if paths { join(&path, &name) } else { name });
            }
        }
        Command::Watch { n, timeout, path } => return watch(&mut client, n, timeout, &path),
        Command::Chmod {
            recursive,
            upto,
            path,
            perm,
        } => {
            let perms = Perms::from_list(&perm)?;
            client
                .transact(|t| {
                    if upto {
                        chmod_above(t, &path, &perms)?;
                    }
                    chmod(t, &path, &perms, recursive)
                })
                .context(path)?;
        }
        Command::Exists { path } => {
            for path in path {
                if !client.exists(&path).with_context(|| path.clone())? {
                    return Ok(false);
                }
            }
        }
        Command::Control { word } => {
            let words: Vec<&str> = word.iter().map(String::as_str).collect();
            println!("{}", client.control(&words)?.trim_end());
        }
    }
    Ok(true)
}

type Done = xenstored::client::Result<()>;

fn remove(store: &mut impl Operations, path: &str, tidy: bool) -> Done {
    store.rm(path)?;
    let mut path = path;
    while let (true, Some((parent, _))) = (tidy, path.rsplit_once('/')) {
        if parent.is_empty()
            || !store.directory(parent)?.is_empty()
            || !store.read(parent)?.is_empty()
        {
            break;
        }
        store.rm(parent)?;
        path = parent;
    }
    Ok(())
}

fn chmod(store: &mut impl Operations, path: &str, perms: &Perms, recursive: bool) -> Done {
    store.set_perms(path, perms)?;
    if recursive {
        for name in store.directory(path)? {
            chmod(store, &join(path, &name), perms, true)?;
        }
    }
    Ok(())
}

fn chmod_above(store: &mut impl Operations, path: &str, perms: &Perms) -> Done {
    let mut path = path;
    while let Some((parent, _)) = path
        .rsplit_once('/')
        .filter(|(parent, _)| !parent.is_empty())
    {
        store.set_perms(parent, perms)?;
        path = parent;
    }
    Ok(())
}

fn watch(
    client: &mut Client,
    n: Option<u64>,
    timeout: Option<u64>,
    paths: &[String],
) -> anyhow::Result<bool> {
    for path in paths {
        client
            .watch(path, "xenstore")
            .with_context(|| path.clone())?;
    }
    let mut out = io::stdout().lock();
    for _ in 0..n.unwrap_or(u64::MAX) {
        let Some(event) = client.next_event(timeout.map(Duration::from_secs))? else {
            return Ok(false);
        };
        writeln!(out, "{}", event.path)?;
        out.flush()?;
    }
    Ok(true)
}

struct Lister<'a, W> {
    client: &'a mut Client,
    flat: bool,
    perms: bool,
    raw: bool,
    out: W,
}

impl<W: Write> Lister<'_, W> {
    fn node(&mut self, path: &str, depth: usize) -> anyhow::Result<()> {
        let names = match self.client.directory(path) {
            // Gone since it was listed, or not ours to see.
            Err(e)
                if depth > 0
                    && matches!(e.store(), Some(StoreError::NoEnt | StoreError::Acces)) =>
            {
                return Ok(());
            }
            other => other.with_context(|| path.to_owned())?,
        };
        for name in names {
            let path = join(path, &name);
            let Ok(value) = self.client.read(&path) else {
                continue;
            };
            let label = if self.flat {
                path.clone()
            } else {
                format!("{:depth$}{name}", "")
            };
            write!(self.out, "{label} = \"")?;
            self.out.write_all(&shown(&value, self.raw))?;
            write!(self.out, "\"")?;
            if self.perms
                && let Ok(perms) = self.client.get_perms(&path)
            {
                let list: Vec<String> = perms.iter().map(ToString::to_string).collect();
                write!(self.out, "   ({})", list.join(","))?;
            }
            writeln!(self.out)?;
            self.node(&path, depth + 1)?;
        }
        Ok(())
    }
}

fn join(path: &str, name: &str) -> String {
    format!("{}/{name}", path.trim_end_matches('/'))
}

fn shown(value: &[u8], raw: bool) -> Vec<u8> {
    if raw {
        value.to_vec()
    } else {
        readable(value).into_bytes()
    }
}

/// Values may be binary, and may try to control the terminal.
fn readable(value: &[u8]) -> String {
    match core::str::from_utf8(value) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') => {
            text.to_owned()
        }
        _ => value.escape_ascii().to_string(),
    }
}
