//! The tests, by name.

mod lifecycle;

use crate::base::arguments::Arguments;
use crate::base::random::Random;

/// What a test gets.
pub struct Setting {
    pub name: &'static str,
    pub arguments: Arguments,
    pub seed: u64,
    pub random: Random,
    /// How long tests that could go on for ever do.
    pub seconds: u64,
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
        arguments: *arguments,
        seed,
        random: Random::new(seed),
        seconds: arguments.number("seconds", 5),
    };
    println!("TEST {name} seed={seed}");
    test(&mut setting);
}
