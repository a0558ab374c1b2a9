//! What CPUs report, and what follows.

use std::string::{String, ToString};
use std::vec::Vec;

use super::report::{ArchCaps, Vendor};
use super::*;
use crate::policy::features::{Ext8Ebx as E8, Ext21Eax as E21, Leaf7Edx as L7};
use crate::x86::{CpuidRegs, CpuidSource};

/// An Intel CPU with today's microcode, and these facts.
fn intel(arch: ArchCaps) -> Report {
    Report {
        vendor: Vendor::Intel,
        family: 6,
        leaf7: (L7::MD_CLEAR | L7::IBRSB | L7::STIBP | L7::L1D_FLUSH | L7::ARCH_CAPS | L7::SSBD)
            .bits(),
        arch,
        ..Report::default()
    }
}

fn amd(family: u32, ext8: E8, ext21: E21) -> Report {
    Report {
        vendor: Vendor::Amd,
        family,
        ext8: ext8.bits(),
        ext21: ext21.bits(),
        ..Report::default()
    }
}

fn says(report: &Report, wish: &str) -> String {
    let mut unknown = Vec::new();
    let wish = Options::parse(wish, &mut |word| unknown.push(word.to_string()));
    assert!(unknown.is_empty(), "{unknown:?}");
    Controls::decide(report, &wish).to_string()
}

#[test]
fn each_kind_of_cpu_gets_what_it_needs() {
    let old = Report {
        vendor: Vendor::Intel,
        family: 6,
        ..Report::default()
    };
    let skylake = intel(ArchCaps::RSBA);
    let cascade_lake =
        intel(ArchCaps::RDCL_NO | ArchCaps::IBRS_ALL | ArchCaps::SKIP_L1DFL | ArchCaps::MDS_NO);
    let ice_lake = intel(
        ArchCaps::RDCL_NO
            | ArchCaps::IBRS_ALL
            | ArchCaps::MDS_NO
            | ArchCaps::TAA_NO
            | ArchCaps::FB_CLEAR,
    );
    let sapphire_rapids = intel(
        ArchCaps::RDCL_NO
            | ArchCaps::IBRS_ALL
            | ArchCaps::MDS_NO
            | ArchCaps::TAA_NO
            | ArchCaps::FB_CLEAR
            | ArchCaps::FBSDP_NO,
    );
    let nested = intel(ArchCaps::SKIP_L1DFL);
    let zen1 = amd(0x17, E8::IBPB, E21::empty());
    let zen3 = amd(
        0x19,
        E8::IBPB | E8::IBRS | E8::STIBP | E8::IBRS_ALWAYS | E8::SSBD,
        E21::LFENCE_DISPATCH,
    );
    let zen4 = amd(
        0x19,
        E8::IBPB | E8::IBRS | E8::STIBP | E8::SSBD,
        E21::LFENCE_DISPATCH | E21::AUTOMATIC_IBRS,
    );
    let kvm_on_zen1 = amd(0x17, E8::IBPB | E8::VIRT_SSBD, E21::empty());
    let bare_amd = amd(0x15, E8::empty(), E21::empty());
    for (report, line) in [
        (old, "RSB overwritten at exit, L1TF OPEN, MDS OPEN"),
        (
            skylake,
            "IBRS at each exit, RSB overwritten at exit, IBPB between domains, L1D flushed at entry, \
             buffers cleared at entry, guests have SPEC_CTRL",
        ),
        // Its transactions can still be aborted (TAA).
        (
            cascade_lake,
            "IBRS, RSB overwritten at exit, IBPB between domains, buffers cleared at entry, \
             guests have SPEC_CTRL",
        ),
        // Stale data of its fill buffers.
        (
            ice_lake,
            "IBRS, RSB overwritten at exit, IBPB between domains, buffers cleared at entry, \
             guests have SPEC_CTRL",
        ),
        (
            sapphire_rapids,
            "IBRS, RSB overwritten at exit, IBPB between domains, guests have SPEC_CTRL",
        ),
        (
            nested,
            "IBRS at each exit, RSB overwritten at exit, IBPB between domains, buffers cleared at entry, \
             guests have SPEC_CTRL",
        ),
        (
            zen1,
            "RSB overwritten at exit, IBPB between domains, LFENCE serialises",
        ),
        (
            zen3,
            "IBRS, RSB overwritten at exit, IBPB between domains, guests have SPEC_CTRL",
        ),
        (
            zen4,
            "automatic IBRS, IBPB between domains, guests have SPEC_CTRL",
        ),
        (
            kvm_on_zen1,
            "RSB overwritten at exit, IBPB between domains, LFENCE serialises, guests have VIRT_SPEC_CTRL",
        ),
        (bare_amd, "RSB overwritten at exit, LFENCE serialises"),
        (Report::default(), "nothing"),
    ] {
        assert_eq!(says(&report, ""), line, "{report:?}");
    }
}

