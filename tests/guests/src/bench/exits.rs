//! Instructions that make the guest exit, and one exception that must not.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use super::{Bench, measure};
use crate::base::{cpu, trap};

pub const BENCHES: &[Bench] = &[
    ("cpuid", cpuid),
    ("msr-read", msr_read),
    ("port-io", port_io),
    ("npt-hole", npt_hole),
    ("page-fault", page_fault),
];

const APIC_BASE: u32 = 0x1b;
/// COM2's: nobody has it in a PVH guest.
const PORT: u16 = 0x2f8;
/// Neither RAM nor a device's.
const HOLE: u64 = 0xd000_0000;
/// Beyond what the kernel maps.
const UNMAPPED: u64 = 1 << 39;

fn cpuid(name: &str) {
    measure(name, 256, || {
        core::hint::black_box(__cpuid(1));
    });
}

/// RDMSR of a register that both hypervisors keep themselves.
fn msr_read(name: &str) {
    measure(name, 256, || {
        core::hint::black_box(cpu::rdmsr(APIC_BASE));
    });
}

fn port_io(name: &str) {
    measure(name, 256, || {
        let value: u8;
        // SAFETY: a read of a port that nothing is behind.
        unsafe { asm!("in al, dx", in("dx") PORT, out("al") value) };
        core::hint::black_box(value);
    });
}

/// A read of an address without memory: nested fault, p2m, instruction emulator.
fn npt_hole(name: &str) {
    measure(name, 128, || {
        // SAFETY: mapped one to one; nothing of Rust's is there.
        core::hint::black_box(unsafe { (HOLE as *const u32).read_volatile() });
    });
}

/// A page fault of the guest's own: the hypervisor must not see it.
fn page_fault(name: &str) {
    measure(name, 128, || {
        let fault = trap::guard(|| {
            // SAFETY: faults, which is caught.
            core::hint::black_box(unsafe { (UNMAPPED as *const u8).read_volatile() });
        });
        assert!(fault.is_err(), "an unmapped page was read");
    });
}
