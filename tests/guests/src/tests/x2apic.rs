//! The local APIC in x2APIC mode, which hardware may keep by itself: what is pending comes in the
//! order of its priority, when interrupts are on and the task priority allows it, once; registers
//! show it; bad accesses fault.

use core::sync::atomic::Ordering;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::cpu::{self, GENERAL_PROTECTION, rdmsr, wrmsr};
use crate::base::trap;

const APIC_BASE: u32 = 0x1b;
const TPR: u32 = 0x808;
const PPR: u32 = 0x80a;
const EOI: u32 = 0x80b;
const ISR: u32 = 0x810;
const IRR: u32 = 0x820;
const ESR: u32 = 0x828;
const ICR: u32 = 0x830;
const SELF_IPI: u32 = 0x83f;
const SELF: u64 = 0x4_0000;
/// Vectors from here on, below the callback's.
const FIRST: u64 = 0x30;
const COUNT: u64 = 0xb0;

/// No register, read-only, or with bits that do not exist.
const BAD_WRITES: [(u32, u64); 9] = [
    (EOI, 1),
    (TPR, 0x100),
    (SELF_IPI, 0x100),
    (PPR, 0),
    (0x802, 0),
    (ISR, 0),
    (IRR, 0),
    (0x80e, 0),
    (0x8ff, 0),
];
const BAD_READS: [u32; 5] = [EOI, SELF_IPI, 0x80e, 0x831, 0x8ff];

pub fn all(cx: &mut Setting) {
    cpu::apic_write(0xf0, 0x1ff);
    wrmsr(APIC_BASE, rdmsr(APIC_BASE) | 1 << 10);
    trap::X2APIC.store(1, Ordering::SeqCst);
    assert!(rdmsr(0x802) == 0 && rdmsr(0x80d) == 1, "not the first CPU");
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut rounds = 0u64;
    while rounds == 0 || !deadline.is_over() {
        for _ in 0..32 {
            let first = FIRST + cx.random.below(COUNT);
            let second = FIRST + cx.random.below(COUNT);
            pending(first, second);
            held_back(first);
            rounds += 1;
        }
    }
    faults();
    let unwanted = trap::UNWANTED.load(Ordering::SeqCst);
    assert!(
        unwanted == 0,
        "{unwanted} interrupts came while interrupts were off"
    );
    println!("PASS {} rounds={rounds}", cx.name);
}

fn count(vector: u64) -> u32 {
    trap::COUNTS[vector as usize].load(Ordering::SeqCst)
}

fn shown(register: u32, vector: u64) -> bool {
    rdmsr(register + (vector / 32) as u32) >> (vector % 32) & 1 != 0
}

fn raise(vector: u64, by_command: bool) {
    if by_command {
        wrmsr(ICR, SELF | vector);
    } else {
        wrmsr(SELF_IPI, vector);
    }
}

/// Two of them wait until interrupts are on, then come once each. A third time is merged with the
/// first.
fn pending(first: u64, second: u64) {
    let (before, also) = (count(first), count(second));
    raise(first, false);
    raise(second, true);
    raise(first, true);
    assert!(shown(IRR, first) && shown(IRR, second), "not pending");
    assert!(!shown(ISR, first), "taken with interrupts off");
    // Time for an interrupt of the host, which must not let these in.
    for _ in 0..200 {
        core::hint::spin_loop();
    }
    assert!(count(first) == before, "{first:#x} came too early");
    cpu::interrupt_window();
    assert!(count(first) == before + 1, "{first:#x} did not come once");
    assert!(count(second) == also + 1, "{second:#x} did not come once");
    let left = (0..8).any(|n| rdmsr(ISR + n) | rdmsr(IRR + n) != 0);
    assert!(!left, "something is left of {first:#x} and {second:#x}");
}

/// The task priority holds it back, until it is lowered.
fn held_back(vector: u64) {
    let before = count(vector);
    wrmsr(TPR, vector | 0xf);
    assert!(rdmsr(PPR) == vector | 0xf, "the priority is not the task's");
    raise(vector, false);
    cpu::interrupt_window();
    assert!(
        count(vector) == before,
        "{vector:#x} came over the priority"
    );
    wrmsr(TPR, (vector & 0xf0) - 1);
    cpu::interrupt_window();
    assert!(count(vector) == before + 1, "{vector:#x} did not come");
    wrmsr(TPR, 0);
    assert!(rdmsr(PPR) == 0, "a priority is left");
}

fn faults() {
    for (msr, value) in BAD_WRITES {
        let end = trap::guard(|| wrmsr(msr, value));
        assert!(
            end.is_err_and(|trap| trap.vector == GENERAL_PROTECTION),
            "{value:#x} into {msr:#x}"
        );
    }
    for msr in BAD_READS {
        let end = trap::guard(|| {
            rdmsr(msr);
        });
        assert!(
            end.is_err_and(|trap| trap.vector == GENERAL_PROTECTION),
            "a read of {msr:#x}"
        );
    }
    // No APIC sends such a vector: an error, and nothing else.
    wrmsr(ESR, 0);
    wrmsr(SELF_IPI, 3);
    wrmsr(ESR, 0);
    assert!(rdmsr(ESR) == 1 << 5, "the error is not noted");
}
