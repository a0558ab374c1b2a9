//! Calls that are executed again: what they do to registers, and what one call leaves to another.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, DomainId};

use crate::dispatch::dispatch;
use crate::evtchn;
use crate::hypercall::{Call, Outcome};
use crate::testing::{Guest, Linear, PAGE, World, pvh};

pub(super) const EVENTS: u32 = abi::HYPERVISOR_EVENT_CHANNEL_OP;
pub(super) const KEPT: [u64; 6] = [0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666];

/// One execution of a hypercall, with registers as the kernel keeps them: written back with
/// `Again`.
pub(super) fn part(guest: &Guest, vcpu: u32, number: u32, regs: &mut [u64; 6]) -> Outcome {
    let vcpu = guest.vcpu(vcpu);
    let linear = Linear(&guest.domain);
    let mut call = Call::new(&vcpu, &linear, *regs);
    let outcome = dispatch(number.into(), &mut call);
    if outcome == Outcome::Again {
        *regs = call.args;
    }
    outcome
}

/// All parts of one; the registers after it.
pub(super) fn run(guest: &Guest, number: u32, args: &[u64]) -> ([u64; 6], i64) {
    let mut regs = KEPT;
    regs[..args.len()].copy_from_slice(args);
    loop {
        if let Outcome::Done(value) = part(guest, 0, number, &mut regs) {
            return (regs, value as i64);
        }
    }
}

pub(super) fn fill(guest: &Guest, ports: u32) {
    for _ in 0..ports {
        evtchn::alloc_unbound(&guest.domain, DomainId(0)).expect("a port");
    }
}

pub(super) fn ask_reset(guest: &Guest, at: u64) -> [u64; 2] {
    let dom = DomainId::SELF.0;
    guest.write(at, &abi::EvtchnReset { dom });
    [abi::EVTCHNOP_RESET.into(), at]
}

#[test]
fn a_reset_in_parts_keeps_other_registers_and_the_next_is_whole() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 1);
    for _ in 0..2 {
        fill(&guest, 1500);
        let (regs, result) = run(&guest, EVENTS, &ask_reset(&guest, 16 * PAGE));
        assert_eq!((result, guest.domain.events.usage().0), (0, 0));
        assert_eq!(regs[2..], KEPT[2..], "no arguments of this call");
    }
}

#[test]
fn a_reset_left_in_the_middle_spares_nothing_of_the_next() {
    let (world, _dom0) = World::new();
    let guest = world.guest(1, 2);
    fill(&guest, 1500);
    let [cmd, at] = ask_reset(&guest, 16 * PAGE);
    let mut regs = [cmd, at, 0, 0, 0, 0];
    assert_eq!(part(&guest, 0, EVENTS, &mut regs), Outcome::Again);
    fill(&guest, 300);
    // By another argument, and by another vcpu with the same.
    let (_, result) = run(&guest, EVENTS, &ask_reset(&guest, 17 * PAGE));
    assert_eq!((result, guest.domain.events.usage().0), (0, 0));
    fill(&guest, 1500);
    assert_eq!(part(&guest, 0, EVENTS, &mut regs), Outcome::Again);
    fill(&guest, 300);
    while part(&guest, 1, EVENTS, &mut regs) == Outcome::Again {}
    assert_eq!(guest.domain.events.usage().0, 0);
    // By the same vcpu with the same argument.
    fill(&guest, 1500);
    assert_eq!(part(&guest, 0, EVENTS, &mut regs), Outcome::Again);
    fill(&guest, 300);
    let (_, result) = run(&guest, EVENTS, &[cmd, at]);
    assert_eq!((result, guest.domain.events.usage().0), (0, 0));
}

#[test]
fn another_domain_is_paused_before_its_events_are_reset() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    fill(&guest, 1500);
    dom0.write(16 * PAGE, &abi::EvtchnReset { dom: 1 });
    let args = [abi::EVTCHNOP_RESET.into(), 16 * PAGE];
    let refused = run(&dom0, EVENTS, &args).1;
    assert_eq!(refused, crate::testing::errno(oxen_types::Errno::Inval));
    guest.domain.pause().expect("a pause");
    assert_eq!(run(&dom0, EVENTS, &args).1, 0);
    assert_eq!(guest.domain.events.usage().0, 0);
}

