//! The order in which what was posted to a vcpu reaches its guest.

use core::sync::atomic::Ordering;
use std::vec::Vec;

use oxen_core::timer::TimerKind;
use oxen_core::vcpu::Hold;
use oxen_types::CpuId;
use oxen_virt::dev::lapic::deliver;
use oxen_virt::dev::message::{Delivery, Destination, Message};
use oxen_virt::{Event, Exit, Reg, SegReg, Window};

use crate::domain::ApicBus;
use crate::testing::backend::Act;
use crate::testing::{Guest, Lab};

const RFLAGS_IF: u64 = 1 << 9;

fn interrupts(guest: &Guest, on: bool) {
    guest.script(0).then(move |cpu| {
        let flags = cpu.get(Reg::Rflags) & !RFLAGS_IF;
        cpu.set(Reg::Rflags, if on { flags | RFLAGS_IF } else { flags });
        Exit::Settled
    });
    guest.run(0);
    guest.script(0).take();
}

/// A guest whose local APIC is enabled and that takes interrupts.
fn guest(lab: &Lab) -> Guest {
    let guest = lab.guest(1);
    guest.enable_apic(0);
    interrupts(&guest, true);
    guest
}

fn send_to(guest: &Guest, apic: u8, delivery: Delivery, vector: u8) {
    let message = Message {
        vector,
        delivery,
        dest: Destination::narrow(apic, false),
        level: false,
    };
    let bus = ApicBus {
        hvm: &*guest.hvm,
        domain: &guest.domain,
    };
    assert!(deliver(&bus, &message));
}

/// The events that the guest's CPU has to deliver at each of its next entries. The CPU takes each
/// at once.
fn taken(guest: &Guest, entries: usize) -> Vec<Option<Event>> {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for _ in 0..entries {
        let seen = seen.clone();
        guest.script(0).then(move |cpu| {
            seen.lock().unwrap().push(cpu.pending_event());
            cpu.reset(false);
            cpu.set(Reg::Rflags, RFLAGS_IF | 2);
            Exit::Settled
        });
    }
    guest.run(0);
    let seen = seen.lock().unwrap();
    seen.clone()
}

#[test]
fn the_highest_vector_goes_first() {
    let lab = Lab::new();
    let guest = guest(&lab);
    for vector in [0x41, 0x81, 0x61] {
        guest.vcpu(0).arch.post_vector(vector);
    }
    assert_eq!(
        taken(&guest, 2),
        [Some(Event::Interrupt(0x81)), None],
        "the others have a lower class than the one in service"
    );
}

#[test]
fn an_nmi_goes_before_an_interrupt() {
    let lab = Lab::new();
    let guest = guest(&lab);
    guest.vcpu(0).arch.post_vector(0x81);
    guest.vcpu(0).arch.post_nmi();
    assert_eq!(
        taken(&guest, 2),
        [Some(Event::Nmi), Some(Event::Interrupt(0x81))]
    );
}

#[test]
fn an_nmi_waits_while_another_event_is_to_be_delivered() {
    let lab = Lab::new();
    let guest = guest(&lab);
    let vcpu = guest.vcpu(0);
    guest.script(0).then(move |cpu| {
        cpu.inject(Event::GP);
        vcpu.arch.post_nmi();
        Exit::Settled
    });
    // The NMI must not replace what the guest's own fault left.
    assert_eq!(taken(&guest, 2), [Some(Event::GP), Some(Event::Nmi)]);
}

#[test]
fn the_callback_goes_before_the_local_apic_and_is_in_no_service_register() {
    let lab = Lab::new();
    let guest = guest(&lab);
    guest.domain.set_callback(2 << 56 | 0xf3);
    guest.vcpu(0).arch.post_vector(0x81);
    guest.vcpu(0).raise_upcall();
    // The guest does not clear the pending flag: it is told again.
    let callback = Some(Event::Interrupt(0xf3));
    assert_eq!(taken(&guest, 2), [callback, callback]);
}

#[test]
fn an_interrupt_that_cannot_be_taken_asks_for_a_window() {
    let lab = Lab::new();
    let guest = guest(&lab);
    interrupts(&guest, false);
    guest.vcpu(0).arch.post_vector(0x81);
    guest.run(0);
    let acts = guest.script(0).take();
    assert!(acts.contains(&Act::Window(Window::Interrupts)));
    assert!(!acts.iter().any(|act| matches!(act, Act::Inject(_))));
}

