//! Extended state across preemption: all components that CPUID shows and that take any bits (x87, SSE,
//! AVX, AVX-512, PKRU) are loaded with a pattern of the seed's, and looked at again after a while in
//! which other domains ran. Compiled code here uses none of them.

use core::arch::x86_64::__cpuid_count;
use core::cell::UnsafeCell;

use test_xstate::{State, shown};

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::random::Random;
use crate::base::{cpu, hypercall};

const OSFXSR_OSXSAVE: u64 = 1 << 9 | 1 << 18;

struct Static(UnsafeCell<State>);

// SAFETY: one CPU uses it.
unsafe impl Sync for Static {}

/// Too large for the stack.
static STATE: Static = Static(UnsafeCell::new(State::new()));

pub fn patterns(cx: &mut Setting) {
    assert!(__cpuid_count(1, 0).ecx & 1 << 26 != 0, "no XSAVE");
    cpu::set_cr4(cpu::cr4() | OSFXSR_OSXSAVE);
    let mask = shown();
    cpu::xsetbv(0, mask);
    let xsaves = __cpuid_count(13, 1).eax & 1 << 3 != 0;
    println!("components={mask:#x} xsaves={xsaves}");
    // SAFETY: nothing else refers to it.
    let state = unsafe { &mut *STATE.0.get() };
    let deadline = Deadline::after_seconds(cx.seconds);
    let (mut rounds, mut switches) = (0u64, 0u64);
    while !deadline.is_over() {
        state.fill(mask, || cx.random.next());
        // SAFETY: OSXSAVE is on and XCR0 as wanted; the code is compiled without vector registers.
        unsafe {
            state.load();
            if xsaves {
                state.there_and_back();
            }
            switches += wait(&mut cx.random);
            state.save();
        }
        if let Err(changed) = state.compare() {
            panic!("{changed}");
        }
        rounds += 1;
    }
    println!("PASS {} rounds={rounds} gaps={switches}", cx.name);
}

/// Runs or yields for a while; counts the gaps in which something else seems to have run.
fn wait(random: &mut Random) -> u64 {
    let until = clock::now() + random.below(10_000_000);
    let mut gaps = 0;
    let mut last = clock::now();
    while last < until {
        if random.one_in(1000) {
            hypercall::yield_now();
        }
        let now = clock::now();
        gaps += u64::from(now - last > 200_000);
        last = now;
    }
    gaps
}
