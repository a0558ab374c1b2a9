//! Dropping every right of this process but to read the image that it has open.

use rustix::process::{Gid, Resource, Rlimit, Uid, chdir, chroot, getuid, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};
use std::path::Path;

/// The user that owns nothing.
const NOBODY: u32 = 65534;
/// Address space: the file system's journal and tables, a configuration, a kernel packed and
/// unpacked.
const MEMORY: u64 = 512 << 20;
/// The memory of this domain that is never used, however little the domain has.
const SPARED: u64 = 64 << 20;
/// Seconds of computing.
const TIME: u64 = 60;

/// From here on: no other file can be opened, no process started, no privilege gained; memory and
/// time are limited, and a file that is open grows to `largest` bytes at most. A user who is not
/// root keeps its number.
///
/// # Errors
/// `rustix::io::Errno` of the kernel.
pub(crate) fn confine(empty: &Path, largest: u64) -> rustix::io::Result<()> {
    let limit = |resource, most| {
        let limits = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limits)
    };
    // If memory runs out all the same, this process is what the kernel shall end.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(Resource::As, memory())?;
    limit(Resource::Fsize, largest)?;
    limit(Resource::Cpu, TIME)?;
    limit(Resource::Core, 0)?;
    if getuid().is_root() {
        chroot(empty)?;
        chdir("/")?;
        // The process has a single thread, so the limits hold for all of it.
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[])?;
        set_thread_gid(group)?;
        set_thread_uid(user)?;
    }
    set_no_new_privs(true)?;
    limit(Resource::Nproc, 0)?;
    limit(Resource::Nofile, 0)
}

/// Less than usual in a domain that has little.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let spare = kib.map_or(MEMORY, |kib| (kib << 10).saturating_sub(SPARED));
    spare.clamp(SPARED, MEMORY)
}
