//! dom0's devices: the way of their interrupts, its ports, and the memory that it may map.

use std::vec::Vec;

use oxen_core::seams::{Claimant, FrameSource};
use oxen_mm::AllocOptions;
use oxen_types::{DomainId, Gaddr, Mfn, Polarity, Trigger};
use oxen_virt::dev::ioapic::IoApicHost;
use oxen_virt::dev::message::{Delivery, Destination, Message};
use oxen_virt::dev::pci::{MsiHost, Sbdf};
use oxen_virt::{Event, Exit, IoExit, Reg};

use crate::devices::Devices;
use crate::irq_routes::{IrqRoutes, Route};
use crate::testing::host::Did;
use crate::testing::{self, Guest, Lab};
use crate::vpci_host::Side;

fn message(vector: u8) -> Message {
    Message {
        vector,
        delivery: Delivery::Fixed,
        dest: Destination::narrow(0, false),
        level: false,
    }
}

fn with_side<R>(dom0: &Guest, act: impl FnOnce(&mut Side<'_, testing::host::FakeHost>) -> R) -> R {
    let devices = dom0.hvm.devices.as_ref().expect("dom0 has them");
    devices.with(&dom0.hvm, &dom0.domain, |_, side| act(side))
}

#[test]
fn a_line_keeps_its_vector() {
    let routes = IrqRoutes::new();
    let mut next = 0x30..;
    let mut alloc = || next.next();
    assert_eq!(routes.gsi(9, &mut alloc), Some(0x30));
    assert_eq!(routes.gsi(5, &mut alloc), Some(0x31));
    assert_eq!(routes.gsi(9, &mut alloc), Some(0x30));
    assert_eq!(routes.get(0x31), Some(Route::Gsi(5)));
    assert_eq!(routes.gsi(6, || None), None);
}

#[test]
fn a_message_goes_to_the_local_apic_as_long_as_it_is_bound() {
    let lab = Lab::new();
    let dom0 = lab.dom0();
    let device = Sbdf::new(0, 0, 3, 0);
    let msi = with_side(&dom0, |side| side.alloc(device, 1)).expect("a vector");
    let vector = msi.data as u8;
    assert_eq!(msi.address, 0xfee0_0000);
    with_side(&dom0, |side| side.bind(msi.handle, 0, Some(message(0x71))));
    assert_eq!(lab.vmm.irqs.get(vector), Some(Route::Msi(message(0x71))));
    with_side(&dom0, |side| side.free(msi.handle));
    assert_eq!(lab.vmm.irqs.get(vector), None);
    // The place is used again, and its old handle leads nowhere.
    let again = with_side(&dom0, |side| side.alloc(device, 1)).expect("a vector");
    assert_eq!(again.handle, msi.handle);
}

#[test]
fn a_device_has_one_vector_for_each_message() {
    let lab = Lab::new();
    let dom0 = lab.dom0();
    let found = with_side(&dom0, |side| side.alloc(Sbdf::new(0, 0, 3, 0), 2));
    assert_eq!(found, None);
}

#[test]
fn the_console_s_line_is_not_dom0_s() {
    let lab = Lab::new();
    let dom0 = lab.dom0();
    let (edge, high) = (Trigger::Edge, Polarity::High);
    assert!(!with_side(&dom0, |side| side.gsi_configure(4, edge, high)));
    assert!(with_side(&dom0, |side| side.gsi_configure(9, edge, high)));
    assert_eq!(lab.fake.take(), [Did::Route(9, 0x30)]);
}

#[test]
fn an_interrupt_without_a_route_is_dropped() {
    let lab = Lab::new();
    lab.vmm.interrupt(0x30);
    assert_eq!(lab.fake.take(), []);
}

#[test]
fn an_interrupt_of_a_device_wakes_dom0() {
    let lab = Lab::new();
    let dom0 = lab.dom0();
    lab.vmm
        .set_dom0(dom0.domain.clone(), dom0.hvm.clone(), vec![]);
    let msi = with_side(&dom0, |side| side.alloc(Sbdf::new(0, 0, 3, 0), 1)).expect("a vector");
    with_side(&dom0, |side| side.bind(msi.handle, 0, Some(message(0x71))));
    // Its local APIC has to be on: WRMSR of the spurious vector register, in x2APIC mode.
    for (msr, value) in [(0x1b, 0xfee0_0d00u64), (0x80f, 0x1ff)] {
        dom0.script(0).then(move |cpu| {
            cpu.gprs_mut().rcx = msr;
            cpu.gprs_mut().set_edx_eax(value);
            cpu.set(Reg::Rflags, 0x202);
            Exit::Wrmsr
        });
    }
    dom0.run(0);
    dom0.script(0).take();
    lab.vmm.interrupt(msi.data as u8);
    dom0.run(0);
    assert_eq!(dom0.script(0).injected(), [Event::Interrupt(0x71)]);
}

#[test]
fn dom0_maps_no_ram_and_nothing_of_the_hypervisor_s() {
    let lab = Lab::new();
    let devices = Devices::new(testing::devices());
    let may = |first, count| devices.may_map(Mfn::new(first), count, lab.vmm.frames);
    assert!(may(0xe0000, 16));
    assert!(!may(0x100, 1), "RAM");
    assert!(
        !may(0xfee00, 1) && !may(0xfeeff, 1),
        "local APICs and messages"
    );
    assert!(!may(0xfedff, 2) && may(0xfedff, 1) && may(0xfef00, 1));
    assert!(!may(0xfec00, 1), "an IO-APIC");
    assert!(
        may((1 << 28) - 1, 1) && !may((1 << 28) - 1, 2),
        "beyond the machine"
    );
    assert!(!may(u64::MAX >> 12, u64::MAX));
    assert!(devices.claims(Gaddr::new(0xfec0_0010)));
    assert!(!devices.claims(Gaddr::new(0xe000_0000)));
}

fn port(dom0: &Guest, at: u16, input: bool) -> u64 {
    access(dom0, at, 1, input, 0xffff_ffff_0000_00aa)
}

/// RAX after an IN or OUT that began with a value of it.
fn access(dom0: &Guest, port: u16, size: u8, input: bool, rax: u64) -> u64 {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(0));
    dom0.script(0).then(move |cpu| {
        cpu.gprs_mut().rax = rax;
        Exit::Io(IoExit {
            port,
            size,
            input,
            string: false,
            rep: false,
            next_rip: 0x2000,
        })
    });
    let into = seen.clone();
    dom0.script(0).then(move |cpu| {
        assert_eq!(cpu.get(Reg::Rip), 0x2000);
        *into.lock().unwrap() = cpu.gprs().rax;
        Exit::Settled
    });
    dom0.run(0);
    let rax = seen.lock().unwrap();
    *rax
}

