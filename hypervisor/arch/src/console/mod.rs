//! The hypervisor's console: COM1 and a ring of the last 64 KiB, as lines that do not interleave.
//!
//! One lock guards both; it is held while a line goes out (115200 baud: a long line takes some ms,
//! and a port that stops taking bytes is given up for a while). Taken with interrupts off, never
//! from NMI, #DF or #MC: those use `emergency`, which breaks the lock after a bounded wait.

mod logger;
mod ratelimit;
mod ring;
mod serial_config;

#[cfg(any(target_os = "none", test))]
mod hold;

#[cfg(target_os = "none")]
mod serial;
#[cfg(target_os = "none")]
mod state;

pub use logger::{GUEST_TARGET, LogLevels, errors, log_limited, set_log_levels};
pub use ratelimit::RateLimit;
pub use ring::{RING_SIZE, Ring};
pub use serial_config::SerialConfig;

#[cfg(target_os = "none")]
pub use state::{
    clear, configure, emergency, enable_input_interrupt, init_early, poll_input, read_byte,
    read_log, release_lines, serial_ports, write_raw,
};
#[cfg(target_os = "none")]
pub(crate) use state::{flush, poll_from_now_on, write_line};
