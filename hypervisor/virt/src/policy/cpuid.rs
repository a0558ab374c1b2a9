//! A domain's CPUID leaves: computed from the host's by the masks in `features`, narrowed by the
//! toolstack, and completed at each query with what depends on the vcpu and its control registers.

use alloc::vec::Vec;

use super::hypervisor::HypervisorInfo;
use super::{topology, xstate};
use crate::features::*;
use crate::fpu::{FpuLayout, XCR0_PKRU};
use crate::spec::Offer;
use crate::x86::{CR4_OSXSAVE, CR4_PKE, CpuIdReader, CpuIdResult, NO_LEAF};
use oxen_paging::walk::Limits;

const MAX_BASIC: u32 = 0xd;
const EXTENDED: u32 = 0x8000_0000;
const MAX_EXTENDED: u32 = 0x8000_0021;
const HYPERVISOR: u32 = 0x4000_0000;
const AMD: [u32; 3] = [0x6874_7541, 0x6974_6e65, 0x444d_4163];
const HYGON: [u32; 3] = [0x6f67_7948, 0x6e65_476e, 0x656e_6975];

/// The facts that decide the policy besides the host.
#[derive(Clone, Copy, Default, Debug)]
pub struct DomainShape {
    pub dom0: bool,
    /// The domain runs on shadows of its page tables.
    pub shadow: bool,
    pub vcpus: u32,
    /// Of the controls of speculation.
    pub speculation: Offer,
    /// CMPXCHG16B does not work here: `Quirks::cx16_broken`.
    pub without_cx16: bool,
}

/// The state at the moment of a query on which the reply depends.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    pub vcpu: u32,
    pub cr4: u64,
    pub xcr0: u64,
    pub apic_enabled: bool,
    pub hypervisor: &'a HypervisorInfo,
}

/// A leaf that the toolstack may not set so: it asks for more than there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadLeaf {
    pub leaf: u32,
    pub subleaf: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    leaf: u32,
    subleaf: u32,
    regs: CpuIdResult,
}

#[derive(Clone, Debug)]
pub struct CpuidPolicy {
    /// Sorted by leaf and subleaf.
    entries: Vec<Entry>,
    vcpus: u32,
    amd: bool,
    /// Components of XCR0 that a guest may enable.
    xcr0: u64,
    phys_bits: u32,
    components: xstate::Components,
}

impl CpuidPolicy {
    /// The most that a domain of this shape may have on this host.
    pub fn new(host: &impl CpuIdReader, fpu: &FpuLayout, shape: DomainShape) -> Self {
        let mut policy = Self {
            entries: Vec::with_capacity(32),
            vcpus: shape.vcpus.max(1),
            amd: false,
            xcr0: 0,
            phys_bits: 36,
            components: xstate::Components::new(host, fpu.xcr0),
        };
        policy.basic(host, fpu, &shape.speculation);
        policy.extended(host, shape);
        if shape.without_cx16 {
            policy.change(1, 0, |r| r.ecx &= !Leaf1Ecx::CX16.bits());
        }
        if shape.shadow {
            policy.on_shadows();
        }
        policy.derive();
        policy
    }

    /// Shadows know no keys; INVPCID would be carried out by a CPU that has other PCIDs than the
    /// guest. On VT-x PCIDs are not offered yet.
    fn on_shadows(&mut self) {
        if !self.amd {
            self.change(1, 0, |r| r.ecx &= !Leaf1Ecx::PCID.bits());
        }
        self.change(7, 0, |r| {
            r.ebx &= !Leaf7Ebx::INVPCID.bits();
            r.ecx &= !Leaf7Ecx::PKU.bits();
        });
    }

