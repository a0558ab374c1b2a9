//! NMIs: the order to stop while another CPU panics; the request to leave a guest, which is fulfilled when the
//! handler runs; else the machine's, or the operator's, who wants to know what a CPU does: it is reported, and
//! the CPU goes on.

use super::{TrapFrame, panic};
use crate::cpu::regs;
use crate::ipi;

/// Runs on the NMI stack at any instruction: takes no lock without a limit, and allocates nothing.
pub(super) fn handle(frame: &TrapFrame) {
    if panic::is_panicking() {
        regs::halt_forever();
    }
    if !ipi::take_nmi() {
        panic::dump(frame, "error: unknown NMI on");
    }
}
