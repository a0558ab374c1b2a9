//! The wall clock that dom0 keeps for all, and the CPUs' idle times.

use guest_pv_abi as abi;
use oxen_types::{CpuMask, Errno, Result};

use crate::control::map;
use crate::hypercall::{Call, List, Privileged};
use crate::machine::Machine;

const NS_PER_S: u64 = 1_000_000_000;

/// Sets the wall clock, with seconds of 32 bits.
pub(super) fn set_32(call: &Call<'_>, _dom0: Privileged, ask: &abi::XenpfSettime32) -> Result<()> {
    set(call.machine(), ask.secs.into(), ask.nsecs, ask.system_time)
}

/// Sets the wall clock.
pub(super) fn set_64(call: &Call<'_>, _dom0: Privileged, ask: &abi::XenpfSettime64) -> Result<()> {
    if ask.mbz != 0 {
        return Err(Errno::Inval);
    }
    set(call.machine(), ask.secs, ask.nsecs, ask.system_time)
}

/// The wall clock was `seconds` and `nanoseconds` since 1970 at `system_time`. Each domain's clock
/// says so at once.
fn set(machine: &Machine, seconds: u64, nanoseconds: u32, system_time: u64) -> Result<()> {
    let (seconds, nanoseconds) =
        base(seconds, nanoseconds.into(), system_time).ok_or(Errno::Inval)?;
    machine
        .platform
        .clock()
        .set_wall_clock_base(seconds, nanoseconds);
    for domain in machine.all_domains() {
        domain.update_wall_clock();
    }
    Ok(())
}

/// The wall clock at system time 0. None if that lies before 1970 or after all time.
fn base(seconds: u64, nanoseconds: u64, system_time: u64) -> Option<(u64, u32)> {
    let (up, rest) = (system_time / NS_PER_S, system_time % NS_PER_S);
    // One second is lent to the nanoseconds, so that they cannot fall below zero.
    let nanoseconds = nanoseconds + NS_PER_S - rest;
    let seconds = seconds
        .checked_add(nanoseconds / NS_PER_S)?
        .checked_sub(up.checked_add(1)?)?;
    Some((seconds, (nanoseconds % NS_PER_S) as u32))
}

/// Idle times of the CPUs named; the set loses those that do not exist.
pub(super) fn idle(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::XenpfGetidletime,
) -> Result<()> {
    let platform = call.machine().platform;
    let set = abi::BitmapHandle {
        bitmap: ask.cpumap_bitmap,
        nr_bits: ask.cpumap_nr_cpus,
        _pad: 0,
    };
    let cpus = map::read(call, &set)?.and(CpuMask::below(platform.info().cpus));
    let times: List<'_, u64> = call.list(ask.idletime);
    ask.now = call.machine().now();
    for cpu in cpus.iter() {
        times.set(cpu.0.into(), &platform.idle_ns(cpu))?;
    }
    map::write(call, &set, cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_at_system_time_zero() {
        assert_eq!(base(100, 5, 0), Some((100, 5)));
        assert_eq!(base(100, 5, 10 * NS_PER_S + 5), Some((90, 0)));
        assert_eq!(base(100, 0, 1), Some((99, 999_999_999)));
        // Nanoseconds may be more than a second.
        assert_eq!(base(100, 2_500_000_000, NS_PER_S), Some((101, 500_000_000)));
        assert_eq!(base(1, 0, 2 * NS_PER_S), None);
        assert_eq!(base(u64::MAX, u32::MAX.into(), 0), None);
        assert_eq!(base(0, 0, u64::MAX), None);
    }
}
