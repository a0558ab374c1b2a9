//! The toolstack's and dom0's side: domctl, sysctl, platform_op and physdev_op.
//!
//! Each call has an envelope with an interface version and a union of 128 bytes: one private copy is
//! read, the operation works on it, and it is written back if it changed.

pub mod domctl;
mod map;
pub mod physdev;
pub mod platform;
pub mod sysctl;

use oxen_types::Gfn;

use crate::sched::Share;

/// What the toolstack sets of a domain and reads again, and nothing else here depends on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kept {
    /// Weight and cap of the domain as a whole.
    pub share: Share,
    pub log: Log,
}

/// How far calls about log-dirty mode got that are executed again.
#[derive(Clone, Copy, Default, Debug)]
pub struct Log {
    /// The mode is being switched on or off, from this frame on.
    pub switch: Option<(bool, Gfn)>,
    /// Readers that leave what they read as it is, and that clean it.
    pub reads: [Option<LogRead>; 2],
}

/// A reader of the log: where it goes on, and how many written pages it has found.
#[derive(Clone, Copy, Debug)]
pub struct LogRead {
    /// The frame of the grant table whose grants it looks at next; `None` when it has seen all.
    pub grants: Option<u32>,
    pub at: u64,
    pub found: u64,
}

impl Default for LogRead {
    fn default() -> Self {
        Self {
            grants: Some(0),
            at: 0,
            found: 0,
        }
    }
}
