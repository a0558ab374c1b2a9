//! The clock itself: set up once on the boot CPU, read without locks.

use super::calibrate::Reference;
use super::hpet::Hpet;
use super::rtc;
use super::scale::Scale;
use crate::acpi::AcpiInfo;
use crate::apic;
use crate::cmdline::CommandLine;
use crate::cpu::regs::rdtsc;
use crate::cpu::{Features, features};
use crate::sync::Mutex;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Two measurements of a TSC that is not called invariant must agree to this (parts per million).
const SANE_PPM: u64 = 20_000;

/// The counter that system time comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockSource {
    /// The time-stamp counter.
    Tsc,
    /// The HPET's main counter.
    Hpet,
}

struct Clock {
    source: ClockSource,
    tsc_khz: u64,
    tsc_base: u64,
    tsc_to_ns: Scale,
    ns_to_tsc: Scale,
    hpet: Option<(Hpet, u64, Scale)>,
}

static CLOCK: Once<Clock> = Once::new();
/// The latest time that the HPET gave to any CPU: keeps its readers in order.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Makes this CPU's timer (`vectors::TIMER`) fire at `ns`, at once if that is past, and never at
/// `u64::MAX`.
pub fn set_deadline(ns: u64) {
    if ns == u64::MAX {
        apic::disarm_timer();
    } else {
        apic::arm_timer(ns);
    }
}

/// Nanoseconds since 1970 at system time 0. Fits until 2554.
static WALL_BASE: Mutex<u64> = Mutex::new(0);

/// The clock at one moment, for pvclock: guests extrapolate from here with `tsc_scale`.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The TSC at that moment.
    pub tsc: u64,
    /// System time at that moment.
    pub ns: u64,
}

/// Measures the TSC, chooses the source, reads the wall clock. Takes some 60 ms.
pub fn init(acpi: &AcpiInfo, cmdline: CommandLine<'_>) {
    let hpet = acpi.hpet.and_then(Hpet::new);
    let reference = match (hpet, acpi.pm_timer) {
        (Some(hpet), _) => Reference::Hpet(hpet),
        (None, Some(timer)) => Reference::PmTimer(timer),
        (None, None) => panic!("neither HPET nor PM timer to measure the TSC with"),
    };
    let Some((khz, spread_ppm)) = reference.tsc_khz() else {
        panic!("the {} stands still", reference.name())
    };
    let source = choose(cmdline.get("clocksource"), hpet, spread_ppm);
    let clock = Clock {
        source,
        tsc_khz: khz,
        tsc_base: rdtsc(),
        tsc_to_ns: Scale::from_khz(khz),
        ns_to_tsc: Scale::ratio(khz, 1_000_000),
        hpet: hpet.map(|h| (h, h.counter(), Scale::ratio(h.period_fs(), 1_000_000))),
    };
    CLOCK.call_once(|| clock);
    let century = acpi.fadt.as_ref().map_or(0, |fadt| fadt.century);
    match rtc::read_epoch(century) {
        Some(epoch) => set_wall_clock(epoch * NS_PER_SECOND, now_ns()),
        None => log::warn!("the CMOS clock is not usable: time of day starts at 1970"),
    }
    log::info!(
        "clock: {:?}, TSC {}.{:03} MHz by {} (+-{spread_ppm} ppm){}",
        source,
        khz / 1000,
        khz % 1000,
        reference.name(),
        if features().contains(Features::TSC_INVARIANT) {
            ", invariant"
        } else {
            ""
        },
    );
}

fn choose(option: Option<&str>, hpet: Option<Hpet>, spread_ppm: u64) -> ClockSource {
    let hpet_usable = hpet.is_some_and(|hpet| hpet.is_64_bit);
    let sane = features().contains(Features::TSC_INVARIANT) || spread_ppm < SANE_PPM;
    match option {
        Some("hpet") if hpet_usable => ClockSource::Hpet,
        Some("tsc") => ClockSource::Tsc,
        Some(other) => {
            log::warn!("clocksource={other} is not available here");
            ClockSource::Tsc
        }
        None if !sane && hpet_usable => ClockSource::Hpet,
        None => ClockSource::Tsc,
    }
}

