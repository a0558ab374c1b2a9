//! NMIs: the order to stop while another CPU panics, or an event that someone claims (watchdog,
//! debug key), or unknown: then it is reported and the CPU goes on.

use super::{TrapFrame, panic};
use crate::cpu::regs;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::{mem, ptr};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NmiVerdict {
    Handled,
    /// Print registers and backtrace of this CPU, and go on.
    Dump,
    NotMine,
}

static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Runs on the NMI stack at any instruction: no locks, no allocation.
pub fn set_nmi_handler(handler: fn(&TrapFrame) -> NmiVerdict) {
    HANDLER.store(handler as *mut (), Ordering::Release);
}

pub(super) fn handle(frame: &TrapFrame) {
    if panic::is_panicking() {
        regs::halt_forever();
    }
    let handler = HANDLER.load(Ordering::Acquire);
    let verdict = if handler.is_null() {
        NmiVerdict::NotMine
    } else {
        #[allow(unsafe_code)] // a function pointer through an atomic
        // SAFETY: only `set_nmi_handler` stores here, and it stores such a function.
        let handler = unsafe { mem::transmute::<*mut (), fn(&TrapFrame) -> NmiVerdict>(handler) };
        handler(frame)
    };
    match verdict {
        NmiVerdict::Handled => {}
        NmiVerdict::Dump => panic::dump(frame),
        NmiVerdict::NotMine => {
            log::error!("unknown NMI on CPU{}", crate::cpu::cpu_id());
            panic::dump(frame);
        }
    }
}
