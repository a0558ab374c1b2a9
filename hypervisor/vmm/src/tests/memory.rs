//! Nested page faults: RAM, grants and foreign pages, dom0's own devices, emulated devices, and
//! holes.

use oxen_core::seams::{MapKind, PageRef};
use oxen_types::{DomainId, Gaddr, Gfn};
use oxen_virt::{Event, Exit, NestedFault};

use crate::testing::backend::Act;
use crate::testing::{Guest, Lab, RAM};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Read,
    Write,
    Fetch,
}

const ALL: [Access; 3] = [Access::Read, Access::Write, Access::Fetch];

/// The outcome of a fault for the guest's CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// The guest tries again.
    Again,
    Fault,
    /// The instruction is emulated.
    Emulated,
}

fn fault(guest: &Guest, at: u64, access: Access) -> Verdict {
    guest.run(0);
    // mov [ebx], eax; nop
    guest.write(0x1000, &[0x89, 0x03, 0x90]);
    let script = guest.script(0);
    script.then(move |cpu| {
        cpu.set(oxen_virt::Reg::Rip, 0x1000);
        cpu.gprs_mut().rbx = at;
        Exit::NestedFault(NestedFault {
            gpa: Gaddr::new(at),
            write: access == Access::Write,
            fetch: access == Access::Fetch,
            present: true,
            table_walk: false,
        })
    });
    script.take();
    guest.run(0);
    let acts = script.take();
    if acts.contains(&Act::Inject(Event::GP)) {
        Verdict::Fault
    } else if acts.iter().any(|act| matches!(act, Act::Advance(_))) {
        Verdict::Emulated
    } else {
        Verdict::Again
    }
}

fn page(lab: &Lab) -> PageRef {
    lab.vmm.machine.frames.alloc(DomainId(1)).expect("a frame")
}

fn map(lab: &Lab, guest: &Guest, gfn: u64, kind: MapKind) {
    let memory = &guest.domain.memory;
    memory
        .map(Gfn::new(gfn), page(lab), kind)
        .expect("it is mapped");
}

#[test]
fn only_a_stale_translation_faults_on_ram() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    for access in ALL {
        guest.run(0);
        assert_eq!(fault(&guest, 0x2000, access), Verdict::Again, "{access:?}");
    }
}

#[test]
fn a_stale_translation_is_flushed() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.run(0);
    let script = guest.script(0);
    script.take();
    script.exits(Exit::NestedFault(NestedFault {
        gpa: Gaddr::new(0x2000),
        write: true,
        fetch: false,
        present: true,
        table_walk: false,
    }));
    guest.run(0);
    assert!(script.take().contains(&Act::FlushTlb));
}

#[test]
fn each_kind_of_page_allows_what_it_allows() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let ro = MapKind::Grant { writable: false };
    let kinds = [
        (
            MapKind::Xen,
            [Verdict::Again, Verdict::Again, Verdict::Fault],
        ),
        (
            MapKind::Foreign,
            [Verdict::Again, Verdict::Again, Verdict::Fault],
        ),
        (
            MapKind::Grant { writable: true },
            [Verdict::Again, Verdict::Again, Verdict::Fault],
        ),
        (ro, [Verdict::Again, Verdict::Fault, Verdict::Fault]),
    ];
    for (n, (kind, verdicts)) in kinds.into_iter().enumerate() {
        let gfn = RAM + n as u64;
        map(&lab, &guest, gfn, kind);
        for (access, verdict) in ALL.into_iter().zip(verdicts) {
            let found = fault(&guest, gfn << 12, access);
            assert_eq!(found, verdict, "{kind:?} {access:?}");
        }
    }
}

#[test]
fn a_write_that_log_dirty_mode_waits_for_is_noted_and_repeated() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let memory = &guest.domain.memory;
    assert_eq!(memory.log_writes(true, Gfn::new(0)), None);
    let mut bits = [0; 2];
    memory.written(Gfn::new(0), RAM, &mut bits, true);
    assert_eq!(fault(&guest, 0x5000, Access::Write), Verdict::Again);
    assert_eq!(memory.log_faults(false), 1);
    memory.written(Gfn::new(0), RAM, &mut bits, false);
    // The guest's code, which the test wrote, and the page.
    assert_eq!(bits, [1 << 1 | 1 << 5, 0]);
    // Another vcpu was quicker: nothing but the translation is out of date.
    assert_eq!(fault(&guest, 0x5000, Access::Write), Verdict::Again);
    assert_eq!(memory.log_faults(false), 1);
}

#[test]
fn a_hole_is_an_empty_bus() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    assert_eq!(fault(&guest, 0xe000_0000, Access::Write), Verdict::Emulated);
}

#[test]
fn a_local_apic_s_page_is_emulated() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    assert_eq!(fault(&guest, 0xfee0_0080, Access::Write), Verdict::Emulated);
}

#[test]
fn an_address_beyond_the_width_is_an_empty_bus() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    assert_eq!(fault(&guest, 1 << 41, Access::Read), Verdict::Again);
}
