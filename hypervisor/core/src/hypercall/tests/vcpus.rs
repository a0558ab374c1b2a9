//! vcpu_op, sched_op and vm_assist: registered areas, start and stop, shutdown.

use core::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{Errno, Gaddr, Gfn, Result, Vaddr};

use crate::dispatch::dispatch;
use crate::evtchn;
use crate::hypercall::{Call, Outcome};
use crate::runstate::State;
use crate::seams::{LinearMemory, PowerAction};
use crate::testing::{Guest, Linear, PAGE, World, errno};
use crate::vcpu::{Hold, Poll};

const NUMBER: u32 = abi::HYPERVISOR_VCPU_OP;

fn vcpu_op(guest: &Guest, cmd: u32, vcpu: u64, bytes: &[u8]) -> i64 {
    guest.write_all(PAGE, bytes);
    guest.call(NUMBER, &[cmd.into(), vcpu, PAGE])
}

#[test]
fn a_vcpu_is_started_with_a_context_and_stopped() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    guest.vcpu(1).hold(Hold::Down);
    let is_up = || vcpu_op(&guest, abi::VCPUOP_IS_UP, 1, &[]);
    let up = || vcpu_op(&guest, abi::VCPUOP_UP, 1, &[]);
    assert_eq!((is_up(), up()), (0, errno(Errno::Inval)));
    let mut context = abi::VcpuHvmContext::zeroed();
    bytemuck::bytes_of_mut(&mut context)[0] = 0xff;
    let initialise = |context: &abi::VcpuHvmContext| {
        vcpu_op(
            &guest,
            abi::VCPUOP_INITIALISE,
            1,
            bytemuck::bytes_of(context),
        )
    };
    assert_eq!(
        initialise(&context),
        errno(Errno::Inval),
        "the processor refuses it"
    );
    bytemuck::bytes_of_mut(&mut context)[0] = 0;
    assert_eq!(initialise(&context), 0);
    assert_eq!(initialise(&context), errno(Errno::Exist));
    assert_eq!((up(), is_up()), (0, 1));
    assert!(guest.vcpu(1).is_runnable());
    assert_eq!(vcpu_op(&guest, abi::VCPUOP_DOWN, 1, &[]), 0);
    assert_eq!(is_up(), 0);
    for vcpu in [2, u64::MAX, 1 << 32] {
        assert_eq!(
            vcpu_op(&guest, abi::VCPUOP_IS_UP, vcpu, &[]),
            errno(Errno::NoEnt)
        );
    }
}

#[test]
fn run_states_are_written_where_the_guest_wants_them() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    // Across a page border.
    let at = 6 * PAGE - 16;
    let cmd = abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA;
    assert_eq!(vcpu_op(&guest, cmd, 0, bytemuck::bytes_of(&at)), 0);
    let assist = [
        abi::VMASST_CMD_ENABLE.into(),
        abi::VMASST_TYPE_RUNSTATE_UPDATE_FLAG.into(),
    ];
    assert_eq!(guest.call(abi::HYPERVISOR_VM_ASSIST, &assist), 0);
    let vcpu = guest.vcpu(0);
    vcpu.enter_state(State::Running, 5_000);
    vcpu.enter_state(State::Blocked, 8_000);
    let info: abi::VcpuRunstateInfo = guest.read(at);
    assert_eq!((info.state, info.state_entry_time), (2, 8_000));
    assert_eq!(info.time[0], 3_000);
    // The guest gives the page away: it is held, not followed.
    guest.domain.memory.release(Gfn::new(5)).expect("its RAM");
    vcpu.enter_state(State::Running, 9_000);
    assert_eq!(
        vcpu_op(&guest, cmd, 0, bytemuck::bytes_of(&(1u64 << 45))),
        errno(Errno::Fault)
    );
    assert_eq!(
        vcpu_op(&guest, cmd, 0, bytemuck::bytes_of(&0u64)),
        0,
        "withdrawn"
    );
}

