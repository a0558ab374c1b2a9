//! The public Xen ABI of 4.17 for x86-64, as types and numbers: what guests, toolstack and
//! hypervisor agree on. It follows the public C headers (`/usr/include/xen` of Debian's
//! libxen-dev), one module per header or part of one; the test `abi-layout` compares every item
//! with them.
//!
//! - Numbers have their C names in upper case (`EVTCHNOP_BIND_VIRQ`; `HYPERVISOR_MEMORY_OP`,
//!   without C's leading underscores). They are integers, not enums: a guest may pass any value.
//! - Structures have their C names in camel case, without `xen_`, and C's field names; a keyword
//!   has another word in its place (`kind` for `type`).
//! - They are plain data, in which any bytes are valid: padding is explicit, unions are bytes (see
//!   [`UnionBytes`]), guest handles are addresses (see [`GuestHandle`]).
//! - All of it is re-exported here.
#![no_std]
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

#[macro_use]
mod define;
pub mod arch_x86;
pub mod blkif;
pub mod callback;
pub mod console;
pub mod cpuid;
pub mod domctl;
pub mod domctl_device;
pub mod domctl_domain;
pub mod domctl_memory;
pub mod domctl_vcpu;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
mod handle;
pub mod hvm_op;
pub mod hvm_params;
pub mod hvm_save;
pub mod hypfs;
pub mod kexec;
pub mod layout;
pub mod livepatch;
pub mod mca;
pub mod memory;
pub mod mmu;
pub mod netif;
pub mod physdev;
pub mod platform;
pub mod platform_firmware;
pub mod platform_power;
pub mod pmu;
pub mod ring;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod sysctl;
pub mod sysctl_machine;
pub mod sysctl_power;
pub mod sysctl_sched;
pub mod trace;
mod union;
pub mod vcpu;
pub mod version;
pub mod xen;
pub mod xenbus;
pub mod xs_wire;

pub use handle::{GuestHandle, Pointee};
pub use union::{UnionBytes, take_first};

/// Re-exports the ABI's modules, and lists them.
macro_rules! modules {
    ($($name:ident),* $(,)?) => {
        $(pub use $name::*;)*

        /// Every item of every module, by module.
        #[doc(hidden)]
        pub const LAYOUT: &[(&str, &[&[layout::Item]])] = &[$((stringify!($name), $name::LAYOUT)),*];
    };
}

modules! {
    arch_x86,
    blkif,
    callback,
    console,
    cpuid,
    domctl,
    domctl_device,
    domctl_domain,
    domctl_memory,
    domctl_vcpu,
    elfnote,
    errno,
    event_channel,
    grant_table,
    hvm_op,
    hvm_params,
    hvm_save,
    hypfs,
    kexec,
    livepatch,
    mca,
    memory,
    mmu,
    netif,
    physdev,
    platform,
    platform_firmware,
    platform_power,
    pmu,
    ring,
    sched,
    shared_info,
    start_info,
    sysctl,
    sysctl_machine,
    sysctl_power,
    sysctl_sched,
    trace,
    vcpu,
    version,
    xen,
    xenbus,
    xs_wire,
}
