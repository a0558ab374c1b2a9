//! Running a virtual CPU.

use core::fmt;

use oxen_types::Maddr;
use oxen_types::paging::ShadowRoots;

use super::capability::{ApicAssist, RunDeadline};
use super::event::VcpuEvents;
use super::exit::Exit;
use crate::phys_cpu::PhysCpu;

/// One virtual CPU of some vendor's hardware.
///
/// Life: [`reset`](VcpuBackend::reset) or a start function of `crate::start`; then one of
/// [`set_nested_root`](VcpuBackend::set_nested_root) and
/// [`set_shadow_roots`](VcpuBackend::set_shadow_roots). From then on, any number of times and each
/// time on any physical CPU: `load`, any number of `run`s, `unload`.
pub trait VcpuBackend: VcpuEvents {
    /// Puts the vcpu on this physical CPU: its FPU, debug and MSR state that entries do not switch.
    fn load(&mut self, cpu: &mut PhysCpu);
    /// Takes the vcpu off the CPU that it is loaded on. Afterwards it can be loaded on any CPU.
    fn unload(&mut self, cpu: &mut PhysCpu);
    /// Enters the guest once, until the next exit. Interrupts are off on entry and on return. A
    /// pending host interrupt ends the run and stays pending.
    fn run(&mut self, cpu: &mut PhysCpu) -> Exit;

    /// The hardware's virtualization of the local APIC, if this CPU has it.
    fn apic_assist(&mut self) -> Option<&mut dyn ApicAssist>;
    /// The hardware's timer for the end of a run, if this CPU has a reliable one.
    fn run_deadline(&mut self) -> Option<&mut dyn RunDeadline>;

    /// Makes the guest run on the nested page tables with this root.
    fn set_nested_root(&mut self, root: Maddr);
    /// Makes the guest run without nested paging, on a shadow of its page tables. Resets the vcpu.
    /// To be called before the first `load`.
    fn set_shadow_roots(&mut self, roots: ShadowRoots);
    /// Changes the roots of a guest that runs on a shadow. The caller flushes the TLB.
    fn move_shadow_roots(&mut self, roots: ShadowRoots);

    /// Sets the state after INIT and drops pending events and requested windows. If `cold`, also
    /// FPU, MSRs and debug registers as after power-on.
    fn reset(&mut self, cold: bool);
    /// Writes the state for a log, in several lines.
    fn dump(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}
