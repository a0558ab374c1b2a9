//! The electrical side of an interrupt line, as IO-APICs and ACPI describe it.

/// The condition on the line that requests an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// A change from inactive to active.
    Edge,
    /// The line is active; it requests again after each EOI until it is inactive.
    Level,
}

/// The active state of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// Active while the voltage is high.
    High,
    /// Active while the voltage is low.
    Low,
}
