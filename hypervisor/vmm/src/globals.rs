//! What is made once at boot and never changes: the pieces that everything else refers to.

use oxen_core::machine::Machine;
use oxen_mm::{FrameTable, HostSpace};
use oxen_virt::Platform;
use spin::Once;

pub struct Globals {
    pub machine: &'static Machine,
    pub frames: &'static FrameTable,
    pub virt: &'static Platform,
    pub space: &'static HostSpace,
    pub is_amd: bool,
    /// Guests may execute from large pages.
    pub large_exec: bool,
    /// The interrupt line of the console's own UART.
    pub uart_gsi: Option<u32>,
    /// Bits of a physical address, ours and guests'.
    pub phys_bits: u32,
}

static GLOBALS: Once<Globals> = Once::new();

pub fn set(globals: Globals) {
    GLOBALS.call_once(|| globals);
}

/// Only once boot has set them: nothing that uses them runs before.
pub fn get() -> &'static Globals {
    match GLOBALS.get() {
        Some(globals) => globals,
        None => unreachable!("used before boot set them"),
    }
}
