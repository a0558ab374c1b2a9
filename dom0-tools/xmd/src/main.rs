//! xmd, the daemon. See the library's description.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

use clap::Parser;
use oxen_domain::lifecycle;
use oxen_domain::live::{Xen, XenStore};
use oxen_domain::world::{Hypervisor, Store, WallClock, World};
use oxen_domain::{Error, Result};
use oxen_sys::daemon;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xmd::journal::Journal;
use xmd::log::Log;
use xmd::server::{self, Daemon};

/// Owns the life of domains: builds them, notices their ends, restarts them.
///
/// Runs in the foreground, in the privileged domain; xenstored must be running or be started soon.
/// Can be killed and started again at any time.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The socket on which clients are served
    #[arg(long, default_value = xmd_api::SOCKET)]
    socket: PathBuf,
    /// The directory of the journal
    #[arg(long, default_value = xmd::STATE)]
    state: PathBuf,
    /// The log file
    #[arg(long, default_value = xmd::LOG)]
    log: PathBuf,
    /// Write the log to standard error too
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("xmd: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Never {}

fn run(args: &Args) -> Result<Never> {
    let log = Log::open(&args.log, args.verbose);
    let xen = Xen::open()?;
    let journal = Journal::open(&args.state)?;
    // The lock is held until the process ends, however it ends.
    let _lock = lock(&args.state)?;
    log.line(&format!(
        "xmd {} starts, pid {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    ));
    let mut store = wait_for_store(&log);
    let dom0 = xen
        .info(0)
        .map_err(|errno| Error::new("cannot ask the hypervisor after domain 0", errno))?;
    lifecycle::enter_dom0(&mut store, oxen_config::Uuid(dom0.handle))?;
    let mut world = World {
        hypervisor: &xen,
        store: &mut store,
        clock: &WallClock,
    };
    oxen_domain::bootloader::clean();
    let (manager, restart) = xmd::recover::recover(&mut world, journal, &log)?;
    let listener = server::listen(&args.socket)?;
    let daemon = Arc::new(Daemon {
        xen,
        manager: Mutex::new(manager),
        devices: Mutex::new(()),
        log,
        cache: oxen_domain::image::Cache::default(),
        listeners: server::Listeners::default(),
        places: server::Places::default(),
        idle: Mutex::default(),
    });
    for uuid in restart {
        let daemon = Arc::clone(&daemon);
        std::thread::spawn(move || {
            let mut store = XenStore::lazy();
            // A failure is in the log already, and a later look repeats the work.
            let _ = daemon.with_context(&mut store, |context| context.restart_unfinished(uuid));
        });
    }
    let watcher = Arc::clone(&daemon);
    std::thread::spawn(move || {
        let mut store = XenStore::lazy();
        xmd::watcher::watch(|disks| server::look(&watcher, &mut store, disks))
    });
    server::serve(&daemon, &listener)
}

/// Two daemons on one journal would undo each other's work.
fn lock(state: &Path) -> Result<File> {
    let path = state.join("lock");
    let lock = daemon::lock(&path, daemon::PREDECESSOR)
        .map_err(|error| Error::new(format!("cannot make {}", path.display()), error))?;
    lock.ok_or_else(|| {
        Error::new(
            "xmd is running already",
            format!("another process holds {}", path.display()),
        )
    })
}

/// xenstored may start after xmd, or be restarting just now.
fn wait_for_store(log: &Log) -> XenStore {
    let mut said = false;
    loop {
        let opened = XenStore::open().and_then(|mut store| store.read("/").map(|_| store));
        match opened {
            Ok(store) => return store,
            Err(error) => {
                if !said {
                    log.line(&format!("waiting for xenstored ({error})"));
                    said = true;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}
