//! The guests' consoles: from each guest's ring to a terminal, a log and clients, and back.
//!
//! The daemon's memory need not survive: the store has each console's page and port, the page has
//! the ring's indices, and a small file has the last output. So the daemon may be killed at any
//! time, and its successor continues.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod clients;
mod console;
mod daemon;
#[doc(hidden)]
pub mod fuzz;
mod log;
mod machine;
mod pty;
mod queue;
mod rate;
mod replay;
mod ring;
mod store;

use std::path::PathBuf;

use clap::Parser;

/// The daemon of the guests' consoles.
///
/// It runs in the foreground and may be killed and started again at any time.
#[derive(Parser)]
#[command(version)]
pub struct Options {
    /// The socket for who wants to look at a console
    #[arg(long, default_value = "/run/xen/console.sock")]
    socket: PathBuf,
    /// Where the end of each console's output is kept for a restart
    #[arg(long, default_value = "/run/xen/console")]
    state: PathBuf,
    /// Where each guest's output is logged
    #[arg(long, default_value = "/var/log/xen/console")]
    log_dir: PathBuf,
    /// The size at which a guest's log is put aside, in KiB; 0 for no logs
    #[arg(long, default_value_t = 1024)]
    log_size: u64,
}

/// Serves consoles; returns only if that cannot go on.
///
/// # Errors
/// An `anyhow::Error` that names the device, directory or socket that is missing, or the call that
/// failed.
pub fn run(options: Options) -> anyhow::Result<()> {
    daemon::Daemon::start(options)?.run()
}