/// Whatever the call: with `Again` it has changed its own arguments only.
#[test]
fn calls_that_go_on_change_their_own_arguments_only() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    guest.vcpu(0).set_cpu(Some(CpuId(1)));
    let mut op = abi::Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, 5);
    dom0.write(16 * PAGE, &op);
    let mut regs = KEPT;
    regs[0] = 16 * PAGE;
    let before = regs;
    for _ in 0..3 {
        let outcome = part(&dom0, 0, abi::HYPERVISOR_DOMCTL, &mut regs);
        assert_eq!((outcome, regs), (Outcome::Again, before));
    }
    assert_eq!(guest.domain.life().pauses, 1);
    // The task goes on at another vcpu of dom0's.
    guest.vcpu(0).set_cpu(None);
    let outcome = part(&dom0, 1, abi::HYPERVISOR_DOMCTL, &mut regs);
    assert_eq!((outcome, regs), (Outcome::Done(0), before));
    assert_eq!(guest.domain.life().pauses, 1);
    // Log-dirty mode, in several parts.
    let ask = abi::DomctlShadowOp {
        op: abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY,
        ..bytemuck::Zeroable::zeroed()
    };
    op = abi::Domctl::with(abi::XEN_DOMCTL_SHADOW_OP, 5, &ask);
    dom0.write(16 * PAGE, &op);
    let (regs, result) = run(&dom0, abi::HYPERVISOR_DOMCTL, &[16 * PAGE]);
    assert_eq!((result, regs), (0, before));
}

#[test]
fn two_calls_that_pause_count_two_pauses() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    guest.vcpu(0).set_cpu(Some(CpuId(1)));
    dom0.write(16 * PAGE, &abi::Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, 5));
    let number = abi::HYPERVISOR_DOMCTL;
    let mut regs = [[16 * PAGE, 0, 0, 0, 0, 0]; 2];
    for (vcpu, regs) in (0..2).zip(&mut regs) {
        assert_eq!(part(&dom0, vcpu, number, regs), Outcome::Again);
    }
    guest.vcpu(0).set_cpu(None);
    for (vcpu, regs) in (0..2).zip(&mut regs) {
        assert_eq!(part(&dom0, vcpu, number, regs), Outcome::Done(0));
    }
    assert_eq!(guest.domain.life().pauses, 2);
}

#[test]
fn a_list_of_domains_goes_on_for_its_own_caller() {
    let (world, dom0) = World::new();
    for id in 1..=40 {
        let made = abi::Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, id, &pvh(1));
        dom0.write(16 * PAGE, &made);
        assert_eq!(run(&dom0, abi::HYPERVISOR_DOMCTL, &[16 * PAGE]).1, 0);
    }
    let ask = abi::SysctlGetDomainInfoList {
        first_domain: 0,
        max_domains: 100,
        buffer: 20 * PAGE,
        ..bytemuck::Zeroable::zeroed()
    };
    let op = abi::Sysctl::with(abi::XEN_SYSCTL_GETDOMAININFOLIST, &ask);
    let number = abi::HYPERVISOR_SYSCTL;
    let told = |at: u64| {
        let ask: abi::SysctlGetDomainInfoList = dom0.read::<abi::Sysctl>(at).u.view();
        ask.num_domains
    };
    dom0.write(16 * PAGE, &op);
    dom0.write(17 * PAGE, &op);
    let mut first = [16 * PAGE, 1, 2, 3, 4, 5];
    assert_eq!(part(&dom0, 0, number, &mut first), Outcome::Again);
    // Another task's call comes in between: each tells all.
    let (regs, result) = run(&dom0, number, &[17 * PAGE]);
    assert_eq!(
        (result, regs[1..].to_vec(), told(17 * PAGE)),
        (0, KEPT[1..].to_vec(), 41)
    );
    while part(&dom0, 0, number, &mut first) == Outcome::Again {}
    assert_eq!((first, told(16 * PAGE)), ([16 * PAGE, 1, 2, 3, 4, 5], 41));
    assert_eq!(world.machine.domain_count(), 41);
}
