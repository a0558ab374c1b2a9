//! The numbers of interrupt vectors. One space for all CPUs: a device's vector is the same on each.

use core::sync::atomic::{AtomicU64, Ordering};

/// Vectors for devices (IO-APIC pins, MSI). 0x20..0x30 stays free: a stray 8259 would land there.
pub const FIRST_DEVICE: u8 = 0x30;
/// The last vector for devices.
pub const LAST_DEVICE: u8 = 0xdf;

/// This CPU's timer.
pub const TIMER: u8 = 0xf0;
/// Makes a CPU look at its work list. The exit or the wake-up is all that the vector does.
pub const KICK: u8 = 0xf1;
/// Makes a CPU run the function of `ipi::call`.
pub const CALL: u8 = 0xf2;
/// Notifies a CPU of interrupts posted for the guest that it runs. In the guest the CPU takes them
/// without an exit; elsewhere the vector does nothing.
pub const POSTED: u8 = 0xf4;
/// The console's UART.
pub const UART: u8 = 0xf3;
/// An error of the local APIC.
pub const APIC_ERROR: u8 = 0xfe;
/// The local APIC's spurious vector.
pub const SPURIOUS: u8 = 0xff;

static TAKEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// A free device vector, on all CPUs.
pub fn alloc() -> Option<u8> {
    (FIRST_DEVICE..=LAST_DEVICE).find(|vector| {
        let (word, bit) = place(*vector);
        TAKEN[word].fetch_or(bit, Ordering::AcqRel) & bit == 0
    })
}

/// Gives a vector back. Its device must be silenced before.
pub fn free(vector: u8) {
    let (word, bit) = place(vector);
    TAKEN[word].fetch_and(!bit, Ordering::AcqRel);
}

/// Whether a vector is one for devices.
pub fn is_device(vector: u8) -> bool {
    (FIRST_DEVICE..=LAST_DEVICE).contains(&vector)
}

fn place(vector: u8) -> (usize, u64) {
    (usize::from(vector / 64), 1 << (vector % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_each_vector_once() {
        let mut got: Vec<u8> = std::iter::from_fn(alloc).collect();
        assert_eq!(got.len(), usize::from(LAST_DEVICE - FIRST_DEVICE) + 1);
        got.dedup();
        assert!(got.iter().all(|vector| is_device(*vector)));
        free(0x42);
        assert_eq!(alloc(), Some(0x42));
        assert_eq!(alloc(), None);
        got.into_iter().for_each(free);
    }
}
