//! Machines run side by side; what is measured by the clock runs alone.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static HOST: RwLock<()> = RwLock::new(());

/// The right to run a machine, until it is dropped.
pub enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Beside others.
pub fn beside_others() -> Turn {
    // A test that failed in its turn has left nothing behind that matters to the next.
    Turn::Shared(HOST.read().unwrap_or_else(PoisonError::into_inner))
}

/// With the host's processors for itself.
pub fn alone() -> Turn {
    Turn::Alone(HOST.write().unwrap_or_else(PoisonError::into_inner))
}