#[test]
fn run_states_are_told_with_the_time_of_the_present_one() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let vcpu = guest.vcpu(0);
    vcpu.enter_state(State::Running, 5_000);
    vcpu.enter_state(State::Blocked, 8_000);
    let info = |now: u64| -> abi::VcpuRunstateInfo {
        world.platform.set_now(now);
        assert_eq!(
            vcpu_op(&guest, abi::VCPUOP_GET_RUNSTATE_INFO, 0, &[0; 48]),
            0
        );
        guest.read(PAGE)
    };
    for now in [8_000, 9_500, 20_000] {
        let info = info(now);
        assert_eq!((info.state, info.state_entry_time), (2, 8_000));
        assert_eq!(info.time, [3_000, 0, now - 8_000, 4_000]);
    }
}

#[test]
fn the_last_vcpu_that_goes_down_takes_its_domain_along() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 3);
    let down = |vcpu: u64| vcpu_op(&guest, abi::VCPUOP_DOWN, vcpu, &[]);
    let shutdown = || guest.domain.life().shutdown;
    assert_eq!((down(2), down(0), down(2)), (0, 0, 0));
    assert_eq!(shutdown(), None, "one is up, and can start the others");
    assert_eq!(down(1), 0);
    assert_eq!(shutdown(), Some(abi::SHUTDOWN_POWEROFF));
}

#[test]
fn the_clock_is_written_twice_over() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    world.platform.set_now(77_000);
    let at = 7 * PAGE;
    let cmd = abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA;
    assert_eq!(vcpu_op(&guest, cmd, 0, bytemuck::bytes_of(&at)), 0);
    let time: abi::VcpuTimeInfo = guest.read(at);
    assert_eq!((time.system_time, time.tsc_timestamp), (77_000, 154_000));
    assert_eq!((time.version % 2, time.flags), (0, 1));
    assert_eq!((time.tsc_to_system_mul, time.tsc_shift), (1 << 31, 0));
    let mut first = [0; 8];
    guest.domain.shared_info().read(32 + 16, &mut first);
    assert_eq!(u64::from_le_bytes(first), 77_000);
}

#[test]
fn vcpu_info_of_others_only_while_they_are_down() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 40);
    let place = |mfn: u64, offset: u32| abi::VcpuRegisterVcpuInfo {
        mfn,
        offset,
        rsvd: 0,
    };
    let register = |vcpu: u64, place: abi::VcpuRegisterVcpuInfo| {
        vcpu_op(
            &guest,
            abi::VCPUOP_REGISTER_VCPU_INFO,
            vcpu,
            bytemuck::bytes_of(&place),
        )
    };
    let inval = errno(Errno::Inval);
    for (mfn, offset) in [
        (8, 4096 - 63),
        (8, 4),
        (8, u32::MAX),
        (5000, 0),
        (u64::MAX, 0),
    ] {
        assert_eq!(register(0, place(mfn, offset)), inval);
    }
    assert_eq!(register(1, place(8, 0)), inval, "it runs");
    guest.vcpu(1).hold(Hold::Down);
    assert_eq!(register(1, place(8, 0)), 0);
    // Vcpus beyond the 32nd have none before.
    assert!(guest.vcpu(35).with_info(|_| ()).is_none());
    guest.vcpu(35).hold(Hold::Down);
    assert_eq!(register(35, place(8, 128)), 0);
    let mut clock = [0; 8];
    let at = Gaddr::new(8 * PAGE + 128 + 32 + 16);
    guest.domain.memory.read(at, &mut clock).expect("RAM");
    assert_eq!(u64::from_le_bytes(clock), 1_000);
}