/// Nanoseconds since boot.
pub fn now_ns() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.ns(rdtsc()))
}

impl Clock {
    fn ns(&self, tsc: u64) -> u64 {
        match (self.source, &self.hpet) {
            (ClockSource::Hpet, Some((hpet, base, scale))) => {
                let now = scale.apply(hpet.counter().wrapping_sub(*base));
                LATEST.fetch_max(now, Ordering::AcqRel).max(now)
            }
            // A CPU whose TSC is a few ticks behind the boot CPU's base must not wrap.
            _ => self.tsc_to_ns.apply(tsc.saturating_sub(self.tsc_base)),
        }
    }
}

/// The counter that system time comes from.
pub fn source() -> ClockSource {
    CLOCK.get().map_or(ClockSource::Tsc, |clock| clock.source)
}

/// The TSC's rate in kHz.
pub fn tsc_khz() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.tsc_khz)
}

/// TSC ticks to nanoseconds, in pvclock's form.
pub fn tsc_scale() -> Scale {
    CLOCK.get().map_or(Scale::IDENTITY, |clock| clock.tsc_to_ns)
}

/// TSC and system time of now.
pub fn stamp() -> Stamp {
    let tsc = rdtsc();
    Stamp {
        tsc,
        ns: CLOCK.get().map_or(0, |clock| clock.ns(tsc)),
    }
}

/// The TSC's value when system time will be `ns`.
pub fn tsc_at(ns: u64) -> u64 {
    let Some(clock) = CLOCK.get() else {
        return u64::MAX;
    };
    let Stamp { tsc, ns: now } = stamp();
    tsc.saturating_add(clock.ns_to_tsc.apply(ns.saturating_sub(now)))
}

/// Nanoseconds since 1970 at system time 0; add `now_ns()` for the time of day.
pub fn wall_clock() -> u64 {
    *WALL_BASE.lock()
}

/// Sets the time of day: `wall_ns` at system time `system_ns`.
pub fn set_wall_clock(wall_ns: u64, system_ns: u64) {
    *WALL_BASE.lock() = wall_ns.saturating_sub(system_ns);
}

/// For drivers at start and for the panic path only. Bounded even if the clock never started.
pub fn busy_wait_ns(ns: u64) {
    /// Ticks of an assumed 4 GHz: waits too long rather than too short.
    const TICKS_PER_NS: u64 = 4;
    let (start, start_tsc) = (now_ns(), rdtsc());
    let has_clock = CLOCK.get().is_some();
    loop {
        let ticks = rdtsc().wrapping_sub(start_tsc);
        let done = if has_clock {
            now_ns().saturating_sub(start) >= ns
        } else {
            ticks >= ns.saturating_mul(TICKS_PER_NS)
        };
        if done {
            return;
        }
        core::hint::spin_loop();
    }
}

/// The local APIC timer's rate, by this clock. All CPUs' timers run at the same rate.
pub(crate) fn calibrate_apic_timer() {
    const WINDOW_NS: u64 = 20_000_000;
    apic::timer_count(true);
    let start = now_ns();
    busy_wait_ns(WINDOW_NS);
    let ticks = u64::from(apic::timer_count(false));
    let waited = now_ns().saturating_sub(start).max(1);
    let per_ms = ticks.saturating_mul(1_000_000) / waited;
    apic::set_timer_ticks_per_ms(per_ms);
    log::info!(
        "local APIC timer: {}",
        if apic::timer_is_deadline() {
            "TSC deadline"
        } else {
            "one-shot"
        }
    );
    log::debug!("local APIC timer: {per_ms} ticks/ms");
}