    fn basic(&mut self, host: &impl CpuIdReader, fpu: &FpuLayout, offer: &Offer) {
        let vendor = host.cpuid2(0, 0);
        let max = vendor.eax.min(MAX_BASIC);
        let name = [vendor.ebx, vendor.edx, vendor.ecx];
        self.amd = name == AMD || name == HYGON;
        self.put(0, 0, CpuIdResult { eax: max, ..vendor });
        let mut one = host.cpuid2(1, 0);
        one.ebx &= 0xffff;
        one.ecx = one.ecx & Leaf1Ecx::all().bits() | FORCED_1_ECX.bits();
        one.ecx &= !Leaf1Ecx::OSXSAVE.bits();
        one.edx = one.edx & Leaf1Edx::all().bits() | FORCED_1_EDX.bits();
        if fpu.xcr0 == 0 {
            one.ecx &= !Leaf1Ecx::XSAVE.bits();
        }
        self.put(1, 0, one);
        if !self.amd {
            self.put(2, 0, host.cpuid2(2, 0));
        }
        if !self.amd && max >= 4 {
            self.caches(host);
        }
        // ARAT: the (virtual) local APIC timer never stops.
        self.put(
            6,
            0,
            CpuIdResult {
                eax: 1 << 2,
                ..NO_LEAF
            },
        );
        if max >= 7 {
            let seven = host.cpuid2(7, 0);
            let sub1 = seven.eax.min(1);
            self.put(
                7,
                0,
                CpuIdResult {
                    eax: sub1,
                    ebx: seven.ebx & Leaf7Ebx::all().bits(),
                    ecx: seven.ecx & (Leaf7Ecx::all() - Leaf7Ecx::OSPKE).bits(),
                    edx: offered(
                        seven.edx & Leaf7Edx::all().bits(),
                        Offer::LEAF7,
                        offer.leaf7,
                    ),
                },
            );
            if sub1 == 1 {
                let eax = host.cpuid2(7, 1).eax & Leaf7Sub1Eax::all().bits();
                self.put(7, 1, CpuIdResult { eax, ..NO_LEAF });
            }
        }
        if max >= 0xd {
            let mut eax = host.cpuid2(0xd, 1).eax & XsaveEax::all().bits();
            if !fpu.xsavec {
                eax &= !XsaveEax::XSAVEC.bits();
            }
            if !fpu.xsaves {
                eax &= !XsaveEax::XSAVES.bits();
            }
            self.put(0xd, 1, CpuIdResult { eax, ..NO_LEAF });
        }
    }

    /// Intel's leaf 4: the host's caches, each as one core's alone, and as many core ids as there
    /// are vcpus.
    fn caches(&mut self, host: &impl CpuIdReader) {
        const MOST: u32 = 8;
        for n in 0..MOST {
            let mut r = host.cpuid2(4, n);
            if r.eax & 0x1f == 0 {
                break;
            }
            r.eax = topology::cache(r.eax, self.vcpus);
            self.put(4, n, r);
        }
    }

    fn extended(&mut self, host: &impl CpuIdReader, shape: DomainShape) {
        let top = host.cpuid2(EXTENDED, 0);
        if top.eax < EXTENDED + 1 {
            return;
        }
        let max = top.eax.min(MAX_EXTENDED);
        self.put(EXTENDED, 0, CpuIdResult { eax: max, ..top });
        let one = host.cpuid2(EXTENDED + 1, 0);
        self.put(
            EXTENDED + 1,
            0,
            CpuIdResult {
                eax: one.eax,
                ebx: one.ebx,
                ecx: one.ecx & Ext1Ecx::all().bits(),
                edx: one.edx & Ext1Edx::all().bits(),
            },
        );
        for leaf in 2..=max - EXTENDED {
            let r = host.cpuid2(EXTENDED + leaf, 0);
            let zero = NO_LEAF;
            let regs = match leaf {
                // Brand string, caches and TLBs.
                2..=6 | 0x19 | 0x1a => r,
                7 if shape.dom0 => CpuIdResult {
                    edx: r.edx & ITSC,
                    ..zero
                },
                8 => {
                    self.phys_bits = r.eax & 0xff;
                    CpuIdResult {
                        eax: r.eax & 0xffff,
                        ebx: offered(
                            r.ebx & Ext8Ebx::all().bits(),
                            Offer::EXT8,
                            shape.speculation.ext8,
                        ),
                        ..zero
                    }
                }
                0x21 => CpuIdResult {
                    eax: r.eax & (Ext21Eax::all() - Ext21Eax::AUTOMATIC_IBRS).bits(),
                    ..zero
                },
                _ => continue,
            };
            self.put(EXTENDED + leaf, 0, regs);
        }
    }

