//! Exceptions and interrupts that a virtual CPU takes at its next entry.

use super::emulation::VcpuEmulation;
pub use crate::dev::lapic::Window;

/// An exception or interrupt that is delivered through the guest's IDT at the next entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A maskable interrupt with this vector.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception, with its error code if the vector has one. CR2 is set separately.
    #[expect(missing_docs, reason = "the fields are named as the manuals name them")]
    Exception { vector: u8, code: Option<u32> },
}

impl Event {
    /// Invalid opcode.
    pub const UD: Self = Self::Exception {
        vector: 6,
        code: None,
    };
    /// General protection, error code 0.
    pub const GP: Self = Self::Exception {
        vector: 13,
        code: Some(0),
    };
    /// Machine check.
    pub const MC: Self = Self::Exception {
        vector: 18,
        code: None,
    };
    /// Debug exception.
    pub const DB: Self = Self::Exception {
        vector: 1,
        code: None,
    };
    /// Alignment check, error code 0.
    pub const AC: Self = Self::Exception {
        vector: 17,
        code: Some(0),
    };

    /// A page fault with this error code. The caller sets CR2.
    pub const fn page_fault(code: u32) -> Self {
        Self::Exception {
            vector: 14,
            code: Some(code),
        }
    }
}

/// Delivery of exceptions and interrupts.
pub trait VcpuEvents: VcpuEmulation {
    /// Delivers `event` at the next entry, in place of an event that is still pending.
    fn inject(&mut self, event: Event);
    /// The event that the next entry delivers.
    fn pending_event(&self) -> Option<Event>;
    /// Whether the next entry delivers an event.
    fn event_pending(&self) -> bool;
    /// Whether the guest takes a maskable interrupt at its next entry: RFLAGS.IF is set, no
    /// interrupt shadow is in force and no event is pending.
    fn can_take_interrupt(&self) -> bool;
    /// Whether the guest takes an NMI at its next entry.
    fn can_take_nmi(&self) -> bool;
    /// Requests [`Exit::InterruptWindow`](super::Exit::InterruptWindow) for the moment when the
    /// guest can take the interrupt that waits, or withdraws the request.
    fn request_interrupt_window(&mut self, window: Window);
}
