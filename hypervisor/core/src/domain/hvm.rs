//! The state of an HVM-style guest that its toolstack and its kernel set: parameters, memory map
//! and the callback.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use guest_pv_abi::E820Entry;
use oxen_types::Result;
use spin::Mutex;

use super::Domain;
use crate::params::HvmParams;

pub(super) struct HvmState {
    settings: Mutex<Settings>,
    /// HVM_PARAM_CALLBACK_IRQ as a vector for all vcpus, injected past the local APIC; 0 if none.
    /// Read before each entry to the guest, so it stands outside the lock.
    callback_vector: AtomicU8,
}

#[derive(Default)]
struct Settings {
    params: HvmParams,
    memory_map: Vec<E820Entry>,
}

impl HvmState {
    pub(super) fn new() -> Self {
        Self {
            settings: Mutex::default(),
            callback_vector: AtomicU8::new(0),
        }
    }
}

impl Domain {
    /// An HVM parameter.
    ///
    /// # Errors
    /// `Inval` if there is no such parameter.
    pub fn hvm_param(&self, index: u32) -> Result<u64> {
        self.hvm.settings.lock().params.get(index)
    }

    /// Sets an HVM parameter.
    ///
    /// # Errors
    /// `Inval` if there is no such parameter.
    pub fn set_hvm_param(&self, index: u32, value: u64) -> Result<()> {
        self.hvm.settings.lock().params.set(index, value)
    }

    /// Runs `visit` on the memory map that XENMEM_memory_map shows to an unprivileged guest.
    pub fn with_memory_map<R>(&self, visit: impl FnOnce(&[E820Entry]) -> R) -> R {
        visit(&self.hvm.settings.lock().memory_map)
    }

    /// Sets the memory map (XENMEM_set_memory_map).
    pub fn set_memory_map(&self, map: Vec<E820Entry>) {
        // The old map is dropped after the lock.
        let _old = core::mem::replace(&mut self.hvm.settings.lock().memory_map, map);
    }

    /// The vector of event upcalls that are injected past the local APIC; 0 if none.
    pub fn callback_vector(&self) -> u8 {
        self.hvm.callback_vector.load(Ordering::Relaxed)
    }

    /// Takes a new value of HVM_PARAM_CALLBACK_IRQ: the type is in the top byte, 2 being a vector.
    pub fn set_callback(&self, value: u64) {
        let vector = if value >> 56 == 2 { value as u8 } else { 0 };
        self.hvm.callback_vector.store(vector, Ordering::SeqCst);
        self.each_vcpu(|vcpu| vcpu.recheck_upcall());
    }
}
