//! Which of the machine's ports dom0 may use, and those that we watch.

use alloc::vec::Vec;

use oxen_arch::{acpi, console};
use oxen_virt::DomainControls;
use oxen_virt::dev::pci::{PORT_ADDRESS, PORT_DATA_LAST};
use oxen_virt::dev::ports::PortRules;
use spin::Once;

/// The interrupt controllers and the timer of the PC are ours; nobody emulates them.
const LEGACY: [(u16, u16); 4] = [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61)];

static RULES: Once<PortRules> = Once::new();

pub fn rules() -> &'static PortRules {
    RULES.call_once(|| {
        let mut denied = Vec::from(LEGACY);
        if let Some((first, count)) = console::serial_ports() {
            denied.push((first, first.saturating_add(count.saturating_sub(1))));
        }
        let fadt = acpi::platform().fadt.as_ref();
        let pm1 = fadt
            .into_iter()
            .flat_map(|fadt| [fadt.pm1a_control, fadt.pm1b_control])
            .flatten();
        PortRules {
            denied,
            pm1: pm1.collect(),
            s5: fadt.and_then(|fadt| fadt.s5),
        }
    })
}

/// Lets dom0 at all ports but those that are denied or watched.
pub fn allow_dom0(controls: &DomainControls) {
    controls.set_ports_direct(0, u16::MAX, true);
    for &(first, last) in &rules().denied {
        controls.set_ports_direct(first, last, false);
    }
    controls.set_ports_direct(PORT_ADDRESS, PORT_DATA_LAST, false);
    for &control in &rules().pm1 {
        controls.set_ports_direct(control, control.saturating_add(1), false);
    }
}
