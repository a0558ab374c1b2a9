//! The tests' allocator: it watches what core allocates, and can fail.
//!
//! While a thread is in core ([`in_core`]), each allocation has to come through `fallible`. What
//! does not, or is larger than a page without saying so, is counted, and the test fails: on the
//! machine it could end the hypervisor. What comes through `fallible` fails at random if the test
//! wants that. The fakes of the test machine say that what they allocate is none of core's
//! ([`quiet`]).
#![expect(unsafe_code, reason = "a global allocator that counts and refuses")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr;
use std::alloc::System;

use oxen_types::{Errno, PAGE_SIZE, Result};

#[derive(Clone, Copy)]
struct State {
    in_core: bool,
    quiet: u32,
    may_fail: u32,
    granted: u32,
    large: bool,
    /// Of 256 attempts, how many fail; and what decides.
    chance: u8,
    random: u64,
    refused: u64,
    /// Attempts before the one that fails.
    countdown: Option<u32>,
    /// Allocations that could have ended the hypervisor, and the size of the last.
    unchecked: u64,
    size: usize,
}

std::thread_local! {
    static STATE: Cell<State> = const {
        Cell::new(State {
            in_core: false,
            quiet: 0,
            may_fail: 0,
            granted: 0,
            large: false,
            chance: 0,
            random: 0,
            refused: 0,
            countdown: None,
            unchecked: 0,
            size: 0,
        })
    };
}

fn change<R>(change: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.get();
    let result = change(&mut state);
    STATE.set(state);
    result
}

/// Undoes what it was made for.
pub struct Guard(fn(&mut State));

impl Drop for Guard {
    fn drop(&mut self) {
        change(self.0);
    }
}

/// A lock of the test machine's: what is allocated while it is held is none of core's.
pub struct Locked<'a, T>(
    std::sync::MutexGuard<'a, T>,
    #[expect(dead_code, reason = "held for its drop")] Guard,
);

pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> Locked<'_, T> {
    let quiet = quiet();
    // A test that failed elsewhere is told there.
    Locked(mutex.lock().unwrap_or_else(|e| e.into_inner()), quiet)
}

impl<T> core::ops::Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> core::ops::DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Allocations are the test machine's, not core's, while the guard lives.
pub fn quiet() -> Guard {
    change(|state| state.quiet += 1);
    Guard(|state| state.quiet -= 1)
}

/// Allocations may fail while the guard lives.
pub fn may_fail() -> Guard {
    change(|state| state.may_fail += 1);
    Guard(|state| state.may_fail -= 1)
}

/// Allocations do not fail while the guard lives. Fails itself if chance says so.
pub fn granted() -> Result<Guard> {
    change(|state| {
        if state.in_core && state.fails() {
            return Err(Errno::NoMem);
        }
        state.granted += 1;
        Ok(())
    })?;
    Ok(Guard(|state| state.granted -= 1))
}

/// From here on so many of 256 attempts fail, as the seed says. 0 switches it off.
pub fn fail(chance: u8, seed: u64) {
    change(|state| (state.chance, state.random, state.countdown) = (chance, seed | 1, None));
}

/// So many attempts succeed from here on, and one fails after them.
pub fn fail_after(attempts: u32) {
    change(|state| state.countdown = Some(attempts));
}

/// For a random test: in half of its cases one attempt of eight fails.
pub fn fail_sometimes(seed: u64) {
    fail(if seed.is_multiple_of(2) { 0 } else { 31 }, seed);
}

/// Attempts that failed on this thread since the last call.
pub fn take_refused() -> u64 {
    change(|state| core::mem::take(&mut state.refused))
}

/// Runs code that may allocate more than a page in one piece, as it can do without.
pub fn large<R>(run: impl FnOnce() -> R) -> R {
    change(|state| state.large = true);
    let result = run();
    change(|state| state.large = false);
    result
}

/// Runs code of core, which has to ask for all of its memory.
pub fn in_core<R>(run: impl FnOnce() -> R) -> R {
    let outer = change(|state| core::mem::replace(&mut state.in_core, true));
    let result = run();
    let (count, size) = change(|state| {
        state.in_core = outer;
        (core::mem::take(&mut state.unchecked), state.size)
    });
    assert!(
        count == 0,
        "core allocated {size} bytes in a way that may end the hypervisor, or {count} such"
    );
    result
}

impl State {
    fn fails(&mut self) -> bool {
        if let Some(left) = self.countdown {
            self.countdown = left.checked_sub(1);
            self.refused += u64::from(left == 0);
            return left == 0;
        }
        if self.chance == 0 {
            return false;
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let fails = (self.random >> 24) as u8 <= self.chance;
        self.refused += u64::from(fails);
        fails
    }

    /// Whether the allocation is refused.
    fn judge(&mut self, size: usize) -> bool {
        if !self.in_core || self.quiet > 0 {
            return false;
        }
        let asked = self.may_fail > 0 || self.granted > 0;
        if !asked || (size > PAGE_SIZE && !self.large) {
            self.unchecked += 1;
            self.size = size;
        }
        self.may_fail > 0 && self.fails()
    }
}

fn refused(size: usize) -> bool {
    STATE
        .try_with(|cell| {
            let mut state = cell.get();
            let refused = state.judge(size);
            cell.set(state);
            refused
        })
        .unwrap_or(false)
}

struct Watched;

#[global_allocator]
static HEAP: Watched = Watched;

// SAFETY: passes on to the system's allocator, or returns null.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refused(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: all memory is the system's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refused(size) {
            return ptr::null_mut();
        }
        // SAFETY: all memory is the system's.
        unsafe { System.realloc(at, layout, size) }
    }
}
