//! HLT.

use oxen_core::vcpu::Hold;
use oxen_virt::{Event, Exit, Reg};

use crate::testing::backend::Act;
use crate::testing::{Guest, Lab};

const RFLAGS_IF: u64 = 1 << 9;

fn halts(guest: &Guest, interrupts: bool) {
    guest.script(0).then(move |cpu| {
        cpu.set(Reg::Rflags, if interrupts { RFLAGS_IF | 2 } else { 2 });
        Exit::Hlt
    });
    guest.run(0);
}

#[test]
fn hlt_blocks_a_vcpu_for_which_nothing_waits() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    halts(&guest, true);
    assert!(guest.vcpu(0).only_waits());
    let acts = guest.script(0).take();
    assert!(acts.contains(&Act::Advance(3)), "it wakes behind the HLT");
    assert_eq!(acts.iter().filter(|act| **act == Act::Run).count(), 1);
}

#[test]
fn an_interrupt_that_was_posted_wakes_it() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.enable_apic(0);
    halts(&guest, true);
    guest.vcpu(0).arch.post_vector(0x41);
    guest.vcpu(0).kick_posted();
    assert!(guest.vcpu(0).is_runnable());
    guest.run(0);
    assert_eq!(guest.script(0).injected(), [Event::Interrupt(0x41)]);
}

#[test]
fn hlt_with_an_interrupt_posted_goes_on() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.enable_apic(0);
    let vcpu = guest.vcpu(0);
    guest.script(0).then(move |cpu| {
        cpu.set(Reg::Rflags, RFLAGS_IF | 2);
        vcpu.arch.post_vector(0x41);
        Exit::Hlt
    });
    guest.run(0);
    assert!(guest.vcpu(0).is_runnable());
    assert_eq!(guest.script(0).injected(), [Event::Interrupt(0x41)]);
}

#[test]
fn hlt_with_interrupts_off_switches_the_vcpu_off() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    halts(&guest, false);
    assert!(guest.vcpu(0).is_held(Hold::Down));
    assert!(!guest.vcpu(0).is_held(Hold::Blocked));
}

#[test]
fn hlt_with_interrupts_off_waits_for_an_nmi_that_was_posted() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    let vcpu = guest.vcpu(0);
    guest.script(0).then(move |cpu| {
        cpu.set(Reg::Rflags, 2);
        vcpu.arch.post_nmi();
        Exit::Hlt
    });
    guest.run(0);
    assert!(guest.vcpu(0).is_runnable());
    assert_eq!(guest.script(0).injected(), [Event::Nmi]);
}

#[test]
fn hlt_with_an_event_to_deliver_does_not_sleep() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    guest.script(0).then(|cpu| {
        cpu.set(Reg::Rflags, RFLAGS_IF | 2);
        cpu.inject(Event::DB);
        Exit::Hlt
    });
    guest.run(0);
    assert!(guest.vcpu(0).is_runnable());
}
