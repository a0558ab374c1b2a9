use oxen_types::DomainId;

use super::*;
use crate::backend::{Reg, SegReg};
use crate::features::*;
use crate::fpu::FpuLayout;
use crate::spec::Offer;
use crate::testing::vcpu;
use crate::x86::*;

/// An AMD machine with everything, or an Intel one.
#[derive(Clone)]
struct Host {
    amd: bool,
    leaf7_ebx: u32,
}

const AMD_HOST: Host = Host {
    amd: true,
    leaf7_ebx: u32::MAX,
};

impl CpuIdReader for Host {
    fn cpuid2(&self, leaf: u32, subleaf: u32) -> CpuIdResult {
        let r = |eax, ebx, ecx, edx| CpuIdResult { eax, ebx, ecx, edx };
        let all = u32::MAX;
        match (leaf, subleaf) {
            (0, _) if self.amd => r(0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
            (0, _) => r(0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
            (1, _) => r(0x0080_0f12, 0x0710_0800, all, all),
            // Two caches, each shared by 64 logical processors.
            (4, 0) if !self.amd => r(0x1c0f_c121, 0x01c0_003f, 63, 0),
            (4, 1) if !self.amd => r(0x1c0f_c143, 0x03c0_003f, 1023, 0),
            (7, 0) => r(2, self.leaf7_ebx, all, all),
            (7, 1) => r(all, all, all, all),
            (0xa, _) => r(all, all, all, all),
            (0xd, 0) => r(0x2ff, 0xa88, 0xa88, 0),
            (0xd, 1) => r(0xf, 0, 0, 0),
            (0xd, 2) => r(256, 576, 0, 0),
            (0xd, 5) => r(64, 1088, 0, 0),
            (0xd, 6) => r(512, 1152, 0, 0),
            (0xd, 7) => r(1024, 1664, 0, 0),
            (0xd, 9) => r(8, 2688, 0, 0),
            (0x8000_0000, _) => r(0x8000_0028, 1, 2, 3),
            (0x8000_0001, _) => r(0x0080_0f12, 0, all, all),
            (0x8000_0007, _) => r(all, all, all, all),
            (0x8000_0008, _) => r(0x0030_3030, all, all, all),
            (0x8000_000a, _) => r(1, 8, 0, 1),
            (0x8000_0021, _) => r(all, all, all, all),
            _ => r(0, 0, 0, 0),
        }
    }
}

fn policy(host: &Host, dom0: bool, vcpus: u32) -> CpuidPolicy {
    CpuidPolicy::new(
        host,
        &FpuLayout::detect(host),
        DomainShape {
            dom0,
            vcpus,
            ..DomainShape::default()
        },
    )
}

const INFO: HypervisorInfo = HypervisorInfo {
    domain: DomainId(5),
    major: 4,
    minor: 17,
    tsc_reliable: true,
    rdtscp: true,
    tsc_khz: 2_000_000,
    tsc_mode: 0,
    incarnation: 1,
    tsc_offset: 0x1_0000_0002,
    tsc_mul: 7,
    tsc_shift: -1,
    iommu_mappings: false,
};

fn live(vcpu: u32) -> Live<'static> {
    Live {
        vcpu,
        cr4: 0,
        xcr0: 1,
        apic_enabled: true,
        hypervisor: &INFO,
    }
}

#[test]
fn what_we_do_not_offer_is_hidden_on_a_host_that_has_everything() {
    let p = policy(&AMD_HOST, false, 2);
    let q = |l, s| p.query(l, s, &live(0));
    // MONITOR, VMX, PDCM, OSXSAVE; ACPI, PBE; HLE, MPX, RTM; LA57, CET; SVM, TOPOEXT, DBEXT.
    assert_eq!(q(1, 0).ecx & (1 << 3 | 1 << 5 | 1 << 15 | 1 << 27), 0);
    assert_eq!(q(1, 0).edx & (1 << 22 | 1 << 31), 0);
    assert_eq!(q(7, 0).ebx & (1 << 4 | 1 << 11 | 1 << 14), 0);
    assert_eq!(q(7, 0).ecx & (1 << 7 | 1 << 16), 0);
    assert_eq!(q(0x8000_0001, 0).ecx & (1 << 2 | 1 << 22 | 1 << 26), 0);
    for leaf in [
        5,
        0xa,
        0xf,
        0x10,
        0x8000_000a,
        0x8000_001f,
        0x8000_0028,
        0xffff_ffff,
    ] {
        assert_eq!(q(leaf, 0), NO_LEAF, "{leaf:#x}");
    }
    assert_eq!((q(0, 0).eax, q(0x8000_0000, 0).eax), (0xd, 0x8000_0021));
    assert_eq!(q(0x8000_0007, 0).edx, 0);
    assert_eq!(
        policy(&AMD_HOST, true, 2)
            .query(0x8000_0007, 0, &live(0))
            .edx,
        ITSC
    );
}

#[test]
fn xsaves_comes_without_supervisor_states() {
    let leaf = |p: &CpuidPolicy| p.query(0xd, 1, &live(0));
    let r = leaf(&policy(&AMD_HOST, false, 1));
    assert_eq!((r.eax, r.ecx, r.edx), (0xf, 0, 0));
    let mut b = Bench::new(AMD_HOST, false);
    assert_eq!(b.read(0xda0), Ok(0));
    assert_eq!(
        (b.write(0xda0, 0), b.write(0xda0, 1)),
        (Ok(MsrWrite::Done), Err(MsrFault))
    );
    let mut fpu = FpuLayout::detect(&AMD_HOST);
    fpu.xsaves = false;
    let shape = DomainShape::default();
    let without = CpuidPolicy::new(&AMD_HOST, &fpu, shape);
    assert_eq!(leaf(&without).eax, 7);
    assert!(!without.has_xsaves());
}

#[test]
fn the_emulated_apic_is_there_whatever_the_host_has() {
    let p = policy(
        &Host {
            amd: true,
            leaf7_ebx: 0,
        },
        false,
        1,
    );
    let mut l = live(0);
    assert!(p.has_1(Leaf1Ecx::X2APIC) && p.has_1(Leaf1Ecx::HYPERVISOR));
    assert_ne!(p.query(1, 0, &l).edx & 1 << 9, 0);
    l.apic_enabled = false;
    assert_eq!(p.query(1, 0, &l).edx & 1 << 9, 0);
    assert_eq!(p.query(0x8000_0001, 0, &l).edx & 1 << 9, 0);
    l.cr4 = CR4_OSXSAVE | CR4_PKE;
    assert_ne!(p.query(1, 0, &l).ecx & 1 << 27, 0);
    assert_ne!(p.query(7, 0, &l).ecx & 1 << 4, 0);
    assert_eq!(p.query(7, 1, &l).ecx, 0);
}

#[test]
fn topology_follows_the_apic_ids() {
    let p = policy(&AMD_HOST, false, 3);
    let l = live(2);
    assert_eq!(p.query(1, 0, &l).ebx >> 16, 0x0406);
    assert_ne!(p.query(1, 0, &l).edx & Leaf1Edx::HTT.bits(), 0);
    // Leaf 0xb needs a maximum leaf of at least that, which AMD's leaf 0xd gives.
    assert_eq!(
        p.query(0xb, 0, &l),
        CpuIdResult {
            eax: 1,
            ebx: 1,
            ecx: 0x100,
            edx: 4
        }
    );
    assert_eq!(
        p.query(0xb, 1, &l),
        CpuIdResult {
            eax: 3,
            ebx: 3,
            ecx: 0x201,
            edx: 4
        }
    );
    assert_eq!(
        p.query(0xb, 2, &l),
        CpuIdResult {
            eax: 0,
            ebx: 0,
            ecx: 2,
            edx: 4
        }
    );
    assert_eq!(p.query(0x8000_0008, 0, &l).ecx, 3 << 12 | 2);
    let one = policy(&AMD_HOST, false, 1);
    assert_eq!(one.query(1, 0, &live(0)).edx & Leaf1Edx::HTT.bits(), 0);
}

#[test]
fn extended_state_sizes() {
    let p = policy(&AMD_HOST, false, 1);
    assert_eq!(p.xcr0(), 0x2e7);
    let mut l = live(0);
    assert_eq!(
        p.query(0xd, 0, &l),
        CpuIdResult {
            eax: 0x2e7,
            ebx: 576,
            ecx: 2696,
            edx: 0
        }
    );
    l.xcr0 = 7;
    assert_eq!(p.query(0xd, 0, &l).ebx, 832);
    l.xcr0 = 0x201;
    assert_eq!(p.query(0xd, 1, &l).ebx, 576 + 8);
    assert_eq!(
        p.query(0xd, 2, &l),
        CpuIdResult {
            eax: 256,
            ebx: 576,
            ecx: 0,
            edx: 0
        }
    );
    assert_eq!(p.query(0xd, 3, &l), NO_LEAF);
}

#[test]
fn features_go_with_what_they_need() {
    let no_avx512 = policy(
        &Host {
            amd: true,
            leaf7_ebx: !(1 << 16),
        },
        false,
        1,
    );
    assert_eq!(no_avx512.xcr0(), 0x207);
    assert_eq!(no_avx512.query(7, 0, &live(0)).ecx & AVX512_7_ECX.bits(), 0);
    let mut p = policy(&AMD_HOST, false, 1);
    let mut one = p.query(1, 0, &live(0));
    one.ecx &= !Leaf1Ecx::XSAVE.bits();
    assert_eq!(p.set(1, u32::MAX, one), Ok(()));
    assert_eq!(p.xcr0(), 0);
    assert_eq!(p.query(1, 0, &live(0)).ecx & (1 << 28 | 1 << 12), 0);
    assert_eq!(p.query(7, 0, &live(0)).ebx & (1 << 5 | 1 << 16), 0);
    assert_eq!(p.query(0xd, 0, &live(0)), NO_LEAF);
}

#[test]
fn a_toolstack_may_narrow_only() {
    let mut p = policy(&AMD_HOST, false, 1);
    let mut r = p.query(7, 0, &live(0));
    r.ebx |= 1 << 11;
    assert_eq!(
        p.set(7, 0, r),
        Err(BadLeaf {
            leaf: 7,
            subleaf: 0
        })
    );
    r.ebx = 0;
    assert_eq!(p.set(7, 0, r), Ok(()));
    assert_eq!(p.query(7, 0, &live(0)).ebx, 0);
    let svm = CpuIdResult { eax: 1, ..NO_LEAF };
    assert!(p.set(0x8000_000a, u32::MAX, svm).is_err());
    assert!(p.set(0x8000_000a, u32::MAX, NO_LEAF).is_ok());
    // Every leaf that is read can be written back.
    let mut q = policy(&AMD_HOST, false, 4);
    for (leaf, subleaf, regs) in policy(&AMD_HOST, false, 4).leaves() {
        assert_eq!(q.set(leaf, subleaf, regs), Ok(()));
    }
}

#[test]
fn hypervisor_leaves() {
    let p = policy(&AMD_HOST, false, 1);
    let q = |leaf: u32, sub| p.query(0x4000_0000 + leaf, sub, &live(9));
    let id = q(0, 0);
    assert_eq!(id.eax, 0x4000_0005);
    let name = [id.ebx, id.ecx, id.edx].map(u32::to_le_bytes).concat();
    assert_eq!(name, b"XenVMMXenVMM");
    assert_eq!(q(1, 0).eax, 0x0004_0011);
    assert_eq!((q(2, 0).eax, q(2, 0).ebx, q(2, 0).ecx), (1, 0x4000_0000, 0));
    assert_eq!(
        q(3, 0),
        CpuIdResult {
            eax: 6,
            ebx: 0,
            ecx: 2_000_000,
            edx: 1
        }
    );
    assert_eq!(
        q(3, 1),
        CpuIdResult {
            eax: 2,
            ebx: 1,
            ecx: 7,
            edx: u32::MAX
        }
    );
    assert_eq!(
        q(4, 0),
        CpuIdResult {
            eax: 0b101_1000,
            ebx: 9,
            ecx: 5,
            edx: 0
        }
    );
    let mut page = [0; 4096];
    hypervisor::fill_hypercall_page(&mut page, true);
    assert_eq!(
        page[32 * 29..][..9],
        [0xb8, 29, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3]
    );
    assert_eq!(page[32 * 23..][..2], [0x0f, 0x0b]);
}

/// Does one access on a fresh vcpu's state.
struct Bench {
    vcpu: crate::BoxedVcpu,
    state: MsrState,
    policy: MsrPolicy,
    cpuid: CpuidPolicy,
}

impl Bench {
    fn new(host: Host, dom0: bool) -> Self {
        let host_msrs = HostMsrs::read(host.amd, &mut |msr| u64::from(msr) << 8);
        Self {
            vcpu: vcpu(),
            state: MsrState::default(),
            policy: MsrPolicy {
                dom0,
                host: host_msrs,
                arch_caps: 0,
            },
            cpuid: policy(&host, dom0, 1),
        }
    }

