//! Model-specific registers: all of the known ranges are read, and written with values that depend
//! on the seed; each access works or gives #GP. Then CR4, XCR0 and CPUID get the same.

use core::arch::x86_64::__cpuid_count;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::cpu::{self, GENERAL_PROTECTION};
use crate::base::trap::guard;

const RANGES: &[(u32, u32)] = &[
    (0, 0x2000),
    (0x4000_0000, 0x4000_0400),
    (0xc000_0000, 0xc000_2000),
    (0xc001_0000, 0xc001_2000),
    (0xffff_ff00, 0xffff_ffff),
];

/// MSRs that the test must not change, or it dies: EFER, the APIC base, and the hypercall page
/// (which writes into memory).
const SPARED: [u32; 3] = [0xc000_0080, 0x1b, 0x4000_0000];

const INVALID_OPCODE: u64 = 6;

pub fn all(cx: &mut Setting) {
    let (mut readable, mut refused) = (0u64, 0u64);
    for &(first, end) in RANGES {
        for msr in first..end {
            match guard(|| {
                core::hint::black_box(cpu::rdmsr(msr));
            }) {
                Ok(()) => readable += 1,
                Err(trap) => {
                    assert!(trap.vector == GENERAL_PROTECTION, "RDMSR {msr:#x}: {trap}");
                    refused += 1;
                }
            }
        }
    }
    println!("readable={readable} refused={refused}");
    let mut written = 0u64;
    for &(first, end) in RANGES {
        for msr in (first..end).filter(|msr| !SPARED.contains(msr)) {
            let value = cx.random.nasty();
            match guard(|| cpu::wrmsr(msr, value)) {
                Ok(()) => written += 1,
                Err(trap) => {
                    assert!(
                        trap.vector == GENERAL_PROTECTION,
                        "WRMSR {msr:#x} {value:#x}: {trap}"
                    )
                }
            }
        }
    }
    // The clock's registers were among them, so nothing here may ask for the time.
    println!("PASS {} written={written}", cx.name);
}

/// The hypercall page at addresses that are not there, or not aligned, and over this kernel's end.
pub fn hypercall_page(cx: &mut Setting) {
    let mut refused = 0;
    for _ in 0..500 {
        let value = cx.random.address();
        if (0x1000..0x0040_0000).contains(&value) {
            continue;
        }
        refused += u32::from(guard(|| cpu::wrmsr(0x4000_0000, value)).is_err());
    }
    println!("PASS {} refused={refused}", cx.name);
}

pub fn xsetbv(cx: &mut Setting) {
    const OSXSAVE: u64 = 1 << 18;
    let xsave = __cpuid_count(1, 0).ecx & 1 << 26 != 0;
    if xsave {
        let before = guard(|| cpu::xsetbv(0, 1));
        assert!(
            before.is_err_and(|trap| trap.vector == INVALID_OPCODE),
            "XSETBV without CR4.OSXSAVE did not give #UD"
        );
        cpu::set_cr4(cpu::cr4() | OSXSAVE);
    }
    let known = __cpuid_count(13, 0);
    let mask = u64::from(known.edx) << 32 | u64::from(known.eax);
    let (mut taken, mut escaped, mut refused) = (0u64, 0u64, 0u64);
    for _ in 0..20_000 {
        let (index, value) = (
            cx.random.pick(&[0, 0, 0, 1, 2, u32::MAX]),
            cx.random.nasty(),
        );
        match guard(|| cpu::xsetbv(index, value)) {
            Ok(()) => {
                let right = index == 0 && value & 1 != 0 && xsave;
                assert!(right, "XSETBV {index} {value:#x} was taken");
                taken += 1;
                // An emulator that does not intercept XSETBV lets through what itself has.
                escaped += u64::from(value & !mask != 0);
            }
            Err(_) => refused += 1,
        }
    }
    println!(
        "PASS {} taken={taken} escaped={escaped} refused={refused}",
        cx.name
    );
}

