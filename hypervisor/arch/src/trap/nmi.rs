//! NMIs. While another CPU panics, an NMI stops this one. One that `ipi::nmi` sent makes the CPU
//! leave its guest, which it has done when the handler runs. Any other is the machine's, or an
//! operator's who wants to know what a CPU does: it is reported, and the CPU goes on.

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
