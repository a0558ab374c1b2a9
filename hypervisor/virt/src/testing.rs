//! A vcpu and a guest physical space for host tests. The vcpu is a real one that never runs.

use alloc::sync::Arc;
use oxen_types::{Gaddr, Maddr};
use std::vec::Vec;

use crate::backend::{BoxedVcpu, Reg, SegReg, Segment};
use crate::emul::PhysAccess;
use crate::error::VirtError;
use crate::fpu::FpuLayout;
use crate::permission_maps::DomainControls;
use crate::platform::Platform;
use crate::quirks::Quirks;
use crate::start;
use crate::vendor::VcpuParts;
use crate::x86::{CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME};
use crate::zeroed::ToMaddr;
use oxen_paging::walk::{Limits, PhysRead};

pub(crate) const CODE: u64 = 0x1000;
pub(crate) const DEVICE: u64 = 0xfee0_0000;
const TABLES: u64 = 0x8000;

/// In flat 32-bit protected mode without paging, RIP at `CODE`.
pub(crate) fn vcpu() -> BoxedVcpu {
    let platform = Platform::for_tests(|virt| Maddr::new(virt as u64));
    let domain = platform.new_domain(false).unwrap();
    let mut vcpu = platform.new_vcpu(&domain).unwrap();
    start::pvh(&mut *vcpu, CODE as u32, 0);
    vcpu
}

/// The parts of a vcpu of a vendor whose permission maps `new` makes.
pub(crate) fn parts(new: fn(bool, ToMaddr) -> Result<DomainControls, VirtError>) -> VcpuParts {
    let to_maddr: ToMaddr = |virt| Maddr::new(virt as u64);
    VcpuParts {
        fpu: FpuLayout::none(),
        quirks: Quirks::default(),
        domain: Arc::new(new(false, to_maddr).unwrap()),
        to_maddr,
    }
}

/// RAM from 0 to 64 KiB; one page of a device, which logs what is done to it.
pub(crate) struct Space {
    pub(crate) ram: Vec<u8>,
    pub(crate) device: [u8; 4096],
    pub(crate) log: Vec<(char, u64, u8, u64)>,
}

impl Space {
    pub(crate) fn new(code: &[u8]) -> Self {
        let mut ram = vec![0; 0x1_0000];
        ram[CODE as usize..][..code.len()].copy_from_slice(code);
        Self {
            ram,
            device: [0; 4096],
            log: Vec::new(),
        }
    }

    fn quad(&mut self, at: u64, value: u64) {
        self.ram[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }

    /// Identity for the first 2 MiB, and the device at the same offset of the last 2 MiB below
    /// 2^47 for the supervisor.
    pub(crate) fn long_mode(&mut self, vcpu: &mut BoxedVcpu) {
        self.quad(TABLES, (TABLES + 0x1000) | 7);
        self.quad(TABLES + 255 * 8, (TABLES + 0x1000) | 7);
        self.quad(TABLES + 0x1000, (TABLES + 0x2000) | 7);
        self.quad(TABLES + 0x1ff8, (TABLES + 0x2000) | 7);
        self.quad(TABLES + 0x2000, 0x87);
        self.quad(TABLES + 0x2ff8, DEVICE | 0x83);
        vcpu.set(Reg::Cr0, CR0_PE | CR0_PG);
        vcpu.set(Reg::Cr4, CR4_PAE);
        vcpu.set(Reg::Cr3, TABLES);
        vcpu.set(Reg::Efer, EFER_LME | EFER_LMA);
        vcpu.set_segment(SegReg::Cs, Segment::new(8, 0x29b, 0, 0));
    }
}

impl PhysRead for Space {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        let bytes = self.ram.get(at.raw() as usize..)?.get(..8)?;
        Some(u64::from_le_bytes(bytes.try_into().unwrap()))
    }
}

impl PhysAccess for Space {
    fn read(&mut self, at: Gaddr, size: u8) -> Option<u64> {
        let (at, n) = (at.raw(), usize::from(size));
        let mut bytes = [0; 8];
        if at & !0xfff == DEVICE {
            bytes[..n].copy_from_slice(self.device.get(at as usize & 0xfff..)?.get(..n)?);
            self.log.push(('r', at, size, u64::from_le_bytes(bytes)));
        } else {
            bytes[..n].copy_from_slice(self.ram.get(at as usize..)?.get(..n)?);
        }
        Some(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, at: Gaddr, size: u8, value: u64) -> bool {
        let (at, n) = (at.raw(), usize::from(size));
        let target = if at & !0xfff == DEVICE {
            self.log.push(('w', at, size, value));
            self.device.get_mut(at as usize & 0xfff..)
        } else {
            self.ram.get_mut(at as usize..)
        };
        let Some(slot) = target.and_then(|t| t.get_mut(..n)) else {
            return false;
        };
        slot.copy_from_slice(&value.to_le_bytes()[..n]);
        true
    }

    fn limits(&self) -> Limits {
        Limits {
            phys_bits: 40,
            pages_1g: true,
        }
    }
}
