//! Which of the machine's ports dom0 may use, and those that we watch.

use alloc::vec::Vec;

use oxen_arch::{acpi, console};
use oxen_virt::DomainControls;
use oxen_virt::dev::pci::{PORT_ADDRESS, PORT_DATA_LAST};
use spin::Once;

/// The interrupt controllers and the timer of the PC are ours; nobody emulates them.
const LEGACY: [(u16, u16); 4] = [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61)];

/// PM1 control: SLP_EN, and the sleep type (ACPI 6.5, 4.8.3.2.1).
const SLP_EN: u32 = 1 << 13;
const SLP_TYP_SHIFT: u32 = 10;

static DENIED: Once<Vec<(u16, u16)>> = Once::new();

fn denied() -> &'static [(u16, u16)] {
    DENIED.call_once(|| {
        let mut ranges = Vec::from(LEGACY);
        if let Some((first, count)) = console::serial_ports() {
            ranges.push((first, first.saturating_add(count.saturating_sub(1))));
        }
        ranges
    })
}

pub fn is_denied(port: u16) -> bool {
    denied()
        .iter()
        .any(|&(first, last)| (first..=last).contains(&port))
}

/// Lets dom0 at all ports but those that are denied or watched.
pub fn allow_dom0(controls: &DomainControls) {
    controls.set_ports_direct(0, u16::MAX, true);
    for &(first, last) in denied() {
        controls.set_ports_direct(first, last, false);
    }
    controls.set_ports_direct(PORT_ADDRESS, PORT_DATA_LAST, false);
    for control in pm1_controls() {
        controls.set_ports_direct(control, control.saturating_add(1), false);
    }
}

fn pm1_controls() -> impl Iterator<Item = u16> {
    let fadt = acpi::platform().fadt.as_ref();
    fadt.into_iter()
        .flat_map(|fadt| [fadt.pm1a_control, fadt.pm1b_control])
        .flatten()
}

/// Does this write of a PM1 control register turn the machine off?
pub fn is_sleep_request(port: u16, value: u32) -> bool {
    let s5 = acpi::platform().fadt.as_ref().and_then(|fadt| fadt.s5);
    let is_s5 = s5.is_none_or(|(a, b)| {
        let sleep = (value >> SLP_TYP_SHIFT & 7) as u8;
        sleep == a || sleep == b
    });
    value & SLP_EN != 0 && is_s5 && pm1_controls().any(|control| control == port)
}
