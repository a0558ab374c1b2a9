//! Interrupt controllers: the local APIC of each CPU, the IO-APICs, and the 8259s, which stay
//! masked.

#[cfg(target_os = "none")]
pub mod io;
#[cfg(target_os = "none")]
mod local;
#[cfg(target_os = "none")]
mod pic;
#[cfg(any(test, target_os = "none"))]
mod route;
#[cfg(any(test, target_os = "none"))]
mod setup;

#[cfg(target_os = "none")]
pub use local::{
    Delivery, arm_timer, disarm_timer, eoi, icr_destination_of, init_boot_cpu, init_this_cpu,
    is_x2apic, send, stop_other_cpus, timer_is_deadline,
};
#[cfg(target_os = "none")]
pub(crate) use local::{install_error_handler, send_raw, set_timer_ticks_per_ms, timer_count};
#[cfg(target_os = "none")]
pub use pic::mask_all as mask_8259;
