//! AMD-V: AMD64 Architecture Programmer's Manual, volume 2, chapter 15 and appendix B and C.
//!
//! Layers, from below: `insn` (the instructions), `vmcb` (the layout), `switch` (the entry in
//! assembly), `caps` (what the CPU can do), `cpu` (switching AMD-V on), `maps` (permission maps),
//! `exit` (exit codes to `Exit`), `vcpu` (the back end), `vendor` (all of this as the platform sees
//! it).

mod caps;
mod cpu;
mod debug;
mod event;
mod exit;
mod insn;
mod intercept;
mod maps;
mod switch;
mod vcpu;
mod vendor;
mod virtual_registers;
mod vmcb;

pub(crate) use caps::SvmCaps;
use caps::SvmFeatures;
use vcpu::SvmVcpu;
