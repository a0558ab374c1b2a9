//! AMD-V: AMD64 Architecture Programmer's Manual, volume 2, chapter 15 and appendix B and C.
//!
//! Layers, from below: `insn` (the instructions), `vmcb` (the layout), `switch` (the entry in
//! assembly), `caps`, `cpu` (what a CPU has and owns), `maps`, `vcpu` (the back end),
//! `exit` (exit codes to `Exit`).

mod caps;
mod cpu;
mod debug;
mod event;
mod exit;
mod insn;
mod intercept;
pub(crate) mod maps;
mod switch;
mod vcpu;
mod virtual_registers;
mod vmcb;

pub use caps::{SvmCaps, SvmFeatures};
pub use cpu::SvmCpu;
pub use vcpu::SvmVcpu;
