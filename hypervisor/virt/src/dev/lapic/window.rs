//! The condition that an interrupt waits for.

/// The condition under which a waiting interrupt can be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// No interrupt waits.
    Unwanted,
    /// RFLAGS.IF is clear, or an interrupt shadow holds the interrupt back.
    Interrupts,
    /// The task priority holds the interrupt back, and perhaps RFLAGS.IF or a shadow too. CR8 has
    /// to fall below this priority class, which is the upper four bits of the vector.
    Priority(u8),
}
