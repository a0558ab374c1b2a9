//! The spin lock of hypervisor code.
//!
//! Whoever waits for it goes on answering function calls from other CPUs (`ipi::poll`): the holder
//! may be waiting for our answer, and interrupts are off. So a called function must not take a lock.

#[cfg(target_os = "none")]
mod relax {
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
    pub type AnswerCalls = spin::Spin;
}

pub use relax::AnswerCalls;

pub type Mutex<T> = spin::mutex::SpinMutex<T, AnswerCalls>;
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
