//! How a vcpu is started and stopped: by INIT and SIPI, or by VCPUOP_initialise, up and down.
//!
//! `initialised` is the one word about whether a vcpu has a state to run from: set by a context, a record
//! or a SIPI, cleared by INIT. [`Hold::Down`] is the one word about whether it runs.
//!
//! A SIPI is posted while its receiver may be on its way down: the sender posts, then looks at the hold;
//! the receiver takes the hold, then looks at what was posted. One of them sees the other.

use core::sync::atomic::{Ordering, fence};

use crate::vcpu::{Hold, Vcpu};

impl Vcpu {
    /// Has it a state to run from?
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::SeqCst)
    }

    /// It has got a state, by a context or a record.
    pub fn set_initialised(&self, initialised: bool) {
        self.initialised.store(initialised, Ordering::SeqCst);
    }

    /// The CPU that runs it takes an INIT. It waits for a SIPI or a context from here on, however it was
    /// started before; but the boot vcpu goes on at its reset vector, as a boot CPU does.
    pub fn take_init(&self) {
        if self.id.0 != 0 {
            self.set_initialised(false);
        }
    }

    /// The CPU that runs it takes a SIPI. Returns whether it starts: one that has a state ignores it.
    pub fn take_startup(&self) -> bool {
        !self.initialised.swap(true, Ordering::SeqCst)
    }

    /// It goes off, until somebody starts it. If it was the last one that was up, nobody can: its domain
    /// has powered itself down.
    pub fn go_down(&self) {
        self.hold(Hold::Down);
        fence(Ordering::SeqCst);
        if self.startup_waits() {
            self.release(Hold::Down);
        } else {
            self.domain.end_if_all_are_down();
        }
    }

    /// Something was posted to its local APIC. One that is down is woken by a SIPI only.
    pub fn kick_apic(&self) {
        fence(Ordering::SeqCst);
        if !self.is_held(Hold::Down) {
            self.kick_posted();
        } else if self.startup_waits() {
            self.release(Hold::Down);
        }
    }

    /// Is a SIPI posted that will start it?
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

    /// What the CPU that runs a vcpu does before each entry; true if it goes on.
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
        assert_eq!(guest.domain.life.lock().shutdown, None);
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
        assert_eq!(guest.domain.life.lock().shutdown, None);
        guest.vcpu(0).go_down();
        let shutdown = guest.domain.life.lock().shutdown;
        assert_eq!(shutdown, Some(abi::SHUTDOWN_POWEROFF));
    }
}
