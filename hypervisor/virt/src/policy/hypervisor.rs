//! The hypervisor's CPUID leaves, 0x4000_0000 and up (xen/arch-x86/cpuid.h), and the page of
//! hypercall stubs.

use guest_pv_abi as abi;
use oxen_types::DomainId;

use crate::x86::CpuIdResult;

/// The MSR by which a guest requests a page of hypercall stubs. Leaf 2 reports the number.
pub const MSR_HYPERCALL_PAGE: u32 = 0x4000_0000;

// Flags of leaf 3. The header describes them in a comment only.
const TSC_HOST_SAFE: u32 = 1 << 1;
const TSC_RDTSCP: u32 = 1 << 2;

/// The values of the hypervisor's leaves for one domain.
#[derive(Clone, Copy, Debug)]
pub struct HypervisorInfo {
    pub domain: DomainId,
    pub major: u16,
    pub minor: u16,
    /// The host's TSC ticks at one constant rate on all CPUs.
    pub tsc_reliable: bool,
    pub rdtscp: bool,
    pub tsc_khz: u32,
    pub tsc_mode: u32,
    /// The number of the domain's incarnation, which each migration increments.
    pub incarnation: u32,
    pub tsc_offset: u64,
    /// pvclock's factor and shift for the guest's TSC.
    pub tsc_mul: u32,
    pub tsc_shift: i8,
    /// Foreign pages can be the target of DMA.
    pub iommu_mappings: bool,
}

impl HypervisorInfo {
    /// `leaf` counts from 0x40000000.
    pub(super) fn query(&self, leaf: u32, subleaf: u32, vcpu: u32) -> CpuIdResult {
        let [eax, ebx, ecx, edx] = match (leaf, subleaf) {
            (0, _) => [
                abi::XEN_CPUID_FIRST_LEAF + abi::XEN_CPUID_MAX_NUM_LEAVES,
                abi::XEN_CPUID_SIGNATURE_EBX,
                abi::XEN_CPUID_SIGNATURE_ECX,
                abi::XEN_CPUID_SIGNATURE_EDX,
            ],
            (1, _) => [u32::from(self.major) << 16 | u32::from(self.minor), 0, 0, 0],
            (2, _) => [1, MSR_HYPERCALL_PAGE, 0, 0],
            (3, 0) => {
                let flag = |on: bool, bit: u32| if on { bit } else { 0 };
                let flags = flag(self.tsc_reliable, TSC_HOST_SAFE) | flag(self.rdtscp, TSC_RDTSCP);
                [flags, self.tsc_mode, self.tsc_khz, self.incarnation]
            }
            (3, 1) => [
                self.tsc_offset as u32,
                (self.tsc_offset >> 32) as u32,
                self.tsc_mul,
                i32::from(self.tsc_shift) as u32,
            ],
            (3, 2) => [self.tsc_khz, 0, 0, 0],
            (4, _) => {
                let iommu = if self.iommu_mappings {
                    abi::XEN_HVM_CPUID_IOMMU_MAPPINGS
                } else {
                    0
                };
                let flags = iommu
                    | abi::XEN_HVM_CPUID_VCPU_ID_PRESENT
                    | abi::XEN_HVM_CPUID_DOMID_PRESENT
                    | abi::XEN_HVM_CPUID_UPCALL_VECTOR;
                [flags, vcpu, u32::from(self.domain.0), 0]
            }
            _ => [0; 4],
        };
        CpuIdResult { eax, ebx, ecx, edx }
    }
}

/// Fills the page of hypercall stubs: `mov eax, n; vmmcall; ret` every 32 bytes (VMCALL unless
/// `amd`). The stub of HYPERVISOR_iret is UD2: an HVM-style guest does not return from exceptions
/// by hypercall.
pub fn fill_hypercall_page(page: &mut [u8; 4096], amd: bool) {
    page.fill(0xcc);
    for (number, stub) in page.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        if number == abi::HYPERVISOR_IRET as usize {
            stub[..2].copy_from_slice(&[0x0f, 0x0b]);
            continue;
        }
        stub[0] = 0xb8;
        stub[1..5].copy_from_slice(&(number as u32).to_le_bytes());
        stub[5..8].copy_from_slice(&[0x0f, 0x01, if amd { 0xd9 } else { 0xc1 }]);
        stub[8] = 0xc3;
    }
}
