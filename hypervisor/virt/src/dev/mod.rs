//! The emulated devices of a PVH domain: a local APIC per vcpu, and for the hardware domain
//! IO-APICs and PCI configuration space.
//!
//! Everything here is a state machine over values. Interrupts travel as [`message::Message`]s; the
//! machine itself (timers, other vcpus, host interrupt routing, configuration space) is reached
//! through small traits that the kernel implements, so all of it is tested on the host.
//!
//! Values that a guest chose are never trusted: no panic, no unchecked arithmetic, no unbounded
//! walk.
#![forbid(unsafe_code)]

pub mod ioapic;
pub mod lapic;
pub mod message;
pub mod pci;
pub mod ports;