    fn access(&mut self) -> MsrAccess<'_> {
        MsrAccess {
            vcpu: &mut *self.vcpu,
            state: &mut self.state,
            policy: &self.policy,
            cpuid: &self.cpuid,
            host_tsc: 1_000,
        }
    }

    fn read(&mut self, msr: u32) -> Result<u64, MsrFault> {
        self.access().read(msr).map(|r| match r {
            MsrRead::Value(v) => v,
            MsrRead::Lapic => panic!("{msr:#x}"),
        })
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<MsrWrite, MsrFault> {
        self.access().write(msr, value)
    }
}

#[test]
fn unknown_registers_fault() {
    let mut b = Bench::new(AMD_HOST, false);
    // SPEC_CTRL, ARCH_CAPABILITIES, performance counters, TSC ratio, LWP, RAPL, anything.
    for msr in [
        0x48,
        0x10a,
        0xc1,
        0xc001_0000,
        0xc000_0104,
        0xc000_0105,
        0x606,
        0x5000,
    ] {
        assert_eq!(b.read(msr), Err(MsrFault), "{msr:#x}");
        assert_eq!(b.write(msr, 0), Err(MsrFault), "{msr:#x}");
    }
    assert_eq!(b.access().read(0x1b), Ok(MsrRead::Lapic));
    assert_eq!(b.access().read(0x80b), Ok(MsrRead::Lapic));
    assert_eq!(b.write(0x6e0, 5), Ok(MsrWrite::Lapic));
    assert_eq!(b.read(0x1a0), Err(MsrFault));
    assert!(
        Bench::new(
            Host {
                amd: false,
                leaf7_ebx: 0
            },
            false
        )
        .read(0x1a0)
        .is_ok()
    );
}

#[test]
fn efer_by_the_rules() {
    let mut b = Bench::new(AMD_HOST, false);
    assert_eq!(b.read(MSR_EFER), Ok(0));
    assert_eq!(b.write(MSR_EFER, EFER_SVME), Err(MsrFault));
    assert_eq!(
        b.write(MSR_EFER, EFER_LME | EFER_NX | EFER_LMA),
        Ok(MsrWrite::Done)
    );
    assert_eq!(b.read(MSR_EFER), Ok(EFER_LME | EFER_NX));
    b.vcpu.set(Reg::Cr0, CR0_PE | CR0_PG);
    b.vcpu.set(Reg::Efer, EFER_LME | EFER_LMA);
    assert_eq!(b.write(MSR_EFER, 0), Err(MsrFault));
    assert_eq!(b.write(MSR_EFER, EFER_LME | EFER_SCE), Ok(MsrWrite::Done));
    assert_eq!(b.read(MSR_EFER), Ok(EFER_LME | EFER_LMA | EFER_SCE));
}

#[test]
fn the_two_tsc_registers_move_together() {
    let mut b = Bench::new(AMD_HOST, false);
    b.vcpu.set_tsc_offset(500);
    assert_eq!(b.read(MSR_TSC), Ok(1_500));
    b.write(MSR_TSC, 0).unwrap();
    assert_eq!(
        (b.read(MSR_TSC), b.read(0x3b)),
        (Ok(0), Ok(1_500u64.wrapping_neg()))
    );
    b.write(0x3b, 0).unwrap();
    assert_eq!((b.read(MSR_TSC), b.vcpu.tsc_offset()), (Ok(1_500), 500));
}

#[test]
fn values_are_checked() {
    let mut b = Bench::new(AMD_HOST, false);
    let wild = 1 << 47;
    for msr in [MSR_LSTAR, MSR_FS_BASE, MSR_KERNEL_GS_BASE, MSR_SYSENTER_EIP] {
        assert_eq!(b.write(msr, wild), Err(MsrFault));
        assert_eq!(b.write(msr, !0xfff), Ok(MsrWrite::Done));
        assert_eq!(b.read(msr), Ok(!0xfff));
    }
    assert_eq!(b.vcpu.segment(SegReg::Fs).base, !0xfff);
    assert_eq!(b.read(MSR_PAT), Ok(PAT_RESET));
    assert_eq!(b.write(MSR_PAT, 0x0200), Err(MsrFault));
    assert_eq!(b.write(MSR_PAT, 0x0706_0504_0100_0706), Ok(MsrWrite::Done));
    assert_eq!(
        b.write(0x4000_0000, 0x1000),
        Ok(MsrWrite::HypercallPage(0x1000))
    );
    assert_eq!(b.write(0x4000_0000, 0x1001), Err(MsrFault));
    assert_eq!(b.write(MSR_VM_CR, 0), Err(MsrFault));
    assert_eq!(
        (b.write(0x17a, 0), b.write(0x17a, 1)),
        (Ok(MsrWrite::Done), Err(MsrFault))
    );
}

#[test]
fn memory_types() {
    let mut b = Bench::new(AMD_HOST, false);
    assert_eq!(
        (b.read(0xfe), b.read(0x2ff)),
        (Ok(0x508), Ok(0xc06 & !0x400))
    );
    assert_eq!(b.write(0xfe, 0), Err(MsrFault));
    assert_eq!(b.write(0x200, 0xc000_0000), Ok(MsrWrite::Done));
    assert_eq!(b.write(0x201, 0xffff_c000_0800), Ok(MsrWrite::Done));
    assert_eq!(
        (b.read(0x200), b.read(0x201)),
        (Ok(0xc000_0000), Ok(0xffff_c000_0800))
    );
    assert_eq!(b.write(0x200, 2), Err(MsrFault));
    assert_eq!(b.write(0x201, 1 << 48), Err(MsrFault));
    assert_eq!(b.write(0x26f, 0x0505_0505_0505_0505), Ok(MsrWrite::Done));
    assert_eq!(b.write(0x26f, 0x0505_0505_0505_0705), Err(MsrFault));
    let host = Mtrr::of_host(&mut |msr| if msr == 0xfe { 0x502 } else { u64::from(msr) });
    assert_eq!(
        (host.record()[3], host.record()[4], host.fixed[10]),
        (0x203, 0, 0x26f)
    );
}

#[test]
fn dom0_sees_how_ram_is_laid_out() {
    let tom2 = 0xc001_001d;
    assert_eq!(Bench::new(AMD_HOST, true).read(tom2), Ok(0xc0_0100_1d00));
    let mut guest = Bench::new(AMD_HOST, false);
    assert_eq!((guest.read(tom2), guest.read(0xc001_0010)), (Ok(0), Ok(0)));
    assert_eq!(guest.read(0x8b), Ok(0x8b00));
    assert_eq!(
        guest.write(0xc001_0020, 0xffff_8000_0000_0000),
        Ok(MsrWrite::Done)
    );
}

#[test]
fn xsetbv_by_the_rules() {
    let p = policy(&AMD_HOST, false, 1);
    let mut v = vcpu();
    for (rcx, value, ok) in [
        (0, 7, true),
        (0, 2, false),
        (1, 7, false),
        (0, 5, false),
        (0, 0xe7, true),
        (0, 0x67, false),
    ] {
        let g = v.gprs_mut();
        (g.rcx, g.rax, g.rdx) = (rcx, value, 0);
        assert_eq!(xsetbv(&mut *v, &p).is_ok(), ok, "{rcx} {value:#x}");
    }
}

#[test]
fn speculation_controls_by_what_is_offered() {
    let open = |amd: bool, leaf7: u32, ext8: u32| {
        let host = Host {
            amd,
            leaf7_ebx: u32::MAX,
        };
        let speculation = Offer {
            leaf7,
            ext8,
            arch_caps: 0x29,
        };
        let mut b = Bench::new(host, false);
        let shape = DomainShape {
            speculation,
            ..DomainShape::default()
        };
        let host = Host {
            amd,
            leaf7_ebx: u32::MAX,
        };
        b.cpuid = CpuidPolicy::new(&host, &FpuLayout::detect(&host), shape);
        b.policy.arch_caps = speculation.arch_caps;
        b
    };
    // IBRS alone: STIBP may be set, SSBD may not; IBPB comes with it.
    let mut b = open(false, Leaf7Edx::IBRSB.bits(), 0);
    assert_eq!(b.write(0x48, 3), Ok(MsrWrite::Done));
    assert_eq!(b.read(0x48), Ok(3));
    assert_eq!(b.write(0x48, 4), Err(MsrFault));
    assert_eq!(b.write(0x49, 1), Ok(MsrWrite::Command(0x49)));
    assert_eq!(b.write(0x49, 0), Ok(MsrWrite::Done));
    assert_eq!(b.write(0x49, 3), Err(MsrFault));
    assert_eq!(b.read(0x49), Err(MsrFault));
    assert_eq!([b.read(0x10a), b.read(0xc001_011f)], [Err(MsrFault); 2]);
    assert_eq!(b.write(0x10b, 1), Err(MsrFault));
    let mut b = open(false, Offer::LEAF7, 0);
    assert_eq!(b.write(0x48, 7), Ok(MsrWrite::Done));
    assert_eq!(b.write(0x10b, 1), Ok(MsrWrite::Command(0x10b)));
    assert_eq!(b.read(0x10a), Ok(0x29));
    assert_eq!(b.write(0x10a, 0), Err(MsrFault));
    let mut b = open(
        true,
        0,
        (Ext8Ebx::VIRT_SSBD | Ext8Ebx::SSBD | Ext8Ebx::PSFD).bits(),
    );
    assert_eq!(b.write(0x48, 0x84), Ok(MsrWrite::Done));
    assert_eq!(b.write(0x48, 1), Err(MsrFault));
    assert_eq!(b.write(0xc001_011f, 4), Ok(MsrWrite::Done));
    assert_eq!(b.read(0xc001_011f), Ok(4));
    assert_eq!(b.write(0xc001_011f, 2), Err(MsrFault));
    assert_eq!(b.write(0x49, 1), Err(MsrFault));
}

#[test]
fn cr4_by_the_rules() {
    let mut vcpu = vcpu();
    let cpuid = policy(&AMD_HOST, false, 1);
    for bit in (0..64).filter(|bit| !matches!(bit, 0..=11 | 16..=18 | 20..=22)) {
        assert_eq!(
            write_cr4(&mut *vcpu, &cpuid, 1 << bit),
            Err(MsrFault),
            "bit {bit}"
        );
    }
    assert_eq!(write_cr4(&mut *vcpu, &cpuid, CR4_PAE | CR4_SMEP), Ok(()));
    assert_eq!(vcpu.get(Reg::Cr4), CR4_PAE | CR4_SMEP);
    // In long mode PAE stays, and PCIDs may be switched on with CR3's low bits clear.
    vcpu.set(Reg::Efer, EFER_LME | EFER_LMA);
    assert_eq!(write_cr4(&mut *vcpu, &cpuid, CR4_SMEP), Err(MsrFault));
    vcpu.set(Reg::Cr3, 0x1001);
    assert_eq!(
        write_cr4(&mut *vcpu, &cpuid, CR4_PAE | CR4_PCIDE),
        Err(MsrFault)
    );
    vcpu.set(Reg::Cr3, 0x1000);
    assert_eq!(write_cr4(&mut *vcpu, &cpuid, CR4_PAE | CR4_PCIDE), Ok(()));
}

#[test]
fn intels_leaf_of_caches_shows_each_as_one_cores_own() {
    let host = Host {
        amd: false,
        leaf7_ebx: 0,
    };
    let p = policy(&host, false, 3);
    let leaf = |n| p.query(4, n, &live(0));
    let first = CpuIdResult {
        eax: 2 << 26 | 0x121,
        ebx: 0x01c0_003f,
        ecx: 63,
        edx: 0,
    };
    assert_eq!(leaf(0), first);
    assert_eq!((leaf(1).eax, leaf(1).ecx), (2 << 26 | 0x143, 1023));
    assert_eq!([leaf(2), leaf(9)], [NO_LEAF; 2]);
    assert_eq!(policy(&AMD_HOST, false, 3).query(4, 0, &live(0)).eax, 0);
}

#[test]
fn cx16_is_hidden_where_it_is_broken() {
    let shape = |without_cx16, dom0| DomainShape {
        dom0,
        without_cx16,
        ..DomainShape::default()
    };
    let fpu = FpuLayout::detect(&AMD_HOST);
    for dom0 in [false, true] {
        let has =
            |broken| CpuidPolicy::new(&AMD_HOST, &fpu, shape(broken, dom0)).has_1(Leaf1Ecx::CX16);
        assert_eq!([has(false), has(true)], [true, false]);
    }
}

#[test]
fn keys_are_hidden_where_pkru_is_not_switched() {
    let mut fpu = FpuLayout::detect(&AMD_HOST);
    let has =
        |fpu| CpuidPolicy::new(&AMD_HOST, &fpu, DomainShape::default()).has_7_ecx(Leaf7Ecx::PKU);
    assert!(has(fpu));
    fpu.xcr0 &= !crate::fpu::XCR0_PKRU;
    assert!(!has(fpu));
}
