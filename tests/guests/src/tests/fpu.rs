//! Extended state across preemption: all components that CPUID shows and that take any bits (x87,
//! SSE, AVX, AVX-512, PKRU) are loaded with a pattern of the seed's, and looked at again after a
//! while in which other domains ran. Compiled code here uses none of them.

use core::arch::x86_64::__cpuid_count;
use core::cell::UnsafeCell;

use test_xstate::{State, shown};

use super::Setting;
use crate::base::clock::{self, Deadline};
use crate::base::random::Random;
use crate::base::{cpu, hypercall};

const OSFXSR: u64 = 1 << 9;
const OSFXSR_OSXSAVE: u64 = OSFXSR | 1 << 18;
const PKE: u64 = 1 << 22;

#[repr(C, align(64))]
struct Legacy([u8; 512]);

struct LegacyArea(UnsafeCell<Legacy>);

// SAFETY: one CPU uses it.
unsafe impl Sync for LegacyArea {}

static LEGACY: LegacyArea = LegacyArea(UnsafeCell::new(Legacy([0; 512])));

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

/// Registers that instructions reach before their component is enabled in XCR0: SSE by CR4.OSFXSR,
/// PKRU by CR4.PKE. They hold this guest's values only, the initial ones at first; and so do
/// components that are enabled later. To run beside the test `fpu`, whose patterns would be seen
/// here.
pub fn unannounced(cx: &mut Setting) {
    cpu::set_cr4(cpu::cr4() | OSFXSR);
    let keys = __cpuid_count(7, 0).ecx & 1 << 3 != 0;
    if keys {
        cpu::set_cr4(cpu::cr4() | PKE);
    }
    let xsave = __cpuid_count(1, 0).ecx & 1 << 26 != 0;
    let deadline = Deadline::after_seconds(cx.seconds);
    // SAFETY: nothing else refers to it.
    let area = unsafe { &mut *LEGACY.0.get() };
    let (mut rounds, mut switches) = (0u64, 0u64);
    let mut expected = [0u8; 256];
    while !deadline.is_over() {
        // SAFETY: the area is large enough and aligned; compiled code here uses no vector
        // registers.
        unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) area.0.as_mut_ptr()) };
        assert!(area.0[160..416] == expected, "SSE registers are another's");
        assert!(
            area.0[24..28] == 0x1f80u32.to_le_bytes(),
            "MXCSR is another's"
        );
        assert!(!keys || cpu::rdpkru() == 0, "PKRU is another's");
        if rounds > 3 {
            // This guest's own state stays, too.
            expected.fill_with(|| cx.random.next() as u8);
            area.0[160..416].copy_from_slice(&expected);
            // SAFETY: as above.
            unsafe { core::arch::asm!("fxrstor64 [{}]", in(reg) area.0.as_ptr()) };
        }
        switches += wait(&mut cx.random);
        rounds += 1;
    }
    if xsave {
        enabled_late();
    }
    println!(
        "PASS {} rounds={rounds} gaps={switches} keys={keys} xsave={xsave}",
        cx.name
    );
}

/// A state component that XSETBV adds has the initial state: all zero.
fn enabled_late() {
    cpu::set_cr4(cpu::cr4() | OSFXSR_OSXSAVE);
    let mask = shown();
    cpu::xsetbv(0, mask);
    // SAFETY: nothing else refers to it.
    let state = unsafe { &mut *STATE.0.get() };
    // SAFETY: OSXSAVE is on and XCR0 as wanted; the code is compiled without vector registers.
    if let Err(found) = unsafe { state.is_initial_beyond_sse(mask) } {
        panic!("enabled by XSETBV and not initial: {found}");
    }
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
