//! Tests of the periodic timer: which CPU fires a vcpu's ticks, and how many the vcpu gets.

use guest_pv_abi as abi;
use oxen_types::{CpuId, Errno, Port};

use crate::testing::{Guest, World, errno};
use crate::vcpu::Hold;

const MS: u64 = 1_000_000;
const CPU: CpuId = CpuId(0);
const OTHER: CpuId = CpuId(1);

struct Ticking {
    world: World,
    guest: Guest,
    port: Port,
}

impl Ticking {
    /// A vcpu with a tick each millisecond from 1 ms on, which is loaded nowhere.
    fn new() -> Self {
        let (world, _dom0) = World::new();
        let guest = world.guest(1, 2);
        let mut bind = abi::EvtchnBindVirq {
            virq: abi::VIRQ_TIMER,
            vcpu: 0,
            port: 0,
        };
        let number = abi::HYPERVISOR_EVENT_CHANNEL_OP;
        assert_eq!(guest.op(number, abi::EVTCHNOP_BIND_VIRQ, &mut bind), 0);
        world.platform.set_now(0);
        let ticking = Self {
            world,
            guest,
            port: Port(bind.port),
        };
        assert_eq!(ticking.set(MS), 0);
        ticking
    }

    fn set(&self, period_ns: u64) -> i64 {
        let ask = abi::VcpuSetPeriodicTimer { period_ns };
        self.guest
            .try_vcpu_op(abi::VCPUOP_SET_PERIODIC_TIMER, 0, &ask)
    }

    fn load(&self, cpu: CpuId) {
        let vcpu = self.guest.vcpu(0);
        vcpu.set_cpu(Some(cpu));
        vcpu.start_ticks(cpu);
    }

    fn unload(&self) {
        let vcpu = self.guest.vcpu(0);
        vcpu.stop_ticks();
        vcpu.set_cpu(None);
    }

    fn next(&self, cpu: CpuId) -> Option<u64> {
        self.world.machine.timers.next(cpu)
    }

    /// Fires the timers of a CPU that are due at `now`. Returns how many fired.
    fn fire(&self, cpu: CpuId, now: u64) -> usize {
        self.world.platform.set_now(now);
        let mut fired = 0;
        while self.next(cpu).is_some_and(|next| next <= now) {
            assert!(!self.world.machine.fire_timers(cpu));
            fired += 1;
            assert!(fired < 100, "it is armed for the past");
        }
        fired
    }

    /// Whether VIRQ_TIMER was raised since the last call.
    fn ticked(&self) -> bool {
        let domain = &self.guest.domain;
        let pending = domain.events.is_pending(domain, self.port);
        // The guest takes it: shared_info's first word of pending bits, and the upcall's flag.
        domain
            .shared_info()
            .word(2048)
            .store(0, core::sync::atomic::Ordering::SeqCst);
        domain
            .shared_info()
            .word(0)
            .store(0, core::sync::atomic::Ordering::SeqCst);
        pending
    }
}

#[test]
fn a_vcpu_that_is_loaded_ticks_where_it_is_loaded() {
    let t = Ticking::new();
    assert_eq!((t.next(CPU), t.next(OTHER)), (None, None), "nobody runs it");
    t.load(OTHER);
    assert_eq!((t.next(CPU), t.next(OTHER)), (None, Some(MS)));
    for tick in 1..4 {
        assert_eq!(t.fire(OTHER, tick * MS), 1);
        assert!(t.ticked());
    }
    assert_eq!(t.fire(OTHER, 10 * MS), 1, "what came late comes once");
    assert!(t.ticked());
    assert_eq!(t.next(OTHER), Some(11 * MS), "at its old pace");
    // It goes elsewhere, and nothing of it stays.
    t.unload();
    t.load(CPU);
    assert_eq!((t.next(CPU), t.next(OTHER)), (Some(11 * MS), None));
    assert!(!t.ticked());
}

#[test]
fn nobody_pays_for_the_ticks_of_a_vcpu_that_may_not_run() {
    for hold in [Hold::Down, Hold::Paused, Hold::DomainPaused, Hold::ShutDown] {
        let t = Ticking::new();
        t.load(CPU);
        assert_eq!(t.fire(CPU, MS), 1);
        assert!(t.ticked());
        let vcpu = t.guest.vcpu(0);
        vcpu.hold(Hold::Blocked);
        vcpu.hold(hold);
        t.unload();
        assert_eq!(t.fire(CPU, 1000 * MS), 0, "{hold:?}");
        assert!(!t.ticked());
        // It may again: all that it missed is one tick.
        vcpu.release(hold);
        vcpu.release(Hold::Blocked);
        t.load(OTHER);
        assert!(t.ticked());
        assert_eq!(t.next(OTHER), Some(1001 * MS));
    }
}

#[test]
fn nobody_pays_for_the_ticks_of_a_vcpu_that_waits_for_a_cpu() {
    let t = Ticking::new();
    t.load(CPU);
    t.unload();
    assert_eq!(t.fire(CPU, 50 * MS), 0);
    t.load(CPU);
    assert!(t.ticked());
}

#[test]
fn a_vcpu_that_waits_for_an_event_is_woken_by_one_tick() {
    let t = Ticking::new();
    t.load(CPU);
    let vcpu = t.guest.vcpu(0);
    vcpu.hold(Hold::Blocked);
    t.unload();
    assert_eq!(t.fire(CPU, MS), 1);
    assert!(t.ticked() && vcpu.is_runnable());
    assert_eq!(t.next(CPU), None, "more when it runs");
    t.load(OTHER);
    assert_eq!(t.next(OTHER), Some(2 * MS));
    // With the event masked it is not woken, and nobody goes on ticking for it.
    t.guest
        .domain
        .shared_info()
        .word(2560)
        .store(u64::MAX as u32, core::sync::atomic::Ordering::SeqCst);
    vcpu.hold(Hold::Blocked);
    t.unload();
    assert_eq!(t.fire(OTHER, 500 * MS), 1);
    assert!(!vcpu.is_runnable());
    assert_eq!((t.next(CPU), t.next(OTHER)), (None, None));
    // Paused before the tick came: the one that was armed says nothing.
    vcpu.release(Hold::Blocked);
    t.load(CPU);
    assert!(t.ticked());
    vcpu.hold(Hold::Blocked);
    t.unload();
    vcpu.hold(Hold::Paused);
    assert_eq!(t.fire(CPU, 900 * MS), 1);
    assert!(!t.ticked());
}

#[test]
fn one_vcpu_sets_the_timer_of_another() {
    let t = Ticking::new();
    t.load(OTHER);
    t.world.platform.kicked.lock().unwrap().clear();
    t.world.platform.set_now(5 * MS);
    assert_eq!(t.set(2 * MS), 0);
    assert_eq!((t.next(CPU), t.next(OTHER)), (None, Some(7 * MS)));
    assert_eq!(*t.world.platform.kicked.lock().unwrap(), [OTHER]);
    let stop = abi::VCPUOP_STOP_PERIODIC_TIMER;
    assert_eq!(t.guest.try_vcpu_op(stop, 0, &0u64), 0);
    assert_eq!((t.next(OTHER), t.fire(OTHER, 100 * MS)), (None, 0));
    t.unload();
    t.load(OTHER);
    assert!(!t.ticked(), "it is off");
    assert_eq!(t.set(MS - 1), errno(Errno::Inval));
    // One that just waits gets its tick as well.
    t.guest.vcpu(0).hold(Hold::Blocked);
    t.unload();
    assert_eq!(t.set(MS), 0);
    assert_eq!(t.next(CPU), Some(101 * MS));
}
