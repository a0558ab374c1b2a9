//! Limits on the memory and the processes of this domain that reading guests' disks takes.

use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The number of disks that are read at once, so that a slow one delays few others.
const AT_ONCE: u32 = 4;
/// How often a thread that waits here checks whether its guest is still wanted.
const LOOK: Duration = Duration::from_millis(200);
/// Memory of this domain that images never take.
const SPARED: u64 = 64 << 20;

static GATE: Mutex<Gate> = Mutex::new(Gate {
    inside: 0,
    reserved: 0,
});
static LEFT: Condvar = Condvar::new();

struct Gate {
    inside: u32,
    /// Bytes that are being read, whether they are in memory yet or not.
    reserved: u64,
}

fn lock() -> MutexGuard<'static, Gate> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among the few that may read a disk.
pub(super) struct Inside(());

/// Waits for a place. Each holder's time is limited. `None` if the guest is no longer wanted.
pub(super) fn enter(wanted: &dyn Fn() -> bool) -> Option<Inside> {
    let mut gate = lock();
    while gate.inside >= AT_ONCE {
        let waited = LEFT.wait_timeout(gate, LOOK);
        (gate, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !wanted() {
            return None;
        }
    }
    gate.inside += 1;
    Some(Inside(()))
}

impl Drop for Inside {
    fn drop(&mut self) {
        lock().inside -= 1;
        LEFT.notify_one();
    }
}

/// Memory set aside until the bytes have been read.
pub(super) struct Reserved(u64);

/// Sets memory aside for images.
///
/// # Errors
/// A `String` with the numbers if too little of this domain's memory would be left.
pub(super) fn reserve(bytes: u64) -> Result<Reserved, String> {
    reserve_of(bytes, available())
}

fn reserve_of(bytes: u64, available: Option<u64>) -> Result<Reserved, String> {
    let mut gate = lock();
    let wanted = gate.reserved.saturating_add(bytes);
    if let Some(available) = available
        && wanted.saturating_add(SPARED) > available
    {
        return Err(format!(
            "kernel and ramdisk have {} MiB, and of this domain's {} MiB of available memory {} are spared",
            wanted.div_ceil(1 << 20),
            available >> 20,
            SPARED >> 20
        ));
    }
    gate.reserved = wanted;
    Ok(Reserved(bytes))
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut gate = lock();
        gate.reserved = gate.reserved.saturating_sub(self.0);
    }
}

/// Bytes of memory that this domain could still use; None if its kernel does not say.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_never_take_the_last_of_the_memory() {
        const MIB: u64 = 1 << 20;
        let all = Some(300 * MIB);
        let first = reserve_of(200 * MIB, all).expect("it fits");
        // Bytes that are being read may not be in memory yet.
        assert!(reserve_of(100 * MIB, all).is_err());
        drop(first);
        assert!(reserve_of(100 * MIB, all).is_ok());
        assert!(reserve_of(237 * MIB, all).is_err());
        assert!(available().is_some_and(|bytes| bytes > MIB));
    }
}
