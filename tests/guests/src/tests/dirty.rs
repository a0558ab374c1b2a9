//! Pages for the reader of the log of written pages to find: on the word `write SEED` all CPUs
//! write random pages of a region, some of them through the hypervisor, and the region's true
//! bitmap is printed.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use guest_pv_abi as abi;

use super::Setting;
use crate::base::random::Random;
use crate::base::{clock, console, hypercall, smp};

/// 16 MiB to 32 MiB.
const FIRST: u64 = 0x1000;
const COUNT: usize = 0x1000;
/// The page whose area the hypervisor writes whenever this CPU stops or goes on.
const RUNSTATE: usize = COUNT - 1;

/// The CPU that writes the page in this round.
static PLAN: [AtomicU8; COUNT] = [const { AtomicU8::new(NOBODY) }; COUNT];
/// The word that each page holds: 0 if the page was never written.
static HOLDS: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];
const NOBODY: u8 = u8::MAX;

static ROUND: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);

pub fn pattern(cx: &mut Setting) {
    let mut cpus = 1;
    for number in 1..smp::MOST {
        cpus += u32::from(smp::start(number, work).is_ok());
    }
    let mut area = (FIRST + RUNSTATE as u64) << 12;
    hypercall::vcpu(abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut area);
    println!("READY cpus={cpus}");
    let mut line = [0; 80];
    let mut len = 0;
    loop {
        match console::read() {
            Some(b'\r' | b'\n') => {
                let text = core::str::from_utf8(&line[..len]).unwrap_or("?");
                match text.split_once(' ') {
                    Some(("write", seed)) => round(seed.trim().parse().unwrap_or(1), cpus),
                    _ => return check(cx),
                }
                len = 0;
            }
            Some(byte) if len < line.len() => {
                line[len] = byte;
                len += 1;
            }
            Some(_) => {}
            None => clock::sleep_ms(5),
        }
    }
}

/// One round: a plan, its execution by all, and its bitmap, 512 pages a line.
fn round(seed: u64, cpus: u32) {
    let mut random = Random::new(seed);
    let sparse = 1 + random.below(16);
    for who in &PLAN[..RUNSTATE] {
        let one = random.below(cpus.into()) as u8;
        let write = random.one_in(sparse);
        who.store(if write { one } else { NOBODY }, Ordering::SeqCst);
    }
    PLAN[RUNSTATE].store(0, Ordering::SeqCst);
    DONE.store(0, Ordering::SeqCst);
    ROUND.fetch_add(1, Ordering::SeqCst);
    part(0);
    while DONE.load(Ordering::SeqCst) < cpus {
        hypercall::yield_now();
    }
    let mut written = 0;
    for (line, pages) in PLAN.chunks(512).enumerate() {
        let mut digits = [b'0'; 128];
        for (n, who) in pages.iter().enumerate() {
            let mine = who.load(Ordering::SeqCst) != NOBODY;
            written += u32::from(mine);
            // Bytes lowest first, each as two digits.
            let (byte, bit) = (n / 8, n % 8);
            let digit = &mut digits[byte * 2 + usize::from(bit < 4)];
            let value = (*digit as char).to_digit(16).unwrap_or(0) | u32::from(mine) << (bit % 4);
            *digit = char::from_digit(value, 16).map_or(b'?', |digit| digit as u8);
        }
        println!(
            "MAP {line} {}",
            core::str::from_utf8(&digits).unwrap_or("?")
        );
    }
    println!("WROTE seed={seed} pages={written}");
}

/// The other CPUs' life.
fn work(number: usize) {
    let mut seen = 0;
    loop {
        let round = ROUND.load(Ordering::SeqCst);
        if round != seen {
            seen = round;
            part(number);
        }
        hypercall::yield_now();
    }
}

fn part(number: usize) {
    let round = ROUND.load(Ordering::SeqCst);
    for (page, who) in PLAN[..RUNSTATE].iter().enumerate() {
        if usize::from(who.load(Ordering::SeqCst)) != number {
            continue;
        }
        let at = (FIRST + page as u64) << 12;
        let value = (round << 32) | (page as u64 + 1);
        let inside = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
        // Some pages the hypervisor writes, and nobody else.
        if page % 16 == 5 {
            let number = abi::HYPERVISOR_XEN_VERSION.into();
            hypercall::raw(number, [abi::XENVER_EXTRAVERSION.into(), at, 0, 0, 0]);
            continue;
        }
        // SAFETY: RAM that belongs to no Rust object.
        unsafe { (at as *mut u64).add(inside as usize).write_volatile(value) };
        HOLDS[page].store(value, Ordering::SeqCst);
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}

/// Checks that each page still holds the word that was written last.
fn check(cx: &mut Setting) {
    let mut wrong = 0;
    for (page, holds) in HOLDS.iter().enumerate() {
        let value = holds.load(Ordering::SeqCst);
        if value == 0 {
            continue;
        }
        let at = (FIRST + page as u64) << 12;
        let inside = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55;
        // SAFETY: as above.
        let found = unsafe { (at as *const u64).add(inside as usize).read_volatile() };
        wrong += u32::from(found != value);
    }
    let word = if wrong == 0 { "PASS" } else { "FAIL" };
    println!("{word} {} wrong={wrong}", cx.name);
}
