//! The periodic timer of a vcpu (VCPUOP_set_periodic_timer).
//!
//! The vcpu that gets the ticks pays for them: the CPU that loads the vcpu arms the timer, and
//! cancels it when it lets go of the vcpu. Ticks that were due meanwhile arrive as one at the next
//! load, as in Xen. A vcpu that waits for nothing but an event keeps its timer, for one tick, which
//! wakes it.
//!
//! Lock order: a vcpu's `periodic`, then its `timers`. No event is raised under either.

use alloc::sync::Arc;

use oxen_types::CpuId;

use super::Vcpu;
use crate::timer::TimerKind;

#[derive(Default, Debug)]
pub(super) struct Periodic {
    /// In ns; 0 while the timer is off.
    period: u64,
    /// When the next tick is due.
    next: u64,
}

impl Periodic {
    /// Whether a tick is due. Ticks that were missed are skipped, and the next one keeps their
    /// pace.
    fn take_due(&mut self, now: u64) -> bool {
        if self.period == 0 || now < self.next {
            return false;
        }
        let missed = (now - self.next) / self.period;
        let ahead = missed.saturating_add(1).saturating_mul(self.period);
        self.next = self.next.saturating_add(ahead);
        true
    }
}

impl Vcpu {
    /// Sets the period, in ns, from any CPU; a period of 0 switches the timer off.
    pub fn set_period(self: &Arc<Self>, period: u64) {
        let machine = self.domain.machine;
        let mut periodic = self.periodic.lock();
        periodic.period = period;
        if period == 0 {
            return self.cancel_timer(TimerKind::Periodic);
        }
        periodic.next = machine.now().saturating_add(period);
        let this = machine.platform.this_cpu();
        match self.cpu() {
            Some(cpu) => self.arm_tick(periodic.next, cpu),
            None if self.only_waits() => self.arm_tick(periodic.next, this),
            // The CPU that loads the vcpu arms the timer.
            None => {}
        }
    }

    /// Arms the timer: `cpu` has loaded the vcpu.
    pub fn start_ticks(self: &Arc<Self>, cpu: CpuId) {
        let due = {
            let mut periodic = self.periodic.lock();
            if periodic.period == 0 {
                return;
            }
            let due = periodic.take_due(self.domain.machine.now());
            self.arm_tick(periodic.next, cpu);
            due
        };
        if due {
            self.raise_timer();
        }
    }

    /// Cancels the timer: the CPU that has the vcpu loaded is about to let go of it.
    pub fn stop_ticks(&self) {
        let periodic = self.periodic.lock();
        if periodic.period != 0 && !self.only_waits() {
            self.cancel_timer(TimerKind::Periodic);
        }
    }

    /// Raises VIRQ_TIMER if a tick is due, and arms the next: the timer fired.
    pub(super) fn tick(self: &Arc<Self>) {
        let due = {
            let mut periodic = self.periodic.lock();
            let loaded = self.cpu();
            // A tick that is due while the vcpu may not run arrives when the vcpu is loaded.
            let due = (loaded.is_some() || self.only_waits())
                && periodic.take_due(self.domain.machine.now());
            if let Some(cpu) = loaded
                && periodic.period != 0
            {
                self.arm_tick(periodic.next, cpu);
            }
            due
        };
        if due {
            self.raise_timer();
        }
    }

    fn arm_tick(self: &Arc<Self>, at: u64, cpu: CpuId) {
        let machine = self.domain.machine;
        if !self.arm_timer(TimerKind::Periodic, at, cpu) {
            return;
        }
        if cpu == machine.platform.this_cpu() {
            machine.platform.deadline_changed();
        } else {
            machine.platform.kick(cpu);
        }
    }
}

#[cfg(test)]
mod tests;
