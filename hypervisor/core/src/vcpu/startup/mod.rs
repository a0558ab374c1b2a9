//! How a vcpu is started and stopped: by INIT and SIPI, or by VCPUOP_initialise, up and down.
//!
//! `initialised` alone says whether a vcpu has a state to run from: a context, a save record or a
//! SIPI sets it, INIT clears it. [`Hold::Down`] alone says whether the vcpu may run.
//!
//! A SIPI may be posted while its receiver goes down. The sender posts, then reads the hold; the
//! receiver sets the hold, then reads what was posted. So one of them sees the other.

use core::sync::atomic::{Ordering, fence};

use super::{Hold, Vcpu};

impl Vcpu {
    /// Whether the vcpu has a state to run from.
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::SeqCst)
    }

    /// Notes that a context or a save record gave the vcpu a state, or that it lost its state.
    pub fn set_initialised(&self, initialised: bool) {
        self.initialised.store(initialised, Ordering::SeqCst);
    }

    /// Takes an INIT, on the CPU that runs the vcpu. From here on the vcpu waits for a SIPI or a
    /// context, however it was started before; but the boot vcpu goes on at its reset vector, as a
    /// boot CPU does.
    pub fn take_init(&self) {
        if self.id.0 != 0 {
            self.set_initialised(false);
        }
    }

    /// Takes a SIPI, on the CPU that runs the vcpu. Returns whether the vcpu starts: a vcpu that
    /// has a state ignores the SIPI.
    pub fn take_startup(&self) -> bool {
        !self.initialised.swap(true, Ordering::SeqCst)
    }

    /// Takes the vcpu down until another one starts it. If it was the last one that was up, none
    /// can: then the domain has powered itself down.
    pub fn go_down(&self) {
        self.hold(Hold::Down);
        fence(Ordering::SeqCst);
        if self.startup_waits() {
            self.release(Hold::Down);
        } else {
            self.domain.end_if_all_are_down();
        }
    }

    /// Kicks the vcpu for an interrupt that was posted to its local APIC. Only a SIPI wakes a vcpu
    /// that is down.
    pub fn kick_apic(&self) {
        fence(Ordering::SeqCst);
        if !self.is_held(Hold::Down) {
            self.kick_posted();
        } else if self.startup_waits() {
            self.release(Hold::Down);
        }
    }

    /// Whether a SIPI is posted that will start the vcpu.
    fn startup_waits(&self) -> bool {
        let posted = self.arch.posted_start();
        posted.startup && (posted.init || !self.is_initialised())
    }
}

#[cfg(test)]
mod tests;
