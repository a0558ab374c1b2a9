//! The periodic timer of a vcpu (VCPUOP_set_periodic_timer).
//!
//! Its ticks are paid for by the vcpu that gets them: the timer is armed by the CPU that loads the vcpu
//! and cancelled when that CPU lets go of it. Ticks that were due meanwhile arrive as one at the next
//! load, as in Xen. Only a vcpu that has nothing but an event to wait for keeps its timer, for one tick,
//! which wakes it.
//!
//! Lock order: a vcpu's `periodic`, then its `timers`. No event is raised under either.

use alloc::sync::Arc;

use oxen_types::CpuId;

use crate::evtchn;
use crate::timer::TimerKind;
use crate::vcpu::Vcpu;

#[derive(Default, Debug)]
pub struct Periodic {
    /// In ns; 0 while the timer is off.
    period: u64,
    /// When the next tick is due.
    next: u64,
}

impl Periodic {
    /// Is a tick due? The ones missed with it are forgotten, and the next keeps their pace.
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
    /// Sets the timer, from any CPU; a period of 0 switches it off.
    pub fn set_period(self: &Arc<Self>, period: u64) {
        let machine = self.domain.machine;
        let mut periodic = self.periodic.lock();
        periodic.period = period;
        if period == 0 {
            return machine.timers.cancel(self, TimerKind::Periodic);
        }
        periodic.next = machine.now().saturating_add(period);
        let this = machine.platform.this_cpu();
        match self.cpu() {
            Some(cpu) => self.arm_tick(periodic.next, cpu),
            None if self.only_waits() => self.arm_tick(periodic.next, this),
            // Whichever CPU loads it arms the timer.
            None => {}
        }
    }

    /// `cpu` has loaded the vcpu.
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

    /// The CPU that has it loaded is about to let go of it.
    pub fn stop_ticks(&self) {
        let periodic = self.periodic.lock();
        if periodic.period != 0 && !self.only_waits() {
            let machine = self.domain.machine;
            machine.timers.cancel(self, TimerKind::Periodic);
        }
    }

    /// The timer fired.
    pub(crate) fn tick(self: &Arc<Self>) {
        let due = {
            let mut periodic = self.periodic.lock();
            let loaded = self.cpu();
            // What it misses while it may not run, it gets when it is loaded.
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

    pub(crate) fn raise_timer(&self) {
        evtchn::raise_virq(&self.domain, self.id.0, guest_pv_abi::VIRQ_TIMER);
    }

    fn arm_tick(self: &Arc<Self>, at: u64, cpu: CpuId) {
        let machine = self.domain.machine;
        if !machine.timers.arm(self, TimerKind::Periodic, at, cpu) {
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
