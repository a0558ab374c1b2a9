//! The store's daemon: brings the core its messages and writes down what it changes.
//!
//! One thread, one loop. In each turn: take in what has arrived (a bounded part of it from each),
//! let the core handle it, write the records, and only then send replies and take requests out of
//! rings. So whenever the daemon dies, either nothing of a request has happened and it is still in
//! its ring, or all of it has and its reply is in the journal.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod daemon;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// The daemon of the store that domains and tools share.
///
/// It runs in the foreground and may be killed and started again at any time: its state is
/// in the state directory, and guests notice nothing.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The socket for processes of dom0
    #[arg(long, default_value = xenstored::client::SOCKET)]
    socket: PathBuf,
    /// Where the state is kept; it must not outlive the machine's uptime
    #[arg(long, default_value = "/run/xenstored")]
    state: PathBuf,
    /// Serve the socket only, on a machine without the hypervisor
    #[arg(long)]
    no_xen: bool,
    /// Log each request
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let Options {
        socket,
        state,
        no_xen,
        verbose,
    } = Options::parse();
    let done = daemon::Daemon::start(&socket, &state, !no_xen, verbose)
        .and_then(|mut daemon| daemon.run());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenstored: {error:#}");
            ExitCode::FAILURE
        }
    }
}
