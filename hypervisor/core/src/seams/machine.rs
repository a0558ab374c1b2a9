//! The machine: clock, CPUs, console and power.

use oxen_types::{CpuId, Errno, Result};

use super::MemoryStats;

/// How to turn TSC ticks into nanoseconds, in pvclock's terms (xen/xen.h, `vcpu_time_info`):
/// ns = ((ticks << shift) * mul) >> 32, a negative shift being a right shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClockScale {
    pub mul: u32,
    pub shift: i8,
}

pub trait Clock: Send + Sync {
    /// Nanoseconds since boot; the same on every CPU, never backwards.
    fn now(&self) -> u64;
    /// The host's TSC and the system time at that tick.
    fn sample(&self) -> (u64, u64);
    fn scale(&self) -> ClockScale;
    fn tsc_khz(&self) -> u32;
    /// Do all CPUs' TSCs tick alike and never stop? Then guests may rely on pvclock across vcpus.
    fn tsc_is_stable(&self) -> bool;
    /// Seconds and nanoseconds since 1970 at system time 0.
    fn wall_clock_base(&self) -> (u64, u32);
    fn set_wall_clock_base(&self, seconds: u64, nanoseconds: u32);
}

pub trait Console: Send + Sync {
    /// Output of dom0's console, and raw hypervisor messages.
    fn write(&self, bytes: &[u8]);
    /// Takes typed input for dom0 out of the buffer; the number of bytes.
    fn read(&self, into: &mut [u8]) -> usize;
    /// Copies the log from `index` on (clamped to what is still there), or what was not cleared; the
    /// bytes copied and the index that follows them.
    fn read_log(&self, index: Option<u32>, into: &mut [u8]) -> (usize, u32);
    fn clear_log(&self);
    /// Runs a debug key as if typed on the console.
    fn debug_key(&self, key: u8);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    PowerOff,
    Reboot,
}

/// What sysctl physinfo and friends tell of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineInfo {
    pub cpus: u32,
    pub threads_per_core: u32,
    pub cores_per_socket: u32,
    pub cpu_khz: u32,
    pub hw_cap: [u32; 8],
    pub memory: MemoryStats,
    /// Guests can have nested paging; and can do without.
    pub hap: bool,
    pub shadow: bool,
}

pub trait Platform: Send + Sync {
    fn clock(&self) -> &dyn Clock;
    fn console(&self) -> &dyn Console;
    fn this_cpu(&self) -> CpuId;
    /// The command line that we were booted with.
    fn command_line(&self) -> &str;
    /// Makes a CPU leave its guest or its idle loop and look again at what is to do.
    fn kick(&self, cpu: CpuId);
    /// This CPU asks the scheduler again before it enters a guest.
    fn reschedule(&self);
    /// The same for any CPU, at once.
    fn reschedule_on(&self, cpu: CpuId);
    /// The same at a later time, unless that CPU has asked by then.
    fn reschedule_at(&self, cpu: CpuId, at: u64);
    /// The earliest deadline of this CPU's timer queue may have changed.
    fn deadline_changed(&self);
    fn info(&self) -> MachineInfo;
    /// Nanoseconds that a CPU was idle since boot.
    fn idle_ns(&self, cpu: CpuId) -> u64;
    /// dom0 asked for it, or died: the machine goes down. Returns only if the machine will not.
    fn power(&self, action: PowerAction);
    /// Bits of a guest-physical address.
    fn guest_address_bits(&self) -> u8;
    /// The machine's E820 map as dom0 sees it, or others' (`XENMEM_memory_map` of dom0).
    fn dom0_memory_map(&self, visit: &mut dyn FnMut(u64, u64, u32));
    /// The local APIC's id and ACPI's processor id of a CPU, where the firmware told them.
    fn firmware_cpu(&self, _cpu: CpuId) -> Option<(u32, u32)> {
        None
    }
    /// platform_op XENPF_firmware_info and what else depends on firmware: not everywhere.
    fn firmware_info(&self, _kind: u32, _index: u32) -> Result<u64> {
        Err(Errno::NoEnt)
    }
}