#[test]
fn a_guest_ends_once_and_dom0_takes_the_machine_along() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let number = abi::HYPERVISOR_SCHED_OP;
    let mut down = abi::SchedShutdown {
        reason: abi::SHUTDOWN_REBOOT,
    };
    assert_eq!(guest.op(number, abi::SCHEDOP_SHUTDOWN, &mut down), 0);
    down.reason = abi::SHUTDOWN_CRASH;
    assert_eq!(guest.op(number, abi::SCHEDOP_SHUTDOWN, &mut down), 0);
    assert_eq!(guest.domain.life().shutdown, Some(abi::SHUTDOWN_REBOOT));
    let other = world.guest(2, 1);
    let mut remote = abi::SchedRemoteShutdown {
        domain_id: 2,
        reason: abi::SHUTDOWN_POWEROFF,
        ..Zeroable::zeroed()
    };
    let cmd = abi::SCHEDOP_REMOTE_SHUTDOWN;
    assert_eq!(guest.op(number, cmd, &mut remote), errno(Errno::Perm));
    assert_eq!(dom0.op(number, cmd, &mut remote), 0);
    assert_eq!(other.domain.life().shutdown, Some(abi::SHUTDOWN_POWEROFF));
    assert_eq!(*world.platform.power.lock().expect("power"), None);
    down.reason = abi::SHUTDOWN_POWEROFF;
    assert_eq!(dom0.op(number, abi::SCHEDOP_SHUTDOWN, &mut down), 0);
    let power = *world.platform.power.lock().expect("power");
    assert_eq!(power, Some(PowerAction::PowerOff));
}

/// Memory from which another vcpu takes a page away once so many bytes of it have been read.
struct Vanishing<'a> {
    rest: Linear<'a>,
    page: u64,
    left: AtomicUsize,
}

impl LinearMemory for Vanishing<'_> {
    fn read(&self, from: Vaddr, into: &mut [u8]) -> Result<()> {
        if from.raw() / PAGE == self.page {
            let take = |left: usize| left.checked_sub(into.len());
            let had = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            had.map_err(|_| Errno::Fault)?;
        }
        self.rest.read(from, into)
    }

    fn write(&self, to: Vaddr, from: &[u8]) -> Result<()> {
        self.rest.write(to, from)
    }

    fn translate(&self, at: Vaddr) -> Result<Gaddr> {
        self.rest.translate(at)
    }

    fn space(&self) -> u64 {
        self.rest.space()
    }
}

#[test]
fn the_ports_of_a_poll_are_copied_once() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    let port = || evtchn::alloc_unbound(&guest.domain, guest.domain.id).expect("a port");
    let ports = [port().0, port().0, port().0];
    guest.write_all(6 * PAGE, &ports);
    let ask = abi::SchedPoll {
        ports: 6 * PAGE,
        nr_ports: 3,
        timeout: 0,
        ..Zeroable::zeroed()
    };
    guest.write(7 * PAGE, &ask);
    let poll = |left: usize| {
        let vcpu = guest.vcpu(0);
        let linear = Vanishing {
            rest: Linear(&guest.domain),
            page: 6,
            left: AtomicUsize::new(left),
        };
        let args = [abi::SCHEDOP_POLL.into(), 7 * PAGE, 0, 0, 0, 0];
        let mut call = Call::new(&vcpu, &linear, args);
        let done = dispatch(abi::HYPERVISOR_SCHED_OP.into(), &mut call);
        (done, vcpu.is_held(Hold::Blocked), vcpu.poll())
    };
    let failed = Outcome::Done(errno(Errno::Fault) as u64);
    assert_eq!(poll(8), (failed, false, Poll::No), "nothing has changed");
    assert_eq!(poll(12), (Outcome::Done(0), true, Poll::Any));
}

#[test]
fn hvm_ops_that_name_what_there_is_not_are_invalid() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let number = abi::HYPERVISOR_HVM_OP;
    let inval = errno(Errno::Inval);
    for who in [&guest, &dom0] {
        let mut ask = abi::HvmParam {
            domid: oxen_types::DomainId::SELF.0,
            index: 40,
            ..Zeroable::zeroed()
        };
        for index in [40, 4096, u32::MAX] {
            ask.index = index;
            assert_eq!(who.op(number, abi::HVMOP_SET_PARAM, &mut ask), inval);
            assert_eq!(who.op(number, abi::HVMOP_GET_PARAM, &mut ask), inval);
        }
        assert_eq!(
            who.call(number, &[abi::HVMOP_FLUSH_TLBS.into(), PAGE]),
            inval
        );
        assert_eq!(who.call(number, &[abi::HVMOP_FLUSH_TLBS.into(), 0]), 0);
    }
}