#[test]
fn dom0_reaches_ports_and_not_those_that_are_denied() {
    let lab = Lab::new();
    let dom0 = lab.dom0();
    assert_eq!(port(&dom0, 0x70, true), 0xffff_ffff_0000_0078);
    assert_eq!(port(&dom0, 0x20, true), 0xffff_ffff_0000_00ff);
    lab.fake.take();
    port(&dom0, 0x70, false);
    port(&dom0, 0x20, false);
    let did = lab.fake.take();
    assert!(did.contains(&Did::Port(0x70, 0xaa)));
    assert!(!did.iter().any(|did| matches!(did, Did::Port(0x20, _))));
}

#[test]
fn a_guest_has_no_ports_at_all() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    assert_eq!(port(&guest, 0x70, true), 0xffff_ffff_0000_00ff);
    assert!(
        !lab.fake
            .take()
            .iter()
            .any(|did| matches!(did, Did::Port(..)))
    );
}

/// Adding a function takes memory. There is always some for dom0, but for what must not fail.
#[test]
fn configuration_space_is_empty_while_memory_is_short() {
    let lab = Lab::new();
    let dom0 = lab.dom0();
    access(&dom0, 0xcf8, 4, false, 1 << 31 | 3 << 11);
    let read = || access(&dom0, 0xcfc, 4, true, 0);
    let frames = lab.vmm.frames;
    let mut taken = Vec::new();
    while frames.has_room(Claimant::Privileged) {
        let own = frames.alloc_own(0, DomainId::XEN, AllocOptions::default());
        taken.push(own.expect("there is room"));
    }
    assert_eq!(read(), 0xffff_ffff);
    taken.into_iter().for_each(|mfn| frames.free_own(mfn, 1));
    assert_eq!(read(), 0x1234_5678);
}
