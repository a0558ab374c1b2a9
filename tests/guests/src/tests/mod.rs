//! The tests, by name.

mod dirty;
mod events;
mod fpu;
mod grants;
mod hypercalls;
mod interrupts;
mod io;
mod legacy;
mod lifecycle;
mod memory;
mod mmio;
mod msr;
mod netfront;
mod pagetables;
mod reserved;
mod startup;
mod time;
mod timers;
mod vbd;
mod x2apic;

use crate::base::arguments::Arguments;
use crate::base::random::Random;
use crate::bench;

/// The setting in which a test runs.
pub struct Setting {
    pub name: &'static str,
    pub random: Random,
    /// How long tests that could go on for ever do.
    pub seconds: u64,
    /// One part of what a test does; all of it without.
    pub only: Option<&'static str>,
    /// The machine's time stamp counter counts time, and not instructions.
    pub timed: bool,
}

type Test = fn(&mut Setting);

const TESTS: &[(&str, Test)] = &[
    ("hello", lifecycle::hello),
    ("echo", lifecycle::echo),
    ("reboot", lifecycle::reboot),
    ("crash", lifecycle::crash),
    ("suspend", lifecycle::suspend),
    ("watchdog", lifecycle::watchdog),
    ("triple", lifecycle::triple),
    ("spin", lifecycle::spin),
    ("hltif0", lifecycle::halt_without_interrupts),
    ("hypercalls", hypercalls::all),
    ("mmio", mmio::wild),
    ("io", io::all),
    ("msr", msr::all),
    ("hypercall-page", msr::hypercall_page),
    ("xsetbv", msr::xsetbv),
    ("control-registers", msr::control_registers),
    ("cpuid", msr::cpuid),
    ("cmpxchg16b", msr::compare_exchange),
    ("events", events::abuse),
    ("fifo", events::fifo),
    ("grants", grants::abuse),
    ("memory", memory::abuse),
    ("vbd-hostile", vbd::hostile),
    ("vbd-busy", vbd::busy),
    ("netfront", netfront::abuse),
    ("pagetables", pagetables::nonsense),
    ("reserved-bits", reserved::all),
    ("timers", timers::abuse),
    ("halts", timers::halts),
    ("exceptions", interrupts::exceptions),
    ("alignment", legacy::alignment),
    ("task-switch", legacy::task_switch),
    ("ipis", interrupts::ipis),
    ("nmis", interrupts::nmis),
    ("startup", startup::all),
    ("cr8", interrupts::task_priority),
    ("x2apic", x2apic::all),
    ("clock", time::clock),
    ("tsc", time::tsc),
    ("share", time::share),
    ("fpu", fpu::patterns),
    ("fpu-unannounced", fpu::unannounced),
    ("dirty", dirty::pattern),
    ("bench", bench::alone),
    ("bench-ipi", bench::ipi),
    ("bench-ping", bench::ping),
    ("bench-pong", bench::pong),
];

/// Runs the test of the command line.
pub fn run(arguments: &Arguments) {
    let wanted = arguments.text("test").unwrap_or("hello");
    let Some((name, test)) = TESTS.iter().find(|(name, _)| *name == wanted) else {
        println!("FAIL no test is called {wanted}");
        return;
    };
    let seed = arguments.number("seed", 1);
    let mut setting = Setting {
        name,
        random: Random::new(seed),
        seconds: arguments.number("seconds", 5),
        only: arguments.text("only"),
        timed: arguments.number("timed", 0) != 0,
    };
    println!("TEST {name} seed={seed}");
    test(&mut setting);
}