    /// Derives the leaves that follow from the features. Run again after each change of the
    /// features.
    fn derive(&mut self) {
        let has_xsave = self.has_1(Leaf1Ecx::XSAVE) && self.get(0).eax >= 0xd;
        if !has_xsave {
            self.change(1, 0, |r| r.ecx &= !(Leaf1Ecx::XSAVE | Leaf1Ecx::AVX).bits());
            self.change(7, 0, |r| r.ecx &= !Leaf7Ecx::PKU.bits());
            self.change(0xd, 1, |r| r.eax = 0);
        }
        // RDPKRU and WRPKRU work by CR4.PKE alone: only where PKRU is switched may a guest have
        // them.
        if self.components.all() & XCR0_PKRU == 0 {
            self.change(7, 0, |r| r.ecx &= !Leaf7Ecx::PKU.bits());
        }
        if !self.has_1(Leaf1Ecx::AVX) {
            self.change(1, 0, |r| r.ecx &= !NEEDS_AVX_1.bits());
            self.change(7, 0, |r| {
                r.ebx &= !(Leaf7Ebx::AVX2 | Leaf7Ebx::AVX512F).bits();
                r.ecx &= !NEEDS_AVX_7_ECX.bits();
            });
            self.change(7, 1, |r| r.eax &= !Leaf7Sub1Eax::AVX_VNNI.bits());
            self.change(EXTENDED + 1, 0, |r| r.ecx &= !NEEDS_AVX_EXT.bits());
        }
        if self.get(7).ebx & Leaf7Ebx::AVX512F.bits() == 0 {
            self.change(7, 0, |r| {
                r.ebx &= !AVX512_7_EBX.bits();
                r.ecx &= !AVX512_7_ECX.bits();
                r.edx &= !AVX512_7_EDX.bits();
            });
            self.change(7, 1, |r| r.eax &= !Leaf7Sub1Eax::AVX512_BF16.bits());
        }
        self.xcr0 = xstate::allowed(
            has_xsave,
            self.has_1(Leaf1Ecx::AVX),
            self.get(7).ebx & Leaf7Ebx::AVX512F.bits() != 0,
            self.get(7).ecx & Leaf7Ecx::PKU.bits() != 0,
        );
        if self.xcr0 != 0 && self.xcr0 & !self.components.all() != 0 {
            self.xcr0 &= self.components.all();
        }
        let amd = self.amd;
        let common = self.get(1).edx & Ext1Edx::COMMON.bits();
        self.change(EXTENDED + 1, 0, |r| {
            r.edx &= !Ext1Edx::COMMON.bits();
            if amd {
                r.edx |= common;
            }
        });
        let vcpus = self.vcpus;
        self.change(1, 0, |r| topology::leaf_1(r, vcpus));
        if amd {
            self.change(EXTENDED + 1, 0, |r| topology::legacy_cores(r, vcpus));
            self.change(EXTENDED + 8, 0, |r| topology::core_bits(r, vcpus));
        }
    }

    /// The reply of CPUID for this vcpu now.
    pub fn query(&self, leaf: u32, subleaf: u32, live: &Live<'_>) -> CpuIdResult {
        if leaf & 0xffff_ff00 == HYPERVISOR {
            return live.hypervisor.query(leaf - HYPERVISOR, subleaf, live.vcpu);
        }
        let mut r = match leaf {
            0xb if self.get(0).eax >= 0xb => topology::leaf_b(subleaf, live.vcpu, self.vcpus),
            0xd if self.get(0).eax >= 0xd => self.xsave_leaf(subleaf, live.xcr0),
            4 | 7 => self.lookup(leaf, subleaf),
            _ => self.lookup(leaf, 0),
        };
        match (leaf, subleaf) {
            (1, _) => {
                r.ebx |= topology::apic_id(live.vcpu) << 24;
                if live.cr4 & CR4_OSXSAVE != 0 {
                    r.ecx |= Leaf1Ecx::OSXSAVE.bits();
                }
                if !live.apic_enabled {
                    r.edx &= !Leaf1Edx::APIC.bits();
                }
            }
            (7, 0) if live.cr4 & CR4_PKE != 0 => r.ecx |= Leaf7Ecx::OSPKE.bits(),
            (0x8000_0001, _) if self.amd && !live.apic_enabled => {
                r.edx &= !Leaf1Edx::APIC.bits();
            }
            _ => (),
        }
        r
    }

    fn xsave_leaf(&self, subleaf: u32, xcr0: u64) -> CpuIdResult {
        if self.xcr0 == 0 {
            return NO_LEAF;
        }
        self.components
            .leaf(subleaf, self.xcr0, xcr0, self.lookup(0xd, 1).eax)
    }

    /// Narrows one leaf (`XEN_DOMCTL_set_cpu_policy`). Leaves that are computed are accepted as
    /// they come and stay computed.
    pub fn set(&mut self, leaf: u32, subleaf: u32, new: CpuIdResult) -> Result<(), BadLeaf> {
        // The ABI's way to say that the leaf has none.
        let sub = if subleaf == u32::MAX { 0 } else { subleaf };
        let bad = BadLeaf { leaf, subleaf };
        let old = self.lookup(leaf, sub);
        let within = |new: u32, old: u32| new & !old == 0;
        let ok = match (leaf, sub) {
            (0, _) | (EXTENDED, _) => new.eax <= old.eax,
            (1, _) => {
                within(new.ecx & !Leaf1Ecx::OSXSAVE.bits(), old.ecx)
                    && within(new.edx & !Leaf1Edx::HTT.bits(), old.edx)
            }
            (7, 0) => {
                new.eax <= old.eax
                    && within(new.ebx, old.ebx)
                    && within(new.ecx & !Leaf7Ecx::OSPKE.bits(), old.ecx)
                    && within(new.edx, old.edx)
            }
            (7, 1) | (0xd, 1) | (0x8000_0021, _) => within(new.eax, old.eax),
            (0x8000_0001, _) => {
                within(new.ecx & !Ext1Ecx::CMP_LEGACY.bits(), old.ecx) && within(new.edx, old.edx)
            }
            (0x8000_0007, _) => within(new.edx, old.edx),
            (0x8000_0008, _) => new.eax & 0xff <= old.eax & 0xff && within(new.ebx, old.ebx),
            (2..=6 | 0xb | 0xd | 0x8000_0002..=0x8000_0006 | 0x8000_0019..=0x8000_001a, _) => true,
            _ => new == NO_LEAF,
        };
        if !ok {
            return Err(bad);
        }
        self.change(leaf, sub, |r| {
            *r = match (leaf, sub) {
                (1, _) => CpuIdResult {
                    ebx: new.ebx & 0xffff,
                    ecx: new.ecx & !Leaf1Ecx::OSXSAVE.bits() | FORCED_1_ECX.bits(),
                    ..new
                },
                (7, 0) => CpuIdResult {
                    ecx: new.ecx & !Leaf7Ecx::OSPKE.bits(),
                    ..new
                },
                _ => new,
            };
        });
        self.derive();
        Ok(())
    }

