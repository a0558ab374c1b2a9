//! The machine under the vmm, as small traits: a CPU, interrupts between CPUs, the clock, and the
//! hardware behind dom0's devices.
//!
//! `kernel` implements them with `oxen-arch`; the tests implement them in memory. A
//! [`Vmm`](crate::Vmm) is generic over the one type that has them all, so a call costs what a
//! direct call of the machine's function costs.

use alloc::sync::Arc;

use oxen_core::seams::ClockScale;
use oxen_types::{CpuId, CpuMask, Maddr, Polarity, Trigger};
use oxen_virt::{BoxedVcpu, DomainControls, VirtError};

/// The CPU that runs the caller. Interrupts are off but in [`Cpu::window`] and [`Cpu::idle`].
pub trait Cpu {
    /// Its number.
    fn this_cpu(&self) -> CpuId;
    /// Takes pending interrupts, and returns with interrupts off. Called with no lock held but the
    /// context of the vcpu that is loaded.
    fn window(&self);
    /// Halts until an interrupt has been taken. One that is pending already ends the halt at once.
    fn idle(&self);
    /// Runs the handler of a vector that a guest's exit has acknowledged.
    fn dispatch(&self, vector: u8);
    /// Runs the handler of a machine check that a guest's exit has swallowed.
    fn raise_machine_check(&self);
    /// WBINVD.
    fn write_back_caches(&self);
    /// A random number, as good as the hardware has it.
    fn random(&self) -> u64;
    /// Writes a command MSR (a prediction barrier, a flush of the first-level cache) for the guest.
    fn command_msr(&self, msr: u32);
}

/// Where a CPU takes notifications of posted interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PostedTarget {
    /// The vector of the notification.
    pub vector: u8,
    /// The CPU's local APIC.
    pub apic_id: u32,
    /// Its ids have 32 bits.
    pub x2apic: bool,
}

/// Interrupts between CPUs.
pub trait Ipi {
    /// The CPUs that are up.
    fn online(&self) -> CpuMask;
    /// Makes a CPU leave its guest or its halt.
    fn kick(&self, cpu: CpuId);
    /// Makes a CPU leave its guest that takes no interrupts.
    fn nmi(&self, cpu: CpuId);
    /// Tells a CPU that interrupts were posted for the guest that it runs.
    fn notify(&self, cpu: CpuId);
    /// Answers what other CPUs ask of this one. A loop that waits for another CPU calls this at
    /// each turn.
    fn poll(&self);
    /// Where this CPU takes notifications; `None` if it takes none.
    fn posted_target(&self) -> Option<PostedTarget>;
}

/// The machine's clock, and this CPU's timer.
pub trait Time {
    /// Nanoseconds since boot; the same on each CPU.
    fn now_ns(&self) -> u64;
    /// This CPU's TSC.
    fn tsc(&self) -> u64;
    /// The TSC at a moment.
    fn tsc_at(&self, ns: u64) -> u64;
    /// The TSC's rate.
    fn tsc_khz(&self) -> u32;
    /// From ticks of the TSC to nanoseconds.
    fn tsc_scale(&self) -> ClockScale;
    /// The name of the clock that the time is read from.
    fn clock_name(&self) -> &'static str;
    /// The clock is made of the TSC.
    fn clock_is_tsc(&self) -> bool;
    /// The TSCs of all CPUs tick at one rate in all states, and agree.
    fn tsc_is_reliable(&self) -> bool;
    /// This CPU's timer is to interrupt at that moment.
    fn set_deadline(&self, ns: u64);
}

/// The hardware behind dom0's devices.
pub trait Hardware {
    /// Reads 1, 2 or 4 bytes of a port.
    fn port_read(&self, port: u16, size: u8) -> u32;
    /// Writes 1, 2 or 4 bytes of a port.
    fn port_write(&self, port: u16, size: u8, value: u32);
    /// Makes a page of device memory reachable for the two calls below. False if it cannot be
    /// mapped.
    fn map_device(&self, page: Maddr) -> bool;
    /// Reads device memory that is mapped.
    fn mmio_read(&self, at: Maddr, size: u8) -> u64;
    /// Writes device memory that is mapped.
    fn mmio_write(&self, at: Maddr, size: u8, value: u64);
    /// Routes a GSI, masked, to a vector of the CPU that takes devices' interrupts. False if no
    /// IO-APIC has it.
    fn route_gsi(&self, gsi: u32, vector: u8, trigger: Trigger, polarity: Polarity) -> bool;
    /// Masks a GSI's line.
    fn mask_gsi(&self, gsi: u32);
    /// Unmasks a GSI's line.
    fn unmask_gsi(&self, gsi: u32);
    /// A free vector for a device.
    fn alloc_vector(&self) -> Option<u8>;
    /// Gives a vector back whose device is silent.
    fn free_vector(&self, vector: u8);
    /// The destination that a device's message names to reach the CPU that takes devices'
    /// interrupts.
    fn message_destination(&self) -> Option<u8>;
    /// Switches the machine off.
    fn power_off(&self) -> !;
    /// Restarts the machine.
    fn reboot(&self) -> !;
}

/// All of the machine that the vmm needs.
pub trait Host: Cpu + Ipi + Time + Hardware + Send + Sync + 'static {
    /// The work of a CPU beside guests at each turn of its loop, with no lock held.
    fn work(&self, cpu: CpuId);
    /// A back end for a new vcpu of a domain.
    ///
    /// # Errors
    /// [`VirtError::NoMemory`] if there is no memory for its parts.
    fn new_vcpu(&self, domain: &Arc<DomainControls>) -> Result<BoxedVcpu, VirtError>;
}
