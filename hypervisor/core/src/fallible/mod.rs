//! Growth of the hypervisor's tables on behalf of domains: refused when there is no memory, never a
//! panic.
//!
//! The standard library's collections end the machine when the heap has nothing for them. So
//! whatever grows on behalf of a domain grows through here, and a failure is the caller's -ENOMEM.
//! Nothing is wanted in one piece that is larger than a page, but for what is said at its place: a
//! guest can leave no two free frames side by side, and single frames are there until memory is
//! really gone ([`Paged`] is the table for that).
//!
//! What a domain's own calls let grow is charged to it before ([`Account`]). The last frames of the
//! machine are for nobody's growth: [`Account::charge`] and [`with_reserve`] refuse while
//! [`FrameSource::has_room`] says no. That makes room for the few objects that cannot be allocated
//! otherwise than by a call that does not fail: an `Arc`, a `Box<dyn Trait>`.

mod paged;

use alloc::collections::TryReserveError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use oxen_types::{Errno, PAGE_SIZE, Result};

use crate::seams::{Claimant, FrameSource};

pub use paged::Paged;

/// The bytes of the heap that a domain's tables take, and may take.
pub struct Account {
    source: Option<(&'static dyn FrameSource, Claimant)>,
    used: AtomicUsize,
    most: usize,
}

impl Account {
    /// An account that is charged for `who`, with a quota of bytes.
    pub fn new(source: &'static dyn FrameSource, who: Claimant, most: usize) -> Self {
        Self {
            source: Some((source, who)),
            used: AtomicUsize::new(0),
            most,
        }
    }

    /// For tables of the machine as a whole, whose growth has been agreed to at another place.
    pub const fn machine() -> Self {
        Self {
            source: None,
            used: AtomicUsize::new(0),
            most: usize::MAX,
        }
    }

    /// The bytes that are charged.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The quota, in bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Counts an object of so many bytes, before it is allocated.
    ///
    /// # Errors
    /// `NoMem` if free memory or the quota does not suffice.
    pub fn charge(&self, bytes: usize) -> Result<()> {
        let has_room = |(source, who): (&dyn FrameSource, _)| source.has_room(who);
        if !self.source.is_none_or(has_room) {
            return Err(Errno::NoMem);
        }
        let more = |used: usize| {
            let used = used.checked_add(cost(bytes))?;
            (used <= self.most).then_some(used)
        };
        let done = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        done.map(drop).map_err(|_| Errno::NoMem)
    }

    /// Counts an object of so many bytes no more: it is gone, or could not be allocated.
    pub fn refund(&self, bytes: usize) {
        let less = |used: usize| Some(used.saturating_sub(cost(bytes)));
        let _always = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// The bytes that the heap takes for an object: a power of two, or whole pages.
fn cost(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=2048 => bytes.next_power_of_two().max(16),
        _ => bytes.next_multiple_of(PAGE_SIZE),
    }
}

/// Text that grows as far as the heap has room; then formatting fails.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// The lines of the text.
    pub fn lines(&self) -> core::str::Lines<'_> {
        self.0.lines()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        attempt(|| self.0.try_reserve(part.len())).map_err(|_| fmt::Error)?;
        self.0.push_str(part);
        Ok(())
    }
}

/// Appends a value to a list.
///
/// # Errors
/// `NoMem` if the heap has no room.
pub fn push<T>(list: &mut Vec<T>, value: T) -> Result<()> {
    attempt(|| list.try_reserve(1))?;
    list.push(value);
    Ok(())
}

/// A list with room for exactly so many values.
///
/// # Errors
/// `NoMem` if the heap has no room.
pub fn list<T>(count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    attempt(|| list.try_reserve_exact(count))?;
    Ok(list)
}

/// A list of so many values.
///
/// # Errors
/// `NoMem` if the heap has no room.
pub fn filled<T>(count: usize, make: impl FnMut() -> T) -> Result<Vec<T>> {
    let mut all = list(count)?;
    all.extend(core::iter::repeat_with(make).take(count));
    Ok(all)
}

/// Makes a few objects of at most a page each, with allocations that do not fail.
///
/// That holds because memory is above the reserve when this begins, whatever domains cause is
/// refused below it, and each CPU takes only a few pages before it asks again.
pub fn with_reserve<T>(source: &dyn FrameSource, make: impl FnOnce() -> T) -> Result<T> {
    if !source.has_room(Claimant::Privileged) {
        return Err(Errno::NoMem);
    }
    #[cfg(test)]
    let _granted = crate::testing::heap::granted()?;
    Ok(make())
}

fn attempt(grow: impl FnOnce() -> Result<(), TryReserveError>) -> Result<()> {
    #[cfg(test)]
    let _may_fail = crate::testing::heap::may_fail();
    grow().map_err(|_| Errno::NoMem)
}