    /// All leaves that are stored, for `XEN_DOMCTL_get_cpu_policy`.
    pub fn leaves(&self) -> impl Iterator<Item = (u32, u32, CpuIdResult)> + '_ {
        self.entries.iter().map(|e| (e.leaf, e.subleaf, e.regs))
    }

    pub fn is_amd(&self) -> bool {
        self.amd
    }

    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    pub fn phys_bits(&self) -> u32 {
        self.phys_bits
    }

    /// The limits of page walks on the guest's processors, as the guest knows them.
    pub fn limits(&self) -> Limits {
        let phys_bits = match self.get(EXTENDED + 8).eax & 0xff {
            0 => self.phys_bits,
            bits => bits,
        };
        Limits {
            phys_bits,
            pages_1g: self.has_ext1(Ext1Edx::PAGE1GB),
        }
    }

    pub fn has_1(&self, feature: Leaf1Ecx) -> bool {
        self.get(1).ecx & feature.bits() != 0
    }

    pub fn has_7(&self, feature: Leaf7Ebx) -> bool {
        self.get(7).ebx & feature.bits() != 0
    }

    pub fn has_ext1(&self, feature: Ext1Edx) -> bool {
        self.get(EXTENDED + 1).edx & feature.bits() != 0
    }

    pub fn has_7_ecx(&self, feature: Leaf7Ecx) -> bool {
        self.get(7).ecx & feature.bits() != 0
    }

    pub fn has_7_edx(&self, feature: Leaf7Edx) -> bool {
        self.get(7).edx & feature.bits() != 0
    }

    pub fn has_ext8(&self, feature: Ext8Ebx) -> bool {
        self.get(EXTENDED + 8).ebx & feature.bits() != 0
    }

    pub fn has_xsaves(&self) -> bool {
        self.lookup(0xd, 1).eax & XsaveEax::XSAVES.bits() != 0
    }

    /// TSC_AUX exists: RDTSCP or RDPID.
    pub fn has_tsc_aux(&self) -> bool {
        self.has_ext1(Ext1Edx::RDTSCP) || self.get(7).ecx & Leaf7Ecx::RDPID.bits() != 0
    }

    fn get(&self, leaf: u32) -> CpuIdResult {
        self.lookup(leaf, 0)
    }

    fn lookup(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        let top = if leaf >= EXTENDED { EXTENDED } else { 0 };
        let find = |l, s| {
            self.entries
                .binary_search_by_key(&(l, s), |e| (e.leaf, e.subleaf))
                .ok()
                .and_then(|i| self.entries.get(i))
                .map_or(NO_LEAF, |e| e.regs)
        };
        if leaf > find(top, 0).eax {
            NO_LEAF
        } else {
            find(leaf, subleaf)
        }
    }

    fn put(&mut self, leaf: u32, subleaf: u32, regs: CpuIdResult) {
        let entry = Entry {
            leaf,
            subleaf,
            regs,
        };
        match self
            .entries
            .binary_search_by_key(&(leaf, subleaf), |e| (e.leaf, e.subleaf))
        {
            Ok(i) => {
                if let Some(slot) = self.entries.get_mut(i) {
                    *slot = entry;
                }
            }
            Err(i) => self.entries.insert(i, entry),
        }
    }

    /// Changes a leaf that is there.
    fn change(&mut self, leaf: u32, subleaf: u32, change: impl FnOnce(&mut CpuIdResult)) {
        let found = self
            .entries
            .iter_mut()
            .find(|e| (e.leaf, e.subleaf) == (leaf, subleaf));
        if let Some(entry) = found {
            change(&mut entry.regs);
        }
    }
}

/// A register with the bits of `about` as they are offered.
fn offered(value: u32, about: u32, offer: u32) -> u32 {
    value & !about | offer
}
