//! The way of a device's interrupt: from a host vector to dom0's IO-APIC, or straight to its local
//! APICs.
//!
//! The table is a leaf lock: it is let go before anything is delivered.

use alloc::boxed::Box;

use oxen_virt::dev::lapic::deliver;
use oxen_virt::dev::message::Message;
use spin::Mutex;

use crate::Vmm;
use crate::domain::ApicBus;
use crate::host::Host;

/// Where a host vector leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// A line of dom0's IO-APICs.
    Gsi(u32),
    /// A message to dom0's local APICs.
    Msi(Message),
}

const VECTORS: usize = 256;

/// The route of each host vector.
pub(crate) struct IrqRoutes(Mutex<Box<[Option<Route>]>>);

impl IrqRoutes {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(alloc::vec![None; VECTORS].into_boxed_slice()))
    }

    pub(crate) fn get(&self, vector: u8) -> Option<Route> {
        *self.0.lock().get(usize::from(vector))?
    }

    pub(crate) fn set(&self, vector: u8, route: Option<Route>) {
        if let Some(slot) = self.0.lock().get_mut(usize::from(vector)) {
            *slot = route;
        }
    }

    /// The vector of a GSI: the one that it has, or else a new one from `alloc`.
    pub(crate) fn gsi(&self, gsi: u32, alloc: impl FnOnce() -> Option<u8>) -> Option<u8> {
        let mut routes = self.0.lock();
        let route = Some(Route::Gsi(gsi));
        let old = routes.iter().position(|other| *other == route);
        let vector = old.map(|vector| vector as u8).or_else(alloc)?;
        *routes.get_mut(usize::from(vector))? = route;
        Some(vector)
    }
}

impl<H: Host> Vmm<H> {
    /// A device's interrupt has arrived at a host vector. Called with no lock held.
    pub fn interrupt(&self, vector: u8) {
        let route = self.irqs.get(vector);
        let Some((domain, hvm)) = self.dom0() else {
            return;
        };
        match route {
            Some(Route::Gsi(gsi)) => {
                if let Some(devices) = &hvm.devices {
                    devices.with(hvm, domain, |buses, side| buses.ioapics.arrive(gsi, side));
                }
            }
            Some(Route::Msi(message)) => {
                deliver(&ApicBus { hvm, domain }, &message);
            }
            None => log::debug!("interrupt {vector:#x} has no route"),
        }
    }
}
