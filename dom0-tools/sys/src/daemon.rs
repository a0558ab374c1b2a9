//! The start of a daemon: it makes sure that it is the only one, and listens on a socket that only
//! root can reach.

use core::time::Duration;
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

/// How long a daemon waits for the lock of a predecessor that was just killed.
pub const PREDECESSOR: Duration = Duration::from_secs(2);
/// How often the lock is tried meanwhile.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Takes an exclusive lock on the file at `path`, which is made if it is missing. The lock ends
/// with the returned file, however the process ends. `None` if another process still holds the lock
/// after `patience`.
///
/// # Errors
/// `io::Error` of the kernel if the file cannot be made or locked.
pub fn lock(path: &Path, patience: Duration) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let until = Instant::now() + patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) if Instant::now() >= until => return Ok(None),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(TRY_AGAIN),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Listens on a Unix socket at `path` that only the owner may connect to. The directory is made if
/// it is missing, and a socket that stands there is replaced: the caller holds the daemon's
/// [`lock`], so nobody serves the old one.
///
/// The process's umask is changed for a moment. Call this before there are other threads.
///
/// # Errors
/// `io::Error` of the kernel if the old socket cannot be removed or the new one cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // With the mode set from the start, nobody can connect between the making and a chmod.
    let old = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(old);
    listener
}
