//! The machine below the hypervisor: every privileged instruction that is not a vcpu back end's.
//!
//! # Order of start-up
//! The entry code (`boot/entry.s`) brings the boot CPU into Rust on a stack and page tables of the
//! image, sets up GS, GDT, IDT and COM1, copies the loader's information to the boot heap and calls
//! the kernel's `main!`. From there the kernel calls, in this order:
//!  1. `init_cpu(info)`: log levels, console, features;
//!  2. oxen-mm: final page tables, frames, heap;
//!  3. `init(info, reach)`: ACPI, interrupt controllers, clock; then `cpu::set_ist_stacks` and
//!     `cpu::switch_stack` for the boot CPU's guarded stacks;
//!  4. `smp::start_all`; each CPU enters the given function with interrupts off.
//!
//! # What holds everywhere
//! - Interrupts are off in all hypervisor code, except inside `irq::window` and `irq::idle`, which
//!   are called with no lock held. So code is never reentered, and no lock needs to mask
//!   interrupts.
//! - NMI, #DF and #MC strike anywhere: their code takes no lock without a limit.
//! - A CPU that waits for another one calls `ipi::poll` meanwhile; `sync::Mutex` does.
//! - Addresses of the direct map are valid for RAM, for ACPI tables and for the pages of
//!   `AcpiInfo::device_pages`.
//!
//! # Modules
//! `image` the image's borders; `boot` the loader's information; `cmdline`; `console` (log, serial
//! input); `cpu` (id, features, registers, MSRs, I/O ports); `mmio`; `trap` (faults, NMI, panic);
//! `irq`, `vectors`, `apic` (handlers, IO-APIC); `ipi` (kick, call, TLB); `smp`; `time`; `acpi`;
//! `power`; `sync`; `symbols`. Registers, flags, descriptor tables and I/O instructions are those
//! of the crate `x86_64`, wherever it has them.
#![warn(missing_docs, unused_qualifications)]
#![cfg_attr(target_os = "none", warn(unreachable_pub))]
#![warn(clippy::allow_attributes, clippy::wildcard_imports)]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

pub mod acpi;
pub mod apic;
pub mod boot;
pub mod cmdline;
pub mod console;
pub mod cpu;
pub mod image;
pub mod mmio;
pub mod symbols;
pub mod sync;
pub mod time;
pub mod vectors;

#[cfg(target_os = "none")]
mod init;
#[cfg(target_os = "none")]
pub mod ipi;
#[cfg(target_os = "none")]
pub mod irq;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod trap;

#[cfg(target_os = "none")]
pub use init::{OPTIONS, Reach, init, init_cpu};

/// Declares the kernel's main: `oxen_arch::main!(path)`, with `fn path(&'static BootInfo) -> !`.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "Rust" fn oxen_main(info: &'static $crate::boot::BootInfo) -> ! {
            let main: fn(&'static $crate::boot::BootInfo) -> ! = $main;
            main(info)
        }
    };
}
