//! Locks that serve in the order of arrival.
//!
//! Guests decide how often their vcpus come for a lock, so a lock that is anybody's when it is free
//! lets them keep others waiting, with interrupts off. `spin::Mutex` is a ticket lock here (its
//! feature `use_ticket_mutex`); this is its counterpart for readers and writers.
//!
//! A writer holds a gate, which is a ticket lock, while the readers before it finish. Who finds the
//! gate held queues for it. So readers do not overtake a writer that waits, nor writers a reader. A
//! reader that finds the gate free does not take it: read locks are on every exit's way, and nobody
//! waits then.
//!
//! From that follows a rule: nobody takes a read lock again that he holds, nor waits with a read
//! lock for somebody who may want the same. With a writer between the two, both would wait for
//! ever. Tests on the host refuse the former; docs/lock-order.md, which counts read locks as locks,
//! rules out the latter.

use spin::{Mutex, RwLockWriteGuard};

/// A lock for readers and writers that serves in the order of arrival.
#[derive(Debug, Default)]
pub struct RwLock<T> {
    gate: Mutex<()>,
    inner: spin::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock around a value.
    pub const fn new(value: T) -> Self {
        Self {
            gate: Mutex::new(()),
            inner: spin::RwLock::new(value),
        }
    }

    /// Waits for a read lock.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = held::Held::new((&raw const *self).addr());
        let guard = match self.inner.try_read() {
            // A writer that comes now waits for this reader.
            Some(guard) if !self.gate.is_locked() => guard,
            overtaking => {
                drop(overtaking);
                self.read_in_turn()
            }
        };
        ReadGuard { guard, _held: held }
    }

    #[cold]
    fn read_in_turn(&self) -> spin::RwLockReadGuard<'_, T> {
        let _gate = self.gate.lock();
        self.inner.read()
    }

    /// Waits for the write lock.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let _gate = self.gate.lock();
        self.inner.write()
    }

    /// The value, which nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

/// A read lock, held while this lives.
#[derive(Debug)]
pub struct ReadGuard<'a, T> {
    guard: spin::RwLockReadGuard<'a, T>,
    _held: held::Held,
}

impl<T> core::ops::Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

/// Nothing on the machine.
#[cfg(target_os = "none")]
mod held {
    #[derive(Debug)]
    pub(super) struct Held;

    impl Held {
        #[inline]
        pub(super) fn new(_: usize) -> Self {
            Self
        }
    }
}

/// Which read locks a thread holds.
#[cfg(not(target_os = "none"))]
mod held {
    extern crate std;

    use std::cell::RefCell;
    use std::vec::Vec;

    std::thread_local! {
        static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    #[derive(Debug)]
    pub(super) struct Held(usize);

    impl Held {
        pub(super) fn new(at: usize) -> Self {
            HELD.with_borrow_mut(|held| {
                assert!(!held.contains(&at), "a read lock taken twice by one thread");
                held.push(at);
            });
            Self(at)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| held.retain(|at| *at != self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::RwLock;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    fn until(done: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while !done() {
            if start.elapsed() > Duration::from_secs(20) {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    #[test]
    fn readers_share_and_a_writer_does_not() {
        let lock = Arc::new(RwLock::new(1));
        let first = lock.read();
        let other = lock.clone();
        let second = thread::spawn(move || *other.read()).join().unwrap();
        assert_eq!((*first, second), (1, 1));
        drop(first);
        *lock.write() += 1;
        assert_eq!(*lock.read(), 2);
    }

    /// A reader that comes while a writer waits, waits behind it: readers that come all the time
    /// cannot keep a writer out.
    #[test]
    fn a_writer_that_waits_is_not_overtaken() {
        let lock = Arc::new(RwLock::new(0));
        let first = lock.read();
        let (begun, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let writer = {
            let (lock, begun, written) = (lock.clone(), begun.clone(), written.clone());
            thread::spawn(move || {
                begun.store(true, Ordering::SeqCst);
                *lock.write() = 1;
                written.store(true, Ordering::SeqCst);
            })
        };
        assert!(until(
            || begun.load(Ordering::SeqCst) && lock.gate.try_lock().is_none()
        ));
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || *lock.read())
        };
        thread::sleep(Duration::from_millis(50));
        assert!(!written.load(Ordering::SeqCst) && *first == 0);
        drop(first);
        assert_eq!(reader.join().unwrap(), 1, "it came after the writer");
        writer.join().unwrap();
    }

    /// Tickets: who comes next while others come and go all the time gets the lock after those
    /// before.
    #[test]
    fn a_mutex_serves_in_the_order_of_arrival() {
        let lock = Arc::new(spin::Mutex::new(std::vec::Vec::new()));
        let came = Arc::new(AtomicU32::new(0));
        let first = lock.lock();
        let threads: std::vec::Vec<_> = (0..4)
            .map(|n| {
                let (lock, turn) = (lock.clone(), came.clone());
                let thread = thread::spawn(move || {
                    turn.fetch_add(1, Ordering::SeqCst);
                    lock.lock().push(n);
                });
                assert!(until(|| came.load(Ordering::SeqCst) == n + 1));
                // The last instructions before its ticket.
                thread::sleep(Duration::from_millis(20));
                thread
            })
            .collect();
        drop(first);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock(), [0, 1, 2, 3]);
    }

    #[test]
    #[should_panic(expected = "taken twice")]
    fn a_read_lock_is_not_taken_twice() {
        let lock = RwLock::new(());
        let _first = lock.read();
        let _second = lock.read();
    }
}