/// Bits of CR4 in all combinations that the seed gives, then also those that no CPU has: each value
/// is taken or refused, and the reserved bits are refused.
pub fn control_registers(cx: &mut Setting) {
    const PAE: u64 = 1 << 5;
    // All but VMXE, SMXE, LA57, PCIDE and what features may lack.
    const KNOWN: u64 = 0x007df;
    let (mut taken, mut refused) = (0u64, 0u64);
    for (mask, rounds) in [(KNOWN, 19_000), (u64::MAX, 1_000)] {
        let deadline = Deadline::after_seconds(cx.seconds);
        refused = 0;
        for _ in 0..rounds {
            let value = cx.random.nasty() & mask | PAE;
            match guard(|| cpu::set_cr4(value)) {
                Ok(()) => taken += 1,
                Err(_) => refused += 1,
            }
            let _ = guard(|| cpu::set_cr4(PAE));
            if deadline.is_over() {
                break;
            }
        }
    }
    assert!(refused > 0, "bits that no CPU has were taken");
    println!("PASS {} taken={taken} refused={refused}", cx.name);
}

/// CPUID as often as it can be had, all leaves that exist and others; the hypervisor's say who it
/// is.
pub fn cpuid(cx: &mut Setting) {
    let leaf = __cpuid_count(0x4000_0000, 0);
    let name = [leaf.ebx, leaf.ecx, leaf.edx];
    assert!(
        name == [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e],
        "the hypervisor's name is {name:x?}"
    );
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut count = 0u64;
    while !deadline.is_over() {
        for _ in 0..256 {
            let leaf =
                cx.random.pick(&[0, 0x4000_0000, 0x8000_0000]) + cx.random.below(0x40) as u32;
            let leaf = if cx.random.one_in(8) {
                cx.random.next() as u32
            } else {
                leaf
            };
            let sub = cx.random.nasty() as u32;
            let once = __cpuid_count(leaf, sub);
            let again = __cpuid_count(leaf, sub);
            assert!(
                (once.eax, once.ecx) == (again.eax, again.ecx) || leaf == 0x4000_0003,
                "leaf {leaf:#x}.{sub:#x} changes"
            );
            count += 1;
        }
    }
    println!("PASS {} leaves={count}", cx.name);
}

/// CMPXCHG16B may change ZF alone. QEMU 7.2's leaves flags of its own making (docs/testing.md), and
/// then it must be hidden from CPUID. Most of the flags that it spoils are not looked at, as some
/// of them would end this kernel: those of arithmetic are enough.
pub fn compare_exchange(cx: &mut Setting) {
    const ARITHMETIC: u64 = 0x8d5;
    const ZERO: u64 = 1 << 6;
    #[repr(C, align(16))]
    struct Pair([u64; 2]);
    let shown = __cpuid_count(1, 0).ecx & 1 << 13 != 0;
    let (mut spoilt, mut rounds) = (0u64, 0u64);
    for _ in 0..10_000 {
        let mut pair = Pair([cx.random.below(2), 0]);
        let (flags, after): (u64, u64);
        let operand = cx.random.next();
        // SAFETY: exchanges a pair of our own; RAX keeps bits that would be harmless as flags.
        unsafe {
            core::arch::asm!(
                "mov r8, rbx",
                "xor ebx, ebx",
                "add {operand}, {operand}",
                "pushfq",
                "pop {flags}",
                "lock cmpxchg16b [{pair}]",
                "pushfq",
                "pop {after}",
                "push {flags}",
                "popfq",
                "mov rbx, r8",
                operand = inout(reg) operand => _,
                flags = out(reg) flags,
                after = out(reg) after,
                pair = in(reg) &raw mut pair.0,
                inout("rax") 0u64 => _,
                inout("rdx") 0u64 => _,
                in("rcx") 0u64,
                out("r8") _,
            );
        }
        spoilt += u64::from((flags ^ after) & ARITHMETIC & !ZERO != 0);
        rounds += 1;
    }
    println!("cmpxchg16b shown={shown} spoilt={spoilt} of={rounds}");
    assert!(
        !shown || spoilt == 0,
        "CPUID shows an instruction that does not work"
    );
    println!("PASS {}", cx.name);
}
