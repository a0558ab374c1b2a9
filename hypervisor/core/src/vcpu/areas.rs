//! The guest memory that is written on the vcpu's behalf: run states and pvclock.

use super::{Vcpu, info};
use crate::area::SharedArea;
use crate::clock::TimeInfo;
use crate::runstate::{RUNSTATE_SIZE, State};

impl Vcpu {
    /// Changes the run state, and counts the time that the vcpu spent in the one before.
    pub fn enter_state(&self, state: State, now: u64) {
        self.runstate.lock().change(state, now);
    }

    /// The run state, and how long the vcpu was in each one until `now`.
    pub fn run_times(&self, now: u64) -> (State, [u64; 4]) {
        let runstate = self.runstate.lock();
        (runstate.state(), runstate.times_at(now))
    }

    /// VCPUOP_get_runstate_info's reply.
    pub fn runstate_info(&self, now: u64) -> [u8; RUNSTATE_SIZE] {
        self.runstate.lock().encode_at(now)
    }

    /// Publishes run states in an area from now on, or no longer.
    pub fn set_runstate_area(&self, area: Option<SharedArea>) {
        self.runstate.lock().set_area(area);
    }

    /// Whether readers are shown that the area is being written
    /// (VMASST_TYPE_runstate_update_flag).
    pub fn mark_runstate_updates(&self, on: bool) {
        self.runstate.lock().mark_updates(on);
    }

    /// Publishes pvclock in a second area from now on, or no longer.
    pub fn set_time_area(&self, area: Option<SharedArea>) {
        self.time.lock().set_secondary(area);
        self.update_time();
    }

    /// Writes the vcpu's pvclock with a new reading of the clock.
    pub fn update_time(&self) {
        let sample = self.domain.machine.platform.clock();
        let time = TimeInfo::now(sample, self.arch.tsc_offset());
        let mut page = self.time.lock();
        self.with_info(|i| page.publish(&i.page, i.offset + info::TIME, &time));
        page.publish_secondary(&time);
    }

    /// Drops the vcpu's references to guest frames: the domain's memory is about to be taken back.
    pub fn forget_guest_memory(&self) {
        self.forget_info();
        self.time.lock().forget();
        self.runstate.lock().forget();
    }
}
