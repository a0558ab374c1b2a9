//! How a vcpu is started and stopped: by INIT and SIPI, or by VCPUOP_initialise, up and down.
//!
//! `initialised` alone says whether a vcpu has a state to run from: a context, a save record or a SIPI
//! sets it, INIT clears it. [`Hold::Down`] alone says whether the vcpu may run.
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
    /// context, however it was started before; but the boot vcpu goes on at its reset vector, as a boot
    /// CPU does.
    pub fn take_init(&self) {
        if self.id.0 != 0 {
            self.set_initialised(false);
        }
    }

    /// Takes a SIPI, on the CPU that runs the vcpu. Returns whether the vcpu starts: a vcpu that has a
    /// state ignores the SIPI.
    pub fn take_startup(&self) -> bool {
        !self.initialised.swap(true, Ordering::SeqCst)
    }

    /// Takes the vcpu down until another one starts it. If it was the last one that was up, none can:
    /// then the domain has powered itself down.
    pub fn go_down(&self) {
        self.hold(Hold::Down);
        fence(Ordering::SeqCst);
        if self.startup_waits() {
            self.release(Hold::Down);
        } else {
            self.domain.end_if_all_are_down();
        }
    }

    /// Kicks the vcpu for an interrupt that was posted to its local APIC. Only a SIPI wakes a vcpu that
    /// is down.
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
mod tests {
    use guest_pv_abi as abi;

    use crate::seams::PostedStart;
    use crate::testing::{Guest, World, errno};
    use crate::vcpu::Hold;
    use oxen_types::Errno;

    const INIT: PostedStart = PostedStart {
        init: true,
        startup: false,
    };
    const SIPI: PostedStart = PostedStart {
        init: false,
        startup: true,
    };
    const BOTH: PostedStart = PostedStart {
        init: true,
        startup: true,
    };

    fn post(guest: &Guest, vcpu: u32, posted: PostedStart) {
        guest.with_arch(vcpu, |arch| *arch.posted.lock().unwrap() = posted);
    }

    /// Does what the CPU that runs a vcpu does before each entry; returns whether it goes on.
    fn prepare(guest: &Guest, id: u32) -> bool {
        let vcpu = guest.vcpu(id);
        let posted = vcpu.arch.posted_start();
        post(guest, id, PostedStart::default());
        if posted.init {
            vcpu.take_init();
        }
        let _ = posted.startup && vcpu.take_startup();
        if !vcpu.is_initialised() {
            vcpu.go_down();
            return false;
        }
        true
    }

    fn started() -> (World, Guest) {
        let (world, _dom0) = World::new();
        let guest = world.guest(1, 3);
        guest.vcpu(0).set_initialised(true);
        (world, guest)
    }

    #[test]
    fn a_sipi_that_comes_while_its_receiver_goes_down_is_not_lost() {
        let (_world, guest) = started();
        let vcpu = guest.vcpu(1);
        // Taken: nothing. Then, before it has gone down, INIT and SIPI are posted; it does not look down.
        assert!(!vcpu.is_initialised());
        post(&guest, 1, BOTH);
        vcpu.kick_apic();
        vcpu.go_down();
        assert!(vcpu.is_runnable());
        assert!(prepare(&guest, 1) && vcpu.is_initialised());
        // The same for one that halts with interrupts off.
        post(&guest, 1, BOTH);
        vcpu.kick_apic();
        vcpu.go_down();
        assert!(vcpu.is_runnable() && prepare(&guest, 1));
    }

    #[test]
    fn a_vcpu_with_a_context_waits_for_a_sipi_after_an_init() {
        let (_world, guest) = started();
        for loaded in [false, true] {
            let vcpu = guest.vcpu(1);
            vcpu.hold(Hold::Down);
            if loaded {
                // As a record of the toolstack's leaves it.
                vcpu.set_initialised(true);
            } else {
                let context = bytemuck::Zeroable::zeroed();
                let initialise = abi::VCPUOP_INITIALISE;
                assert_eq!(
                    guest.try_vcpu_op::<abi::VcpuHvmContext>(initialise, 1, &context),
                    0
                );
            }
            vcpu.release(Hold::Down);
            assert!(prepare(&guest, 1), "it runs");
            post(&guest, 1, INIT);
            vcpu.kick_apic();
            assert!(!prepare(&guest, 1) && vcpu.is_held(Hold::Down));
            // A SIPI starts it; another one changes nothing.
            for _ in 0..2 {
                post(&guest, 1, SIPI);
                vcpu.kick_apic();
                assert!(vcpu.is_runnable() && prepare(&guest, 1));
            }
            post(&guest, 1, INIT);
            assert!(!prepare(&guest, 1));
            let up = guest.try_vcpu_op(abi::VCPUOP_UP, 1, &0u64);
            assert_eq!(up, errno(Errno::Inval), "it has no state to run from");
        }
        assert_eq!(guest.domain.life().shutdown, None);
    }

    #[test]
    fn a_sipi_without_an_init_wakes_nobody_who_has_a_state() {
        let (_world, guest) = started();
        let vcpu = guest.vcpu(1);
        vcpu.set_initialised(true);
        assert_eq!(guest.try_vcpu_op(abi::VCPUOP_DOWN, 1, &0u64), 0);
        post(&guest, 1, SIPI);
        vcpu.kick_apic();
        assert!(vcpu.is_held(Hold::Down));
        // An INIT before it changes that, whether it was taken or not.
        post(&guest, 1, BOTH);
        vcpu.kick_apic();
        assert!(vcpu.is_runnable() && prepare(&guest, 1));
    }

    #[test]
    fn the_boot_vcpu_does_not_wait_and_the_last_one_ends_its_domain() {
        let (_world, guest) = started();
        post(&guest, 0, INIT);
        assert!(prepare(&guest, 0), "it runs at its reset vector");
        for id in [1, 2] {
            post(&guest, id, INIT);
            assert!(!prepare(&guest, id));
        }
        assert_eq!(guest.domain.life().shutdown, None);
        guest.vcpu(0).go_down();
        let shutdown = guest.domain.life().shutdown;
        assert_eq!(shutdown, Some(abi::SHUTDOWN_POWEROFF));
    }
}
