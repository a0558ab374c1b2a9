//! The public Xen ABI of 4.17 for x86-64, as types and numbers: what guests, toolstack and hypervisor
//! agree on. It follows the public C headers (`/usr/include/xen` of Debian's libxen-dev), one module per
//! header or part of one; the test `abi-layout` compares every item with them.
//!
//! - Numbers have their C names in upper case (`EVTCHNOP_BIND_VIRQ`; `HYPERVISOR_MEMORY_OP`, without C's
//!   leading underscores). They are integers, not enums: a guest may pass any value.
//! - Structures have their C names in camel case, without `xen_`, and C's field names; a keyword has
//!   another word in its place (`kind` for `type`).
//! - They are plain data, in which any bytes are valid: padding is explicit, unions are bytes (see
//!   [`UnionBytes`]), guest handles are addresses (see [`GuestHandle`]).
//! - All of it is re-exported here.
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod define;
mod handle;
pub mod layout;
mod union;

pub use handle::{GuestHandle, Pointee};
pub use union::UnionBytes;

/// The ABI's modules, re-exported and listed.
macro_rules! modules {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name; pub use $name::*;)*

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
