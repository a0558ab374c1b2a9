//! The two watchdogs of a domain (SCHEDOP_watchdog), which shut it down when they expire.
//!
//! They belong to the domain: any of its vcpus may feed or stop either, as a daemon runs now on one
//! vcpu, now on another. The timers are those of vcpu 0.

use oxen_types::{Errno, Result};
use spin::Mutex;

use super::Domain;
use crate::timer::TimerKind;

/// The timers behind the ids 1 and 2.
const TIMERS: [TimerKind; 2] = [TimerKind::FirstWatchdog, TimerKind::SecondWatchdog];

/// Which of the watchdogs are in use. Held while their timers change.
#[derive(Default)]
pub(super) struct Watchdogs(Mutex<[bool; 2]>);

impl Domain {
    /// Sets a watchdog to expire in so many seconds, or stops it for 0. An id of 0 takes a free
    /// watchdog; then its id is returned, else 0.
    ///
    /// # Errors
    /// `Inval` for a watchdog that does not exist or is not in use, or to stop one that is not
    /// named; `NoSpc` if both are in use.
    pub fn set_watchdog(&self, id: u32, seconds: u32) -> Result<u64> {
        let owner = self.vcpu(0).ok_or(Errno::Inval)?;
        let mut in_use = self.watchdogs.0.lock();
        let index = match id {
            0 if seconds == 0 => return Err(Errno::Inval),
            0 => in_use.iter().position(|used| !used).ok_or(Errno::NoSpc)?,
            id => id as usize - 1,
        };
        let (Some(used), Some(kind)) = (in_use.get_mut(index), TIMERS.get(index)) else {
            return Err(Errno::Inval);
        };
        if id != 0 && !*used {
            return Err(Errno::Inval);
        }
        *used = seconds != 0;
        if !*used {
            owner.cancel_timer(*kind);
            return Ok(0);
        }
        let timeout = u64::from(seconds) * 1_000_000_000;
        owner.arm_timer_here(*kind, self.machine.now().saturating_add(timeout));
        Ok(if id == 0 { index as u64 + 1 } else { 0 })
    }
}
