//! System time: nanoseconds since boot, the same on all CPUs, never going back.
//!
//! The TSC, scaled by a rate measured against HPET or PM timer, is the clock. Where the TSC is not
//! called invariant it is still used if a second measurement agrees with the first; `clocksource=`
//! (tsc or hpet) decides otherwise. With HPET as clock, a stamp pairs the two for guests' pvclock.
//! Before `init` time stands at 0.

mod rtc_date;
mod scale;
mod steady;

#[cfg(target_os = "none")]
mod calibrate;
#[cfg(target_os = "none")]
mod clock;
#[cfg(target_os = "none")]
mod hpet;
#[cfg(target_os = "none")]
mod rtc;

pub use crate::cpu::regs::rdtsc;
#[cfg(target_os = "none")]
pub(crate) use clock::calibrate_apic_timer;
#[cfg(target_os = "none")]
pub use clock::{
    ClockSource, Stamp, busy_wait_ns, init, now_ns, set_deadline, set_wall_clock, source, stamp,
    tsc_at, tsc_khz, tsc_scale, wall_clock,
};
pub use rtc_date::Date;
pub use scale::Scale;
pub use steady::TscCheck;
