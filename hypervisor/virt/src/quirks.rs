//! Faults of particular emulators, found by CPUID. Each is worked around in one place, the back end
//! or policy that knows about the fault.

use crate::x86::CpuIdReader;

/// The faults of the machine that the hypervisor runs on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Quirks {
    /// QEMU's TCG reports each interrupted event as an exception, whatever its type was.
    pub event_type_lost: bool,
    /// QEMU's TCG before 9 executes XSETBV in a guest although it is intercepted (the self-test
    /// shows this). So the current XCR0 of a loaded guest is in the register.
    pub xsetbv_runs: bool,
    /// QEMU's TCG keeps an interrupt that VMRUN injected noted as the CPU's exception, and delivers
    /// it a second time if another of the emulator's threads requests an interrupt before the next
    /// exit: at the first instruction of the handler, say, on the guest's user GS. An exit right
    /// behind the injection clears the note. docs/testing.md describes what was seen; no test of
    /// its own shows the fault.
    pub injects_twice: bool,
    /// QEMU's TCG does not load, at VMRUN, the interrupt shadow that the last exit stored. So an
    /// interrupt could be delivered between STI and HLT, and the HLT would sleep through it (the
    /// test guest `halts` shows this).
    pub shadow_lost: bool,
    /// QEMU's TCG sets wrong flags at CMPXCHG16B, bits of RAX among them, and the next IRET faults
    /// (the test guest `cmpxchg16b` shows this). So CPUID hides the instruction from dom0 and
    /// guests.
    pub cx16_broken: bool,
    /// QEMU's TCG aborts at a MOV to CR8 that lets a virtual interrupt in (`tcg_handle_interrupt:
    /// assertion failed`, in 7.2). So no window is requested that depends on CR8; the test guest
    /// `cr8` is not for that machine.
    pub cr8_aborts: bool,
}

impl Quirks {
    /// Finds the emulator by the hypervisor bit and leaf 0x4000_0000 of CPUID.
    pub(crate) fn detect(cpuid: &impl CpuIdReader) -> Self {
        let leaf = cpuid.cpuid2(0x4000_0000, 0);
        let tcg = cpuid.cpuid2(1, 0).ecx & (1 << 31) != 0
            && [leaf.ebx, leaf.ecx, leaf.edx]
                .map(u32::to_le_bytes)
                .concat()
                == b"TCGTCGTCGTCG";
        Self {
            event_type_lost: tcg,
            xsetbv_runs: tcg,
            injects_twice: tcg,
            shadow_lost: tcg,
            cx16_broken: tcg,
            cr8_aborts: tcg,
        }
    }
}
