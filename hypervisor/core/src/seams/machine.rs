//! The machine: clock, CPUs, console and power.

use oxen_types::{CpuId, Errno, Result};

use super::MemoryStats;

/// How to turn TSC ticks into nanoseconds, in pvclock's terms (xen/xen.h, `vcpu_time_info`):
/// ns = ((ticks << shift) * mul) >> 32, a negative shift being a right shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClockScale {
    /// The multiplier, in units of 2^-32.
    pub mul: u32,
    /// The shift before the multiplication.
    pub shift: i8,
}

/// The system clock and the wall clock.
pub trait Clock: Send + Sync {
    /// Nanoseconds since boot; the same on every CPU, and never backwards.
    fn now(&self) -> u64;
    /// The host's TSC and the system time at that tick.
    fn sample(&self) -> (u64, u64);
    /// How the TSC converts to nanoseconds.
    fn scale(&self) -> ClockScale;
    /// The TSC's rate.
    fn tsc_khz(&self) -> u32;
    /// Whether all CPUs' TSCs agree and never stop: then guests may compare pvclock across vcpus.
    fn tsc_is_stable(&self) -> bool;
    /// Seconds and nanoseconds since 1970 at system time 0.
    fn wall_clock_base(&self) -> (u64, u32);
    /// Sets [`Clock::wall_clock_base`].
    fn set_wall_clock_base(&self, seconds: u64, nanoseconds: u32);
}

/// The machine's console: its output, its input for dom0, and its log.
pub trait Console: Send + Sync {
    /// Writes dom0's console output and raw hypervisor messages.
    fn write(&self, bytes: &[u8]);
    /// Takes typed input for dom0 out of the buffer. Returns the number of bytes.
    fn read(&self, into: &mut [u8]) -> usize;
    /// Copies the log from `index` on (clamped to what is still there), or the part that was not
    /// cleared. Returns the number of bytes and the index that follows them.
    fn read_log(&self, index: Option<u32>, into: &mut [u8]) -> (usize, u32);
    /// Marks the whole log as cleared.
    fn clear_log(&self);
    /// Runs a debug key as if it had been typed on the console.
    fn debug_key(&self, key: u8);
}

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// Switch the machine off.
    PowerOff,
    /// Reset the machine.
    Reboot,
}

/// The machine as sysctl physinfo describes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineInfo {
    /// CPUs that run.
    pub cpus: u32,
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// The TSC's rate.
    pub cpu_khz: u32,
    /// Words of CPUID feature bits (xen/sysctl.h, `hw_cap`).
    pub hw_cap: [u32; 8],
    /// Memory in frames.
    pub memory: MemoryStats,
    /// Whether guests can have nested paging.
    pub hap: bool,
    /// Whether guests can run on shadow page tables.
    pub shadow: bool,
}

/// The machine: its CPUs, its power, and what the firmware says of it.
pub trait Platform: Send + Sync {
    /// The clocks.
    fn clock(&self) -> &dyn Clock;
    /// The console.
    fn console(&self) -> &dyn Console;
    /// The CPU that this call is made on.
    fn this_cpu(&self) -> CpuId;
    /// The command line that the hypervisor was booted with.
    fn command_line(&self) -> &str;
    /// Makes another CPU leave its guest or its idle loop, so that it looks at its work again.
    fn kick(&self, cpu: CpuId);
    /// Has this CPU call the scheduler before it enters a guest.
    fn reschedule(&self);
    /// Has a CPU call the scheduler at once.
    fn reschedule_on(&self, cpu: CpuId);
    /// Has a CPU call the scheduler at a later time, unless it has done so by then.
    fn reschedule_at(&self, cpu: CpuId, at: u64);
    /// Notes that the earliest deadline of this CPU's timer queue may have changed.
    fn deadline_changed(&self);
    /// The machine as sysctl physinfo describes it.
    fn info(&self) -> MachineInfo;
    /// The nanoseconds that a CPU has been idle since boot.
    fn idle_ns(&self, cpu: CpuId) -> u64;
    /// Takes the machine down: dom0 called for it, or has ended. Returns only if the machine stays
    /// up.
    fn power(&self, action: PowerAction);
    /// The width of a guest-physical address in bits.
    fn guest_address_bits(&self) -> u8;
    /// Visits the ranges of dom0's E820 map: start, length, type.
    fn dom0_memory_map(&self, visit: &mut dyn FnMut(u64, u64, u32));
    /// The local APIC's id and ACPI's processor id of a CPU, if the firmware named them.
    fn firmware_cpu(&self, _cpu: CpuId) -> Option<(u32, u32)> {
        None
    }
    /// The reply to platform_op XENPF_firmware_info.
    ///
    /// # Errors
    /// `NoEnt` if the firmware has no such information.
    fn firmware_info(&self, _kind: u32, _index: u32) -> Result<u64> {
        Err(Errno::NoEnt)
    }
}
