//! Delivery of exceptions and interrupts on VT-x (SDM volume 3, 27.6 and 27.7).

use super::super::caps::proc;
use super::super::state;
use super::{INTERRUPT_SHADOW, VmxVcpu};
use crate::backend::{Event, VcpuEvents, Window};
use crate::x86::RFLAGS_IF;

impl VcpuEvents for VmxVcpu {
    fn inject(&mut self, event: Event) {
        self.pending = Some(event);
        if event == Event::Nmi {
            let window = u64::from(proc::NMI_WINDOW);
            self.state.change(state::PROC_CONTROLS, window, true);
        }
    }

    fn pending_event(&self) -> Option<Event> {
        self.pending
    }

    fn event_pending(&self) -> bool {
        self.pending.is_some()
    }

    fn can_take_interrupt(&self) -> bool {
        self.state.get(state::RFLAGS) & RFLAGS_IF != 0
            && self.state.get(state::INTERRUPTIBILITY) & INTERRUPT_SHADOW == 0
            && !self.event_pending()
    }

    fn can_take_nmi(&self) -> bool {
        !self.nmi_blocked
            && !self.pretends_real_mode()
            && self.state.get(state::INTERRUPTIBILITY) & INTERRUPT_SHADOW == 0
            && !self.event_pending()
    }

    fn request_interrupt_window(&mut self, window: Window) {
        // For `Window::Priority` nothing is requested: the TPR threshold of each entry equals the
        // task priority, so that the guest exits whenever it lowers the priority.
        let on = window == Window::Interrupts;
        let window = u64::from(proc::INTERRUPT_WINDOW);
        self.state.change(state::PROC_CONTROLS, window, on);
    }
}
