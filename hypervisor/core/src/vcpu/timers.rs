//! The timers of a vcpu, and what happens when one fires.

use alloc::sync::Arc;

use oxen_types::CpuId;

use super::Vcpu;
use crate::evtchn;
use crate::machine::Machine;
use crate::timer::TimerKind;

/// The timers that one pass fires. The rest waits until this CPU has taken its interrupts.
const MOST_FIRED: usize = 16;

impl Vcpu {
    /// Sets one of the vcpu's timers, in place of what it was set to, in the queue of `cpu`.
    /// Returns whether the timer is that queue's earliest now: then the caller sets the CPU's
    /// deadline anew.
    pub fn arm_timer(self: &Arc<Self>, kind: TimerKind, deadline: u64, cpu: CpuId) -> bool {
        let timer = &mut self.timers.lock()[kind as usize];
        self.domain.machine.timers.arm(timer, self, deadline, cpu)
    }

    /// Sets one of the vcpu's timers in the queue of this CPU.
    pub fn arm_timer_here(self: &Arc<Self>, kind: TimerKind, deadline: u64) {
        let platform = self.domain.machine.platform;
        if self.arm_timer(kind, deadline, platform.this_cpu()) {
            platform.deadline_changed();
        }
    }

    /// Switches one of the vcpu's timers off.
    pub fn cancel_timer(&self, kind: TimerKind) {
        let timer = &mut self.timers.lock()[kind as usize];
        self.domain.machine.timers.cancel(timer);
    }

    /// Switches all timers off.
    pub(crate) fn cancel_all_timers(&self) {
        let mut timers = self.timers.lock();
        for timer in timers.iter_mut() {
            self.domain.machine.timers.cancel(timer);
        }
    }

    pub(super) fn raise_timer(&self) {
        evtchn::raise_virq(&self.domain, self.id.0, guest_pv_abi::VIRQ_TIMER);
    }

    fn fire(self: &Arc<Self>, kind: TimerKind) {
        match kind {
            TimerKind::SingleShot => self.raise_timer(),
            TimerKind::Periodic => self.tick(),
            TimerKind::Poll => self.poll_timed_out(),
            // The APIC looks at the clock before the next entry.
            TimerKind::Lapic => self.kick(),
            TimerKind::FirstWatchdog | TimerKind::SecondWatchdog => {
                let action = self.domain.shutdown(guest_pv_abi::SHUTDOWN_WATCHDOG);
                action.perform(&self.domain);
            }
        }
    }
}

impl Machine {
    /// Fires the timers that are due in a CPU's queue, up to a bound. Returns whether more are due.
    pub fn fire_timers(&self, cpu: CpuId) -> bool {
        let now = self.now();
        for _ in 0..MOST_FIRED {
            let Some((vcpu, kind)) = self.pop_due_timer(cpu, now) else {
                return false;
            };
            vcpu.fire(kind);
        }
        self.timers.next(cpu).is_some_and(|next| next <= now)
    }

    /// Takes one timer that is due at `now` out of a CPU's queue.
    pub(crate) fn pop_due_timer(&self, cpu: CpuId, now: u64) -> Option<(Arc<Vcpu>, TimerKind)> {
        self.timers.pop_due(cpu, now, |vcpu| &vcpu.timers)
    }
}
