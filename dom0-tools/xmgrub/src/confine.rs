//! Giving up what this process could do beyond reading the image that it has open.

use rustix::process::{Gid, Resource, Rlimit, Uid, chdir, chroot, getuid, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};
use std::path::Path;

/// The user that owns nothing.
const NOBODY: u32 = 65534;
/// Address space: the file system's journal and tables, a configuration, buffers.
const MEMORY: u64 = 1 << 30;
/// Seconds of computing.
const TIME: u64 = 60;

/// From here on: no other file can be opened, no process started, no privilege gained; memory and time
/// are limited. A user who is not root keeps its number.
///
/// # Errors
/// The kernel refused.
pub fn confine(empty: &Path) -> rustix::io::Result<()> {
    let limit = |resource, most| {
        let limits = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limits)
    };
    limit(Resource::As, MEMORY)?;
    limit(Resource::Cpu, TIME)?;
    limit(Resource::Core, 0)?;
    if getuid().is_root() {
        chroot(empty)?;
        chdir("/")?;
        // A single thread: what holds for it holds for all.
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[])?;
        set_thread_gid(group)?;
        set_thread_uid(user)?;
    }
    set_no_new_privs(true)?;
    limit(Resource::Nproc, 0)?;
    limit(Resource::Nofile, 0)
}
