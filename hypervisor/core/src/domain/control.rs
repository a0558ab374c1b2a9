//! The settings of a domain that its toolstack writes and reads, and the progress of long calls.

use oxen_types::{Gfn, Port};

use crate::sched::Share;

/// A domain's settings and the progress of calls about it: one lock guards them all
/// ([`super::Domain::with_control`]).
#[derive(Clone, Copy, Debug)]
pub struct ControlState {
    /// The UUID.
    pub handle: [u8; 16],
    /// The guest's port that is notified of a finished suspend in place of VIRQ_DOM_EXC
    /// (XEN_DOMCTL_subscribe).
    pub suspend_port: Option<Port>,
    /// Whether a debugger is attached (XEN_DOMCTL_setdebugging).
    pub debugging: bool,
    /// Weight and cap of the domain as a whole.
    pub share: Share,
    /// How far calls about log-dirty mode got.
    pub log: LogProgress,
}

impl ControlState {
    pub(super) fn new(handle: [u8; 16]) -> Self {
        Self {
            handle,
            suspend_port: None,
            debugging: false,
            share: Share::default(),
            log: LogProgress::default(),
        }
    }
}

/// How far calls about log-dirty mode got that are executed again.
#[derive(Clone, Copy, Default, Debug)]
pub struct LogProgress {
    /// The mode is being switched on or off, from this frame on.
    pub switch: Option<(bool, Gfn)>,
    /// The readers of the log: one that leaves the pages it read dirty, and one that cleans them.
    pub reads: [Option<LogRead>; 2],
}

/// A reader of the log: where it goes on, and how many written pages it has found.
#[derive(Clone, Copy, Debug)]
pub struct LogRead {
    /// The frame of the grant table whose grants it looks at next; `None` when it has seen all.
    pub grants: Option<u32>,
    /// The gfn that it reads next.
    pub at: u64,
    /// The written pages found so far.
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
