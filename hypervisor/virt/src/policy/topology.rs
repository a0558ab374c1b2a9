//! The shape that CPUID shows: one package, one thread a core, APIC id = 2 * vcpu (as Xen's ABI
//! has it, in the MADT too).

use crate::features::{Ext1Ecx, Leaf1Edx};
use crate::x86::CpuIdResult;

pub(super) fn apic_id(vcpu: u32) -> u32 {
    vcpu.wrapping_mul(2)
}

/// Bits of an APIC id that number the cores of the package.
fn id_bits(vcpus: u32) -> u32 {
    vcpus
        .max(1)
        .saturating_mul(2)
        .next_power_of_two()
        .trailing_zeros()
}

pub(super) fn leaf_1(r: &mut CpuIdResult, vcpus: u32) {
    r.ebx = r.ebx & 0xffff | vcpus.saturating_mul(2).min(0xff) << 16;
    r.edx &= !Leaf1Edx::HTT.bits();
    if vcpus > 1 {
        r.edx |= Leaf1Edx::HTT.bits();
    }
}

/// AMD: the logical processors of leaf 1 are cores.
pub(super) fn legacy_cores(r: &mut CpuIdResult, vcpus: u32) {
    r.ecx &= !Ext1Ecx::CMP_LEGACY.bits();
    if vcpus > 1 {
        r.ecx |= Ext1Ecx::CMP_LEGACY.bits();
    }
}

/// AMD, leaf 0x80000008: cores - 1, and how many bits of the APIC id are theirs.
pub(super) fn core_bits(r: &mut CpuIdResult, vcpus: u32) {
    r.ecx = vcpus.saturating_sub(1).min(0xff) | (id_bits(vcpus) & 0xf) << 12;
}

/// Intel, leaf 4 EAX: bits 14-25, how many logical processors share the cache - 1; bits 26-31, core
/// ids of the package - 1.
pub(super) fn cache(eax: u32, vcpus: u32) -> u32 {
    eax & 0x3fff | vcpus.saturating_sub(1).min(0x3f) << 26
}

pub(super) fn leaf_b(subleaf: u32, vcpu: u32, vcpus: u32) -> CpuIdResult {
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    let (eax, ebx, ecx) = match subleaf {
        0 => (1, 1, THREADS),
        1 => (id_bits(vcpus), vcpus, CORES | 1),
        n => (0, 0, n & 0xff),
    };
    CpuIdResult {
        eax,
        ebx,
        ecx,
        edx: apic_id(vcpu),
    }
}
