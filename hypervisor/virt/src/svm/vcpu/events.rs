//! Delivery of exceptions and interrupts on AMD-V: EVENTINJ, virtual interrupts and the blocking of
//! NMIs (APM volume 2, 15.20 and 15.21).

use super::super::event::{decode_event, encode_event, interrupted_event};
use super::super::intercept::g1;
use super::super::vmcb::{self, Clean, int_ctl};
use super::{INTERRUPT_SHADOW, SvmVcpu};
use crate::backend::{Event, VcpuEvents, Window};
use crate::x86::RFLAGS_IF;

impl SvmVcpu {
    /// Notes, at the exit of a virtual interrupt, whether this CPU took the interrupt although
    /// V_TPR is not below its priority. Such a CPU would take the next one too, at once and for
    /// ever, so windows then ask for a priority that is one less. (APM volume 2, 15.21.4, says
    /// "above"; QEMU 7.2 takes "not below".)
    pub(super) fn note_priority(&mut self) {
        let int_ctl = self.vmcb.control.int_ctl;
        let priority = (int_ctl & int_ctl::PRIO_MAX) >> int_ctl::PRIO_SHIFT;
        self.takes_equal_priority |= int_ctl & int_ctl::IGNORE_TPR == 0
            && int_ctl & int_ctl::PRIO_MAX != 0
            && priority == int_ctl & int_ctl::TPR_MASK;
    }

    /// Delivers an event again, at the next entry, whose delivery the exit interrupted. Not a
    /// software interrupt: RIP still points to the instruction, which runs again.
    pub(super) fn requeue_interrupted_event(&mut self) {
        let c = &mut self.vmcb.control;
        c.event_inj = interrupted_event(c.exit_int_info, self.quirks).unwrap_or(0);
    }
}

impl VcpuEvents for SvmVcpu {
    fn inject(&mut self, event: Event) {
        self.vmcb.control.event_inj = encode_event(event);
        if event == Event::Nmi {
            self.nmi_blocked = true;
            self.intercept(g1::IRET, true);
        }
    }

    fn pending_event(&self) -> Option<Event> {
        decode_event(self.vmcb.control.event_inj)
    }

    fn event_pending(&self) -> bool {
        self.vmcb.control.event_inj & vmcb::event::VALID != 0
    }

    fn can_take_interrupt(&self) -> bool {
        self.vmcb.save.rflags & RFLAGS_IF != 0
            && self.vmcb.control.int_state & INTERRUPT_SHADOW == 0
            && !self.event_pending()
    }

    fn can_take_nmi(&self) -> bool {
        !self.nmi_blocked
            && self.vmcb.control.int_state & INTERRUPT_SHADOW == 0
            && !self.event_pending()
    }

    fn request_interrupt_window(&mut self, window: Window) {
        // A virtual interrupt whose taking is intercepted, and which so is never delivered: the
        // exit shows that the guest can take one. The CPU compares its priority with V_TPR, which
        // the guest changes through CR8 without an exit (APM volume 2, 15.21.4).
        const FIELDS: u64 = int_ctl::V_IRQ | int_ctl::PRIO_MAX | int_ctl::IGNORE_TPR;
        let window = match window {
            Window::Priority(_) if self.quirks.cr8_aborts => Window::Unwanted,
            window => window,
        };
        let wanted = match window {
            Window::Unwanted => 0,
            Window::Interrupts => FIELDS,
            Window::Priority(class) => {
                let class = u64::from(class & 0xf);
                let equal = u64::from(self.takes_equal_priority);
                int_ctl::V_IRQ | class.saturating_sub(equal) << int_ctl::PRIO_SHIFT
            }
        };
        let c = &mut self.vmcb.control;
        let new = c.int_ctl & !FIELDS | wanted;
        if new != c.int_ctl {
            c.int_ctl = new;
            self.clean.remove(Clean::TPR);
        }
        self.intercept(g1::VINTR, window != Window::Unwanted);
    }
}
