//! The start of a daemon. One test: `listen` changes the umask of the whole process.

use core::time::Duration;
use oxen_sys::daemon;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

#[test]
fn one_daemon_has_the_lock_and_a_socket_that_only_its_owner_reaches() {
    let scratch = std::env::temp_dir().join(format!("oxen-daemon-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a directory");
    let path = scratch.join("lock");
    let lock = || daemon::lock(&path, Duration::from_millis(50)).expect("a lock file");
    let held = lock().expect("nobody has it yet");
    assert!(lock().is_none());
    drop(held);
    assert!(lock().is_some());

    let socket = scratch.join("run/socket");
    let stale = daemon::listen(&socket).expect("a socket");
    drop(stale);
    let listener = daemon::listen(&socket).expect("a socket in the place of the stale one");
    let mode = std::fs::metadata(&socket)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    UnixStream::connect(&socket).expect("a connection");
    listener.accept().expect("the same connection");
    std::fs::remove_dir_all(&scratch).expect("no directory");
}
