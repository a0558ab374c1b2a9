//! Interrupt controllers: the local APIC of each CPU, the IO-APICs, and the 8259s kept silent.

pub mod io;
mod local;
mod pic;

pub use local::{
    Delivery, arm_timer, disarm_timer, eoi, icr_destination_of, init_boot_cpu, init_this_cpu,
    is_x2apic, send, stop_other_cpus, timer_is_deadline,
};
pub(crate) use local::{install_error_handler, send_raw, set_timer_ticks_per_ms, timer_count};
pub use pic::mask_all as mask_8259;
