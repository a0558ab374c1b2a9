//! The 2-level ABI: a bit per port in shared_info, and a bit per word of them in vcpu_info.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_pv_abi::SharedInfo;
use oxen_types::Port;

use crate::domain::Domain;
use crate::vcpu::{Vcpu, info};

/// Ports that the bitmaps have room for.
pub(super) const PORTS: u32 = 4096;

/// Offsets of the bitmaps in `struct shared_info`.
const PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
const MASK: usize = offset_of!(SharedInfo, evtchn_mask);

/// Events per bit of the selector.
const PORTS_PER_SELECTOR: u32 = 64;

fn is_set(domain: &Domain, bitmap: usize, port: Port) -> bool {
    let word = domain
        .shared_info()
        .word(bitmap + (port.0 / 32 * 4) as usize);
    port.0 < PORTS && word.load(Ordering::SeqCst) & bit(port) != 0
}

/// Sets a bit. Returns whether it was set before.
fn set(domain: &Domain, bitmap: usize, port: Port) -> bool {
    let offset = bitmap + (port.0 / 32 * 4) as usize;
    let set = |word: &AtomicU32| word.fetch_or(bit(port), Ordering::SeqCst) & bit(port) != 0;
    port.0 >= PORTS || domain.shared_info().update(offset, set)
}

fn clear(domain: &Domain, bitmap: usize, port: Port) -> bool {
    let offset = bitmap + (port.0 / 32 * 4) as usize;
    let clear = |word: &AtomicU32| word.fetch_and(!bit(port), Ordering::SeqCst) & bit(port) != 0;
    port.0 < PORTS && domain.shared_info().update(offset, clear)
}

fn bit(port: Port) -> u32 {
    1 << (port.0 % 32)
}

pub(super) fn is_pending(domain: &Domain, port: Port) -> bool {
    is_set(domain, PENDING, port)
}

pub(super) fn is_masked(domain: &Domain, port: Port) -> bool {
    is_set(domain, MASK, port)
}

pub(super) fn clear_pending(domain: &Domain, port: Port) {
    clear(domain, PENDING, port);
}

/// Returns whether the vcpu's upcall must be raised.
pub(super) fn set_pending(domain: &Domain, vcpu: &Vcpu, port: Port) -> bool {
    !set(domain, PENDING, port) && !is_masked(domain, port) && select(vcpu, port)
}

pub(super) fn unmask(domain: &Domain, vcpu: &Vcpu, port: Port) -> bool {
    clear(domain, MASK, port) && is_pending(domain, port) && select(vcpu, port)
}

/// Sets the port's selector bit. Returns whether it was clear before.
fn select(vcpu: &Vcpu, port: Port) -> bool {
    let index = port.0 / PORTS_PER_SELECTOR;
    let bit = 1 << (index % 32);
    let before = vcpu.with_info(|i| {
        let offset = i.offset + info::PENDING_SEL + (index / 32 * 4) as usize;
        i.page
            .update(offset, |word| word.fetch_or(bit, Ordering::SeqCst))
    });
    before.is_some_and(|before| before & bit == 0)
}

pub(super) fn mark_all(vcpu: &Vcpu) {
    vcpu.with_info(|i| {
        for offset in [info::PENDING_SEL, info::PENDING_SEL + 4] {
            i.page.update(i.offset + offset, |word| {
                word.store(u32::MAX, Ordering::SeqCst);
            });
        }
    });
    vcpu.raise_upcall();
}
