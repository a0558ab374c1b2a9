//! The spin lock of hypervisor code.
//!
//! A CPU that waits for the lock goes on answering function calls from other CPUs (`ipi::poll`):
//! the holder may be waiting for that answer, and interrupts are off. So a called function must not
//! take a lock.

#[cfg(target_os = "none")]
mod relax {
    /// Answers function calls while a lock is waited for.
    pub struct AnswerCalls;

    impl spin::RelaxStrategy for AnswerCalls {
        fn relax() {
            crate::ipi::poll();
            core::hint::spin_loop();
        }
    }
}
#[cfg(not(target_os = "none"))]
mod relax {
    /// On the host there are no calls to answer.
    pub type AnswerCalls = spin::Spin;
}

pub use relax::AnswerCalls;

/// A spin lock.
pub type Mutex<T> = spin::mutex::SpinMutex<T, AnswerCalls>;
/// A held lock.
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