#[test]
fn the_words_of_the_option() {
    let skylake = intel(ArchCaps::RSBA);
    assert_eq!(says(&skylake, "no"), "L1TF OPEN, MDS OPEN");
    assert_eq!(says(&skylake, "yes"), says(&skylake, ""));
    assert_eq!(
        says(&skylake, "no-xen"),
        "guests have SPEC_CTRL, L1TF OPEN, MDS OPEN"
    );
    assert_eq!(
        says(&skylake, "hvm=no"),
        "IBRS at each exit, IBPB between domains, L1D flushed at entry, MDS OPEN"
    );
    assert_eq!(
        says(
            &skylake,
            "no,ssbd,stibp=yes,ibpb-entry,l1d-flush,md-clear=on,bti-thunk=jmp"
        ),
        "STIBP, SSBD, IBPB at exit, L1D flushed at entry, buffers cleared at entry"
    );
    // What the CPU does not have stays off, whatever is wished.
    assert_eq!(
        says(&Report::default(), "ssbd,l1d-flush,md-clear,ibrs,ibpb,psfd"),
        "nothing"
    );
    let mut unknown = Vec::new();
    Options::parse("ibrs=maybe,frob,,rsb", &mut |word| {
        unknown.push(word.to_string())
    });
    assert_eq!(unknown, ["ibrs=maybe", "frob"]);
}

#[test]
fn guests_are_offered_what_is_switched_for_them() {
    let skylake = intel(ArchCaps::RSBA);
    let offer = |report: &Report, wish: &str| {
        Controls::decide(report, &Options::parse(wish, &mut |_| ())).offer
    };
    let given = offer(&skylake, "");
    assert_eq!(given.leaf7, skylake.leaf7 & Offer::LEAF7);
    // They need not flush themselves: we do.
    assert_eq!(
        given.arch_caps,
        (ArchCaps::RSBA | ArchCaps::SKIP_L1DFL).bits()
    );
    let closed = offer(&skylake, "msr-sc=no");
    assert_eq!((closed.leaf7, closed.ext8), (L7::ARCH_CAPS.bits(), 0));
    let zen3 = amd(
        0x19,
        E8::IBPB | E8::IBRS | E8::SSBD | E8::SSB_NO,
        E21::empty(),
    );
    assert_eq!(
        offer(&zen3, "").ext8,
        (E8::IBPB | E8::IBRS | E8::SSBD | E8::VIRT_SSBD).bits()
    );
    assert_eq!(offer(&Report::default(), ""), Offer::default());
}

#[test]
fn reports_are_read_where_the_manuals_say() {
    struct Cpu;
    impl CpuidSource for Cpu {
        fn cpuid(&self, leaf: u32, _: u32) -> CpuidRegs {
            let r = |eax, ebx, ecx, edx| CpuidRegs { eax, ebx, ecx, edx };
            match leaf {
                0 => r(7, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
                1 => r(0x0005_0654, 0, 0, 0),
                7 => r(0, 0, 0, 1 << 29 | 1 << 26),
                0x8000_0000 => r(0x8000_0008, 0, 0, 0),
                0x8000_0008 => r(0, 1 << 12, 0, 0),
                _ => r(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
            }
        }
    }
    let mut asked = Vec::new();
    let report = Report::read(&Cpu, &mut |msr| {
        asked.push(msr);
        0x21
    });
    assert_eq!(asked, [0x10a]);
    assert_eq!((report.vendor, report.family), (Vendor::Intel, 6));
    assert_eq!(report.arch, ArchCaps::RDCL_NO | ArchCaps::MDS_NO);
    assert_eq!(
        (report.leaf7, report.ext8, report.ext21),
        (1 << 29 | 1 << 26, 1 << 12, 0)
    );
}

fn cpu(controls: Controls) -> SpecCpu {
    SpecCpu {
        controls,
        last_domain: 0,
    }
}

#[test]
fn predictions_are_forgotten_between_domains() {
    let mut with = cpu(Controls {
        ibpb: true,
        ..Controls::default()
    });
    let forgets = [1, 1, 2, 2, 1].map(|domain| with.forgets_for(domain));
    assert_eq!(forgets, [true, false, true, false, true]);
    assert!(!cpu(Controls::default()).forgets_for(1));
}

#[test]
fn spec_ctrl_is_switched_where_it_differs() {
    let writes = |host, rewrite, virt_ssbd, guest: (u64, u64)| {
        let controls = Controls {
            host,
            rewrite,
            virt_ssbd,
            ..Controls::default()
        };
        cpu(controls).spec_ctrl_writes(&SpecVcpu {
            spec_ctrl: guest.0,
            virt_spec_ctrl: guest.1,
        })
    };
    assert_eq!(writes(None, true, false, (5, 4)), (None, None));
    assert_eq!(writes(Some(1), false, false, (1, 0)), (None, None));
    assert_eq!(writes(Some(1), false, false, (0, 0)), (Some(0), Some(1)));
    // IBRS is to be written again although the guest has it too.
    assert_eq!(writes(Some(1), true, false, (1, 0)), (None, Some(1)));
    assert_eq!(writes(Some(0), true, false, (0, 0)), (None, None));
    // A guest's SSBD comes by either register, unless there is one for it alone.
    assert_eq!(writes(Some(1), false, false, (1, 4)), (Some(5), Some(1)));
    assert_eq!(writes(Some(1), false, true, (1, 4)), (None, None));
}
