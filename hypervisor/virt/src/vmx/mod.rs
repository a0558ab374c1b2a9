//! VT-x: Intel SDM volume 3, chapters 24 to 31 (edition of 2023) and appendices A to C.
//!
//! Layers, from below: `insn` (the instructions), `field` (the encodings), `state` (the guest's part
//! of a VMCS, cached), `switch` (the entry in assembly), `caps` (what the CPU can do, and the
//! controls that follow from it), `maps`, `cpu` and `host` (what a CPU owns), `vcpu`
//! (the back end) with `apic` (the local APIC in the CPU's hands), `enter` (one entry), `msrs` and `debug` (registers outside the VMCS), `control` (control registers), `restricted` (guests without paging on CPUs that want it), `virtual_registers` (guests without nested paging), `exit` (exit reasons to `Exit`), `refused` (why an
//! entry failed).
//!
//! A VMCS is active on a CPU only between `load` and `unload`: the latter reads everything into the
//! cache and clears the VMCS, so that a vcpu can go on anywhere, and be looked at from anywhere.

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
pub(crate) mod maps;
mod msrs;
mod refused;
mod restricted;
mod segment;
mod state;
mod switch;
mod vcpu;
mod virtual_registers;

pub use caps::VmxCaps;
pub use cpu::VmxCpu;
pub use vcpu::VmxVcpu;
