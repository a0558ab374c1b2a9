//! AMD-V: AMD64 Architecture Programmer's Manual, volume 2, chapter 15 and appendix B and C.
//!
//! Layers, from below: `insn` (the instructions), `vmcb` (the layout), `switch` (the entry in
//! assembly), `caps`, `bitmap` (what a CPU and a domain own), `vcpu` (the back end),
//! `exit` (exit codes to `Exit`).

mod bitmap;
mod caps;
mod cpu;
mod debug;
mod dump;
mod event;
mod exit;
mod insn;
mod intercept;
mod shadow;
mod switch;
mod vcpu;
mod vmcb;

pub use bitmap::SvmDomain;
pub use caps::{SvmCaps, SvmFeatures};
pub use cpu::SvmCpu;
pub use vcpu::SvmVcpu;
