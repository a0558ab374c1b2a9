//! VT-x: Intel SDM volume 3, chapters 24 to 31 (edition of 2023) and appendices A to C.
//!
//! Layers, from below:
//! - `insn` (the instructions), `field` (encodings of fields), `state` (the guest's part of a VMCS,
//!   cached), `segment` and `event` (their forms in it), `switch` (the entry in assembly);
//! - `caps` (what the CPU can do, and the controls that follow), `cpu` (switching VT-x on), `host`
//!   (the host's part of a VMCS), `maps` (permission maps);
//! - `vcpu` (the back end) with `enter` (one entry), `exit` (exit reasons to `Exit`), `refused`
//!   (why an entry failed), `msrs` and `debug` (registers outside of the VMCS), `control` (control
//!   registers), `apic` (the local APIC virtualized by the CPU), `restricted` (guests without
//!   paging on CPUs that require paging), `virtual_registers` (guests without nested paging);
//! - `vendor` (all of this as the platform sees it).
//!
//! A VMCS is active on a CPU only between `load` and `unload`. `unload` reads all fields into the
//! cache and clears the VMCS, so that the vcpu can be loaded on any CPU and its registers can be
//! read on any CPU.

mod apic;
mod caps;
mod control;
mod cpu;
mod debug;
mod enter;
mod event;
mod exit;
mod field;
mod host;
mod insn;
mod maps;
mod msrs;
mod refused;
mod restricted;
mod segment;
mod state;
mod switch;
mod vcpu;
mod vendor;
mod virtual_registers;

pub(crate) use caps::VmxCaps;
use vcpu::VmxVcpu;
