//! All hypercall numbers, with arguments that depend on the seed. First nothing that would end the
//! domain or its console is among them; then, for a while, anything goes, and the end may come
//! early.

use guest_pv_abi as abi;

use super::Setting;
use crate::base::{
    clock::{self, Deadline},
    console, hypercall,
    random::Random,
};

/// Where arguments' structures are put: RAM that is neither the kernel nor given back by its tests.
const SCRATCH: u64 = 0x0030_0000;
const WORDS: u64 = 16;

const SHUTDOWN_COMMANDS: [u64; 2] = [
    abi::SCHEDOP_SHUTDOWN as u64,
    abi::SCHEDOP_SHUTDOWN_CODE as u64,
];
/// Commands that would take the console's port away.
const PORT_COMMANDS: [u64; 2] = [abi::EVTCHNOP_CLOSE as u64, abi::EVTCHNOP_RESET as u64];

pub fn all(cx: &mut Setting) {
    let total = absent_numbers(cx);
    println!("absent numbers: {total} calls");
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut tally = Tally::default();
    while !deadline.is_over() {
        one(&mut cx.random, true, &mut tally);
    }
    println!(
        "PASS {} with mercy: {} calls, {} succeeded, slowest {:?}",
        cx.name, tally.calls, tally.succeeded, tally.slowest
    );
    console::drain();
    let deadline = Deadline::after_seconds(cx.seconds);
    while !deadline.is_over() {
        one(&mut cx.random, false, &mut tally);
    }
    println!(
        "{} without mercy: {} calls, {} succeeded",
        cx.name, tally.calls, tally.succeeded
    );
}

#[derive(Default)]
struct Tally {
    calls: u64,
    succeeded: u64,
    /// Nanoseconds, number, command.
    slowest: (u64, u64, u64),
}

/// Numbers of which nothing exists answer -ENOSYS, whatever the upper halves of registers hold.
fn absent_numbers(cx: &mut Setting) -> u64 {
    let mut calls = 0;
    let mut check = |number: u64, random: &mut Random| {
        let arguments = core::array::from_fn(|_| random.address());
        let result = hypercall::raw(number, arguments);
        assert!(result == ENOSYS, "hypercall {number:#x} gave {result}");
        calls += 1;
    };
    for number in 56..=300 {
        check(number, &mut cx.random);
    }
    for shift in 8..32 {
        check(1 << shift, &mut cx.random);
    }
    check(0xffff_ffff, &mut cx.random);
    calls
}

const ENOSYS: i64 = -38;

fn one(random: &mut Random, mercy: bool, tally: &mut Tally) {
    fill(random, mercy);
    let number = random.below(64);
    let command = match random.below(8) {
        0 => random.nasty(),
        _ => random.below(40),
    };
    if mercy && is_deadly(number, command) {
        return;
    }
    let mut arguments = [command, 0, 0, 0, 0];
    for argument in &mut arguments[1..] {
        *argument = match random.below(3) {
            0 => SCRATCH + random.below(0x1000),
            1 if !mercy => random.address(),
            1 => absent_or_scratch(random),
            _ => random.nasty(),
        };
    }
    if mercy && number == u64::from(abi::HYPERVISOR_GRANT_TABLE_OP) {
        // A count: millions would be done, one by one, and take their time.
        arguments[2] &= 0x1ff;
    }
    tally.calls += 1;
    let began = clock::now();
    if hypercall::raw(number, arguments) >= 0 {
        tally.succeeded += 1;
    }
    tally.slowest = tally.slowest.max((clock::now() - began, number, command));
}

/// Calls that end the domain, or what it needs to tell of its state.
fn is_deadly(number: u64, command: u64) -> bool {
    let command = command & 0xffff_ffff;
    let is = |call: u32| number == u64::from(call);
    (is(abi::HYPERVISOR_SCHED_OP) && (SHUTDOWN_COMMANDS.contains(&command) || sleeps(command)))
        || (is(abi::HYPERVISOR_EVENT_CHANNEL_OP) && PORT_COMMANDS.contains(&command))
        || (is(abi::HYPERVISOR_VCPU_OP) && command == u64::from(abi::VCPUOP_DOWN))
        // What multicall holds is not looked at here.
        || is(abi::HYPERVISOR_MULTICALL)
}

/// With interrupts off and no port to wait for, these wait for ever; the watchdog bites.
fn sleeps(command: u64) -> bool {
    [abi::SCHEDOP_BLOCK, abi::SCHEDOP_POLL, abi::SCHEDOP_WATCHDOG]
        .map(u64::from)
        .contains(&command)
}

/// Addresses at which nothing of ours can be overwritten by an answer.
fn absent_or_scratch(random: &mut Random) -> u64 {
    let at = random.address();
    if (0x1000..0x0200_0000).contains(&at) {
        SCRATCH + at % 0x1000
    } else {
        at
    }
}

/// Words that make sense to some calls: small numbers, addresses, frames, domain ids.
fn fill(random: &mut Random, mercy: bool) {
    let at = SCRATCH + random.below(0x200) * 8;
    for index in 0..WORDS {
        let value = match random.below(8) {
            0 => random.nasty(),
            1 => random.below(8) | random.below(8) << 32,
            2 => u64::from(abi::DOMID_SELF) | random.below(16) << 32,
            3 => SCRATCH + random.below(0x1000),
            4 if mercy => absent_or_scratch(random),
            4 => random.address(),
            // Frames of RAM above the kernel.
            5 => 0x400 + random.below(0x3000),
            6 => u64::from(abi::DOMID_SELF),
            _ => random.next(),
        };
        // SAFETY: RAM that belongs to no Rust object.
        unsafe { ((at + index * 8) as *mut u64).write_volatile(value) };
    }
}