#[test]
fn a_second_vector_waits_for_a_window_behind_the_first() {
    let lab = Lab::new();
    let guest = guest(&lab);
    guest.vcpu(0).arch.post_vector(0x41);
    guest.vcpu(0).arch.post_vector(0x81);
    guest.run(0);
    let acts = guest.script(0).take();
    let at = |act| acts.iter().position(|other| *other == act);
    let injected = at(Act::Inject(Event::Interrupt(0x81)));
    assert!(injected.is_some());
    // 0x41 is of a lower class than what is in service: its completion is seen, no window is
    // needed.
    assert_eq!(
        acts.get(injected.unwrap() + 1),
        Some(&Act::Window(Window::Unwanted))
    );
}

#[test]
fn the_apic_timer_fires_before_the_interrupt_is_chosen() {
    let lab = Lab::new();
    let guest = guest(&lab);
    // One shot at vector 0x55, undivided: 100 MHz, so 1000 ns for 100 ticks.
    guest.mmio_write(0, 0xfee0_03e0, 0xb);
    guest.mmio_write(0, 0xfee0_0320, 0x55);
    guest.mmio_write(0, 0xfee0_0380, 100);
    interrupts(&guest, true);
    let now = lab.vmm.machine.now();
    assert_eq!(taken(&guest, 1), [None]);
    lab.fake.set_now(now + 1_000);
    assert_eq!(taken(&guest, 1), [Some(Event::Interrupt(0x55))]);
}

/// The loop fires timers by a later time than it looked at first. The local APIC's timer may become
/// due in between, behind another one.
#[test]
fn a_timer_that_became_due_while_others_fired_expires_at_once() {
    let lab = Lab::new();
    let guest = guest(&lab);
    guest.mmio_write(0, 0xfee0_03e0, 0xb);
    guest.mmio_write(0, 0xfee0_0320, 0x55);
    guest.mmio_write(0, 0xfee0_0380, 100);
    interrupts(&guest, true);
    let now = lab.vmm.machine.now();
    let other = guest.vcpu(0);
    other.arm_timer(TimerKind::SingleShot, now + 400, CpuId(0));
    lab.fake.set_now(now + 600);
    lab.fake.step.store(500, Ordering::SeqCst);
    assert_eq!(taken(&guest, 1), [Some(Event::Interrupt(0x55))]);
}

/// A guest of two vcpus, of which the second has taken an INIT and is down.
fn waits_for_sipi(lab: &Lab) -> Guest {
    let guest = lab.guest(2);
    guest.enable_apic(0);
    send_to(&guest, 2, Delivery::Init, 0);
    guest.run(1);
    guest
}

#[test]
fn a_vcpu_that_waits_for_sipi_goes_down_and_is_not_entered() {
    let lab = Lab::new();
    let guest = waits_for_sipi(&lab);
    assert!(guest.vcpu(1).is_held(Hold::Down));
    assert!(!guest.script(1).take().contains(&Act::Run));
    send_to(&guest, 2, Delivery::Startup, 0x10);
    assert!(!guest.vcpu(1).is_held(Hold::Down), "SIPI wakes it");
    guest.run(1);
    assert!(guest.script(1).take().contains(&Act::Run));
}

#[test]
fn a_vcpu_starts_at_the_page_of_its_sipi() {
    let lab = Lab::new();
    let guest = waits_for_sipi(&lab);
    send_to(&guest, 2, Delivery::Startup, 0x9a);
    guest.script(1).then(|cpu| {
        assert_eq!(cpu.segment(SegReg::Cs).base, 0x9a000);
        assert_eq!((cpu.get(Reg::Rip), cpu.get(Reg::Cr0) & 1), (0, 0));
        Exit::Settled
    });
    guest.run(1);
    assert!(guest.script(1).take().contains(&Act::Run));
}

/// Both wait at the same entry: the vcpu that has a state would ignore a SIPI without the INIT.
#[test]
fn init_is_taken_before_the_sipi_that_follows() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    guest.enable_apic(0);
    send_to(&guest, 2, Delivery::Init, 0);
    send_to(&guest, 2, Delivery::Startup, 0x9a);
    guest.script(1).then(|cpu| {
        assert_eq!(cpu.segment(SegReg::Cs).base, 0x9a000);
        Exit::Settled
    });
    guest.run(1);
    let acts = guest.script(1).take();
    assert!(acts.contains(&Act::Reset(false)) && acts.contains(&Act::Run));
}

#[test]
fn a_sipi_without_an_init_is_ignored() {
    let lab = Lab::new();
    let guest = lab.guest(2);
    send_to(&guest, 2, Delivery::Startup, 0x9a);
    guest.script(1).then(|cpu| {
        assert_eq!(cpu.segment(SegReg::Cs).base, 0);
        Exit::Settled
    });
    guest.run(1);
    assert!(guest.script(1).take().contains(&Act::Run));
}
