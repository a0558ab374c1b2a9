//! Leaf 0xd and XSETBV.

use alloc::vec::Vec;

use super::cpuid::CpuidPolicy;
use super::msr::MsrFault;
use crate::backend::{Reg, VcpuRegisters};
use crate::features::XsaveEax;
use crate::fpu::{XCR0_AVX, XCR0_AVX512, XCR0_PKRU, XCR0_SSE, XCR0_X87, xcr0_is_valid};
use crate::x86::{CpuIdReader, CpuIdResult, NO_LEAF};

const LEGACY_AND_HEADER: u32 = 576;

/// Size and place of each extended component of the host's that we know.
#[derive(Clone, Debug)]
pub(super) struct Components {
    all: u64,
    /// Component, size, offset in the standard format, alignment in the compacted one.
    list: Vec<(u32, u32, u32, bool)>,
}

impl Components {
    pub(super) fn new(host: &impl CpuIdReader, xcr0: u64) -> Self {
        let list = (2..63)
            .filter(|bit| xcr0 & (1 << bit) != 0)
            .map(|bit| {
                let r = host.cpuid2(0xd, bit);
                (bit, r.eax, r.ebx, r.ecx & 2 != 0)
            })
            .collect();
        Self { all: xcr0, list }
    }

    pub(super) fn all(&self) -> u64 {
        self.all
    }

    fn size(&self, xcr0: u64) -> u32 {
        self.list
            .iter()
            .filter(|c| xcr0 & (1 << c.0) != 0)
            .map(|c| c.1 + c.2)
            .fold(LEGACY_AND_HEADER, u32::max)
    }

    fn compacted_size(&self, xcr0: u64) -> u32 {
        self.list
            .iter()
            .filter(|c| xcr0 & (1 << c.0) != 0)
            .fold(LEGACY_AND_HEADER, |at, c| {
                let at = if c.3 { at.next_multiple_of(64) } else { at };
                at + c.1
            })
    }

    /// Leaf 0xd for a guest that may have `allowed` and has enabled `xcr0`.
    pub(super) fn leaf(&self, subleaf: u32, allowed: u64, xcr0: u64, features: u32) -> CpuIdResult {
        match subleaf {
            0 => CpuIdResult {
                eax: allowed as u32,
                ebx: self.size(xcr0),
                ecx: self.size(allowed),
                edx: (allowed >> 32) as u32,
            },
            1 => {
                let compacts = features & (XsaveEax::XSAVEC | XsaveEax::XSAVES).bits() != 0;
                let ebx = if compacts {
                    self.compacted_size(xcr0)
                } else {
                    0
                };
                CpuIdResult {
                    eax: features,
                    ebx,
                    ..NO_LEAF
                }
            }
            n => self
                .list
                .iter()
                .find(|c| c.0 == n && allowed & (1 << n) != 0)
                .map_or(NO_LEAF, |&(_, size, offset, aligned)| CpuIdResult {
                    eax: size,
                    ebx: offset,
                    ecx: u32::from(aligned) << 1,
                    edx: 0,
                }),
        }
    }
}

/// The components that go with the features.
pub(super) fn allowed(xsave: bool, avx: bool, avx512: bool, pku: bool) -> u64 {
    let component = |on: bool, bits: u64| if on { bits } else { 0 };
    component(xsave, XCR0_X87 | XCR0_SSE)
        | component(xsave && avx, XCR0_AVX)
        | component(xsave && avx && avx512, XCR0_AVX512)
        | component(xsave && pku, XCR0_PKRU)
}

/// Does what XSETBV asks for, or says that it faults (#GP). The caller steps over it.
pub fn xsetbv(vcpu: &mut dyn VcpuRegisters, policy: &CpuidPolicy) -> Result<(), MsrFault> {
    let value = vcpu.gprs().edx_eax();
    let index = vcpu.gprs().rcx as u32;
    if index != 0 || vcpu.cpl() != 0 || !xcr0_is_valid(value, policy.xcr0()) {
        return Err(MsrFault);
    }
    vcpu.set(Reg::Xcr0, value);
    Ok(())
}
