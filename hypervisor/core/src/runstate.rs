//! How long a vcpu has run, waited for a CPU, been blocked and been offline
//! (xen/vcpu.h, `vcpu_runstate_info`).

use core::sync::atomic::{Ordering, fence};

use crate::area::SharedArea;

/// The run state of a vcpu (RUNSTATE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// A CPU runs the vcpu.
    Running = 0,
    /// The vcpu could run, but no CPU is free.
    Runnable = 1,
    /// The vcpu waits for an event.
    Blocked = 2,
    /// The vcpu is down or paused.
    Offline = 3,
}

/// The flag in `state_entry_time` that the area is being written (XEN_RUNSTATE_UPDATE).
const UPDATE: u64 = 1 << 63;

/// The size of `struct vcpu_runstate_info`.
pub const RUNSTATE_SIZE: usize = 48;
const ENTRY_TIME: usize = 8;

/// The run state of one vcpu, and the time spent in each.
pub struct Runstate {
    state: State,
    since: u64,
    times: [u64; 4],
    area: Option<SharedArea>,
    /// The guest wants the update flag (VMASST_TYPE_runstate_update_flag).
    mark_updates: bool,
}

impl Runstate {
    /// A vcpu that is offline since `now`.
    pub fn new(now: u64) -> Self {
        Self {
            state: State::Offline,
            since: now,
            times: [0; 4],
            area: None,
            mark_updates: false,
        }
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Changes the state at `now`.
    pub fn change(&mut self, to: State, now: u64) {
        if to == self.state {
            return;
        }
        let spent = &mut self.times[self.state as usize];
        *spent = spent.saturating_add(now.saturating_sub(self.since));
        self.state = to;
        self.since = now;
        self.publish();
    }

    /// The time spent in each state until `now`, in ns.
    pub fn times_at(&self, now: u64) -> [u64; 4] {
        let mut times = self.times;
        let spent = &mut times[self.state as usize];
        *spent = spent.saturating_add(now.saturating_sub(self.since));
        times
    }

    /// Publishes the run state in an area from now on, or no longer.
    pub fn set_area(&mut self, area: Option<SharedArea>) {
        self.area = area;
        self.publish();
    }

    /// Drops the reference to the area.
    pub fn forget(&mut self) {
        self.area = None;
    }

    /// Whether readers are shown that the area is being written.
    pub fn mark_updates(&mut self, on: bool) {
        self.mark_updates = on;
    }

    /// `struct vcpu_runstate_info` as bytes, with the times until `now`: the reply of
    /// VCPUOP_get_runstate_info.
    pub fn encode_at(&self, now: u64) -> [u8; RUNSTATE_SIZE] {
        self.encode(self.times_at(now))
    }

    fn encode(&self, times: [u64; 4]) -> [u8; RUNSTATE_SIZE] {
        let mut bytes = [0; RUNSTATE_SIZE];
        bytes[0] = self.state as u8;
        bytes[8..16].copy_from_slice(&self.since.to_le_bytes());
        for (slot, time) in bytes[16..].chunks_exact_mut(8).zip(times) {
            slot.copy_from_slice(&time.to_le_bytes());
        }
        bytes
    }

    fn publish(&self) {
        let Some(area) = &self.area else { return };
        let mut bytes = self.encode(self.times);
        if self.mark_updates {
            let marked = (self.since | UPDATE).to_le_bytes();
            area.write(ENTRY_TIME, &marked);
            fence(Ordering::SeqCst);
            bytes[ENTRY_TIME..ENTRY_TIME + 8].copy_from_slice(&marked);
            area.write(0, &bytes);
            fence(Ordering::SeqCst);
            area.write(ENTRY_TIME, &self.since.to_le_bytes());
        } else {
            area.write(0, &bytes);
        }
    }
}
