//! Reports of CPUs, and the measures that follow.

use std::string::{String, ToString};
use std::vec::Vec;

use super::report::{ArchCaps, Vendor};
use super::*;
use crate::features::{Ext8Ebx as E8, Ext21Eax as E21, Leaf7Edx as L7};
use crate::x86::{CpuIdReader, CpuIdResult};

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

fn decide(report: &Report, wish: &str) -> Controls {
    let mut unknown = Vec::new();
    let wish = Options::parse(wish, &mut |word| unknown.push(word.to_string()));
    assert!(unknown.is_empty(), "{unknown:?}");
    Controls::decide(report, &wish)
}

/// The log's line, and the names of what stays open.
fn says(report: &Report, wish: &str) -> String {
    let controls = decide(report, wish);
    let mut line = controls.to_string();
    for (name, _) in controls.open.iter() {
        line += ", OPEN ";
        line += name;
    }
    line
}

fn names(report: &Report) -> String {
    decide(report, "").errata.to_string()
}

#[test]
fn each_kind_of_intel_cpu_gets_what_it_needs() {
    let old = Report {
        vendor: Vendor::Intel,
        family: 6,
        ..Report::default()
    };
    let skylake = intel(ArchCaps::RSBA);
    let cascade_lake =
        intel(ArchCaps::RDCL_NO | ArchCaps::IBRS_ALL | ArchCaps::SKIP_L1DFL | ArchCaps::MDS_NO);
    let cascade_lake = Report {
        model: 0x55,
        avx: true,
        ..cascade_lake
    };
    let ice_lake = intel(
        ArchCaps::RDCL_NO
            | ArchCaps::IBRS_ALL
            | ArchCaps::MDS_NO
            | ArchCaps::TAA_NO
            | ArchCaps::FB_CLEAR
            | ArchCaps::GDS_CTRL,
    );
    let ice_lake = Report {
        model: 0x6a,
        avx: true,
        ..ice_lake
    };
    let sapphire_rapids = intel(
        ArchCaps::RDCL_NO
            | ArchCaps::IBRS_ALL
            | ArchCaps::MDS_NO
            | ArchCaps::TAA_NO
            | ArchCaps::FB_CLEAR
            | ArchCaps::FBSDP_NO
            | ArchCaps::GDS_NO,
    );
    let sapphire_rapids = Report {
        model: 0x8f,
        avx: true,
        leaf7_2: report::BHI_CTRL,
        ..sapphire_rapids
    };
    let later = Report {
        arch: sapphire_rapids.arch | ArchCaps::BHI_NO,
        ..sapphire_rapids
    };
    let nested = intel(ArchCaps::SKIP_L1DFL);
    for (report, line) in [
        (
            old,
            "RSB overwritten at exit, OPEN BTI, OPEN L1TF, OPEN MDS",
        ),
        (
            skylake,
            "IBRS at each exit, RSB overwritten at exit, IBPB between vcpus, L1D flushed at entry, \
             buffers cleared at entry, guests have SPEC_CTRL",
        ),
        // Its transactions can still be aborted (TAA).
        (
            cascade_lake,
            "IBRS, RSB overwritten at exit, IBPB between vcpus, buffers cleared at entry, \
             guests have SPEC_CTRL, OPEN BHI, OPEN ITS, OPEN GDS",
        ),
        // Stale data of its fill buffers.
        (
            ice_lake,
            "IBRS, RSB overwritten at exit, IBPB between vcpus, buffers cleared at entry, \
             guests have SPEC_CTRL, OPEN BHI, OPEN ITS",
        ),
        (
            sapphire_rapids,
            "IBRS, BHI_DIS_S, RSB overwritten at exit, IBPB between vcpus, guests have SPEC_CTRL",
        ),
        (
            later,
            "IBRS, RSB overwritten at exit, IBPB between vcpus, guests have SPEC_CTRL",
        ),
        (
            nested,
            "IBRS at each exit, RSB overwritten at exit, IBPB between vcpus, buffers cleared at entry, \
             guests have SPEC_CTRL",
        ),
        (Report::default(), "nothing"),
    ] {
        assert_eq!(says(&report, ""), line, "{report:?}");
    }
    assert_eq!(names(&ice_lake), "GDS by microcode");
    assert_eq!(names(&cascade_lake), "nothing");
}

/// SPEC-1: AMD's processors take a RET for another branch, or its return stack overflows: IBPB at
/// exit, or what their microcode has for it, or the name of what is open.
#[test]
fn each_kind_of_amd_cpu_gets_what_it_needs() {
    let zen1 = amd(0x17, E8::IBPB, E21::empty());
    let zen2 = Report {
        model: 0x31,
        smt: true,
        microcode: 0x0830_107b,
        ..amd(
            0x17,
            E8::IBPB | E8::IBRS | E8::STIBP | E8::SSBD,
            E21::empty(),
        )
    };
    let zen3 = Report {
        model: 1,
        smt: true,
        microcode: 0x0a00_11d7,
        ..amd(
            0x19,
            E8::IBPB | E8::IBRS | E8::STIBP | E8::IBRS_ALWAYS | E8::SSBD | E8::BTC_NO,
            E21::LFENCE_DISPATCH,
        )
    };
    let with = |report: Report, bits: u32| Report {
        ext21: report.ext21 | bits,
        ..report
    };
    let zen4 = Report {
        model: 0x11,
        ..amd(
            0x19,
            E8::IBPB | E8::IBRS | E8::STIBP | E8::SSBD | E8::BTC_NO | E8::IBPB_RET,
            E21::LFENCE_DISPATCH | E21::AUTOMATIC_IBRS,
        )
    };
    let zen5 = Report {
        family: 0x1a,
        ..with(zen4, 1 << 31)
    };
    let kvm_on_zen1 = Report {
        virtualised: true,
        ..amd(0x17, E8::IBPB | E8::VIRT_SSBD, E21::empty())
    };
    let bare_amd = amd(0x15, E8::empty(), E21::empty());
    let tcg = Report {
        virtualised: true,
        emulated: true,
        ..amd(0xf, E8::empty(), E21::empty())
    };
    for (report, line) in [
        (
            zen1,
            "RSB overwritten at exit, IBPB at exit, IBPB between vcpus, divider cleared at entry",
        ),
        (
            Report { smt: true, ..zen1 },
            "RSB overwritten at exit, IBPB at exit, IBPB between vcpus, divider cleared at entry, OPEN DIV",
        ),
        (
            zen2,
            "IBRS at each exit, RSB overwritten at exit, IBPB at exit, IBPB between vcpus, \
             guests have SPEC_CTRL",
        ),
        // Without the microcode that forgets types of branches.
        (
            zen3,
            "IBRS, RSB overwritten at exit, IBPB between vcpus, buffers cleared at entry, \
             guests have SPEC_CTRL, OPEN SRSO",
        ),
        (
            with(zen3, 1 << 28),
            "IBRS, RSB overwritten at exit, IBPB at exit, IBPB between vcpus, \
             buffers cleared at entry, guests have SPEC_CTRL",
        ),
        (
            with(zen3, E21::SRSO_NO.bits()),
            "IBRS, RSB overwritten at exit, IBPB between vcpus, buffers cleared at entry, \
             guests have SPEC_CTRL",
        ),
        (
            zen4,
            "automatic IBRS, IBPB between vcpus, guests have SPEC_CTRL, OPEN SRSO, OPEN TSA",
        ),
        (
            with(zen4, 1 << 28 | 1 << 5),
            "automatic IBRS, IBPB at exit, IBPB between vcpus, buffers cleared at entry, \
             guests have SPEC_CTRL",
        ),
        // XSA-422: its IBPB would leave the return predictor as it is.
        (
            Report {
                ext8: zen4.ext8 & !E8::IBPB_RET.bits(),
                ext21_ecx: 6,
                ..with(zen4, E21::SRSO_NO.bits())
            },
            "automatic IBRS, RSB overwritten at exit, IBPB between vcpus, guests have SPEC_CTRL",
        ),
        (
            zen5,
            "automatic IBRS, IBPB between vcpus, guests have SPEC_CTRL",
        ),
        (
            kvm_on_zen1,
            "RSB overwritten at exit, IBPB at exit, IBPB between vcpus, divider cleared at entry, \
             guests have VIRT_SPEC_CTRL",
        ),
        (bare_amd, "RSB overwritten at exit, OPEN BTI, OPEN BTC"),
        (tcg, "RSB overwritten at exit"),
    ] {
        assert_eq!(says(&report, ""), line, "{report:?}");
    }
    assert_eq!(
        says(&zen2, "no-ibpb-entry"),
        "IBRS at each exit, RSB overwritten at exit, IBPB between vcpus, guests have SPEC_CTRL, \
         OPEN BTC, OPEN SRSO"
    );
    // One thread of each core: the return stack is too short for it.
    let alone = Report { smt: false, ..zen2 };
    assert!(!decide(&alone, "no-ibpb-entry").open.srso);
}

/// PRED_CMD.SBPB came with the microcode that makes IBPB forget types of branches.
#[test]
fn microcode_that_says_nothing_of_itself_is_found_by_a_try() {
    let probed = |report: Report, takes: bool| {
        let (mut report, mut asked) = (report, Vec::new());
        report.probe(&mut |msr, value| {
            asked.push((msr, value));
            takes
        });
        (report.ibpb_forgets_types(), asked)
    };
    let zen3 = amd(0x19, E8::IBPB, E21::empty());
    assert_eq!(probed(zen3, true), (true, [(0x49, 0x80)].to_vec()));
    assert_eq!(probed(zen3, false), (false, [(0x49, 0x80)].to_vec()));
    let below = Report {
        virtualised: true,
        ..zen3
    };
    assert_eq!(probed(below, true), (false, Vec::new()));
    assert_eq!(
        probed(amd(0x17, E8::IBPB, E21::empty()), true),
        (true, Vec::new())
    );
    assert_eq!(
        probed(amd(0x19, E8::empty(), E21::empty()), true),
        (false, Vec::new())
    );
}

/// TSA: by CPUID, or by the microcode's level for the stepping.
#[test]
fn verw_clears_from_the_first_microcode_on_that_makes_it() {
    let zen3 = |microcode| Report {
        microcode,
        ..amd(0x19, E8::empty(), E21::empty())
    };
    for (level, clears) in [
        (0x0a00_11d6, false),
        (0x0a00_11d7, true),
        (0x0a20_1210, false),
        (0x0a20_1211, true),
        // No level of another stepping counts.
        (0x0a00_13ff, false),
        (0, false),
    ] {
        let controls = decide(&zen3(level), "");
        assert_eq!(
            (controls.verw, controls.open.tsa),
            (clears, !clears),
            "{level:#x}"
        );
    }
    let spared = Report {
        ext21_ecx: 6,
        ..zen3(0)
    };
    assert!(!decide(&spared, "").open.tsa);
    assert!(!decide(&amd(0x1a, E8::empty(), E21::empty()), "").open.tsa);
}

/// The register's value after the fixes of a report.
fn fixed(report: &Report, msr: u32, value: u64) -> u64 {
    let errata = decide(report, "").errata;
    let same: Vec<_> = errata.fixes().filter(|fix| fix.msr == msr).collect();
    assert!(
        same.len() <= 1,
        "all bits of a register are written at once"
    );
    same.first()
        .and_then(|fix| fix.applied(value))
        .unwrap_or(value)
}

const LS_CFG: u32 = 0xc001_1020;
const DE_CFG: u32 = 0xc001_1029;
const BP_CFG: u32 = 0xc001_102e;

/// ERR-1
#[test]
fn errata_are_mended_by_the_bits_that_the_vendor_names() {
    let zen = |model, microcode| Report {
        model,
        microcode,
        ..amd(0x17, E8::STIBP, E21::empty())
    };
    let others = 0xa5a5_0000_0000_0000;
    // Zen 1, whose FP_CFG keeps the divider's state from others.
    assert_eq!(fixed(&zen(1, 0), 0xc001_1028, others), others | 1 << 9);
    assert_eq!(fixed(&zen(0x31, 0), 0xc001_1028, others), others);
    // Zen 2: op cache, non-branches.
    assert_eq!(fixed(&zen(0x31, 0), BP_CFG, others), others | 1 << 33);
    assert_eq!(fixed(&zen(0x31, 0), 0xc001_10e3, 0), 2);
    assert_eq!(fixed(&zen(1, 0), BP_CFG, 0), 0);
    // Zen 4, and the one with the bit against SRSO.
    let zen4 = amd(
        0x19,
        E8::empty(),
        E21::AUTOMATIC_IBRS | E21::LFENCE_DISPATCH,
    );
    assert_eq!(fixed(&zen4, BP_CFG, 0), 1 << 5);
    let reduced = Report {
        ext21: zen4.ext21 | 1 << 31,
        ..zen4
    };
    assert_eq!(fixed(&reduced, BP_CFG, 0), 1 << 5 | 1 << 4);
    // Family 16h, models 0 to 0fh.
    let jaguar = |model| Report {
        model,
        ..amd(0x16, E8::empty(), E21::empty())
    };
    assert_eq!(fixed(&jaguar(0), LS_CFG, others), others | 1 << 15);
    assert_eq!(fixed(&jaguar(0x30), LS_CFG, others), others);
    // Family 10h: C1E off, erratum 383, LFENCE.
    let barcelona = amd(0x10, E8::empty(), E21::empty());
    assert_eq!(fixed(&barcelona, 0xc001_0055, 0xffff_ffff), 0xe7ff_ffff);
    assert_eq!(fixed(&barcelona, 0xc001_1022, 0), 1 << 47);
    assert_eq!(fixed(&barcelona, DE_CFG, others), others | 2);
    assert_eq!(
        fixed(&amd(0x12, E8::empty(), E21::empty()), DE_CFG, 0),
        1 << 31 | 2
    );
    // Family 11h has no such register, and Intel's none of all.
    assert_eq!(fixed(&amd(0x11, E8::empty(), E21::empty()), DE_CFG, 0), 0);
    assert_eq!(names(&intel(ArchCaps::empty())), "nothing");
    // A hypervisor below us looks after the rest.
    let below = Report {
        virtualised: true,
        ..zen(0x31, 0)
    };
    assert_eq!(fixed(&below, DE_CFG, 0), 2);
    assert_eq!(fixed(&below, BP_CFG, 0), 0);
    assert!(decide(&below, "").errata.may_fail);
}

/// XSA-433, and XSA-515: the bit is set where the microcode is too old, not where it is new enough.
#[test]
fn zenbleed_is_mended_until_the_microcode_does() {
    let bit = |model, microcode| {
        let report = Report {
            model,
            microcode,
            ..amd(0x17, E8::STIBP, E21::empty())
        };
        fixed(&report, DE_CFG, 0) & 1 << 9 != 0
    };
    for (model, first) in [
        (0x31, 0x0830_107b),
        (0x60, 0x0860_010c),
        (0x68, 0x0860_8107),
        (0x71, 0x0870_1033),
        (0xa0, 0x08a0_0009),
    ] {
        assert!(
            bit(model, first - 1),
            "{model:#x}: the last without the remedy"
        );
        assert!(!bit(model, first), "{model:#x}: the first with it");
        assert!(bit(model, 0), "{model:#x}: no level");
    }
    // A stepping that the table does not know, whatever its level; Zen 1 is not affected.
    assert!(bit(0x90, u32::MAX));
    assert!(!bit(0x11, 0));
}

/// XSA-282: the 4 MiB at 1 GiB, where the CPU shows HLE.
#[test]
fn memory_that_locks_up_is_left_out() {
    let skylake = Report {
        model: 0x5e,
        hle: true,
        ..intel(ArchCaps::RSBA)
    };
    let bad = |report: &Report| errata::bad_memory(report).map(|(at, len)| (at.raw(), len));
    assert_eq!(bad(&skylake), Some((1 << 30, 4 << 20)));
    assert_eq!(
        bad(&Report {
            hle: false,
            ..skylake
        }),
        None
    );
    assert_eq!(
        bad(&Report {
            model: 0x6a,
            ..skylake
        }),
        None
    );
    assert_eq!(
        bad(&Report {
            virtualised: true,
            ..skylake
        }),
        None
    );
}

#[test]
fn the_words_of_the_option() {
    let skylake = intel(ArchCaps::RSBA);
    assert_eq!(
        says(&skylake, "no"),
        "nothing, OPEN BTI, OPEN L1TF, OPEN MDS"
    );
    assert_eq!(says(&skylake, "yes"), says(&skylake, ""));
    assert_eq!(
        says(&skylake, "no-xen"),
        "guests have SPEC_CTRL, OPEN BTI, OPEN L1TF, OPEN MDS"
    );
    assert_eq!(
        says(&skylake, "hvm=no"),
        "IBRS at each exit, IBPB between vcpus, L1D flushed at entry, OPEN MDS"
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
    #[derive(Clone)]
    struct Cpu;
    impl CpuIdReader for Cpu {
        fn cpuid2(&self, leaf: u32, _: u32) -> CpuIdResult {
            let r = |eax, ebx, ecx, edx| CpuIdResult { eax, ebx, ecx, edx };
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
        last_stay: 0,
    }
}

/// XSA-479: a vcpu that was elsewhere in between, where its guest's kernel held two tasks apart,
/// and another vcpu of the same guest.
#[test]
fn predictions_are_forgotten_unless_the_vcpu_ran_here_last() {
    let with = Controls {
        ibpb: true,
        ..Controls::default()
    };
    let (mut here, mut there) = (cpu(with), cpu(with));
    let (mut a, mut b) = (SpecVcpu::default(), SpecVcpu::default());
    assert!(here.forgets_for(&mut a));
    assert!(!here.forgets_for(&mut a) && !here.forgets_for(&mut a));
    assert!(here.forgets_for(&mut b) && here.forgets_for(&mut a));
    assert!(there.forgets_for(&mut a) && here.forgets_for(&mut a));
    assert!(there.forgets_for(&mut a));
    assert!(!cpu(Controls::default()).forgets_for(&mut b));
}

/// SPEC-1: IBPB at exit but for dom0, unless it was asked for; what the world switch does is one
/// word for each end.
#[test]
fn the_world_switch_does_what_was_decided() {
    use super::switch::{Switch, entry, exit};
    let zen1 = amd(0x17, E8::IBPB, E21::empty());
    let switch = |report: &Report, wish: &str, vcpu: &SpecVcpu, trusted: bool| {
        cpu(decide(report, wish)).switch(vcpu, trusted)
    };
    let vcpu = SpecVcpu::default();
    let work = switch(&zen1, "", &vcpu, false);
    assert_eq!(
        work,
        Switch {
            entry: entry::DIV,
            exit: exit::IBPB | exit::RSB,
            guest: 0,
            host: 0
        }
    );
    assert_eq!(switch(&zen1, "", &vcpu, true).exit, exit::RSB);
    assert_eq!(switch(&zen1, "ibpb-entry", &vcpu, true).exit, work.exit);
    let skylake = intel(ArchCaps::RSBA);
    let guest = SpecVcpu {
        spec_ctrl: STIBP,
        ..vcpu
    };
    let work = switch(&skylake, "", &guest, false);
    assert_eq!(
        work.entry,
        entry::SPEC_CTRL | entry::L1D_FLUSH | entry::VERW
    );
    assert_eq!(work.exit, exit::SPEC_CTRL | exit::RSB);
    assert_eq!((work.guest, work.host), (STIBP, IBRS));
}

/// The text of a world switch, without comments.
fn lines(source: &str) -> Vec<String> {
    let line = |line: &str| line.split("//").next().unwrap_or("").trim().to_string();
    source
        .lines()
        .map(line)
        .filter(|line| !line.is_empty())
        .collect()
}

/// SPEC-1: no RET before the work at exit, which is done while NMIs are held back (AMD-V), and
/// nothing of ours between the work at entry and the entry but the guest's registers.
#[test]
fn nothing_returns_before_the_work_at_exit() {
    let svm = lines(include_str!("../svm/switch.rs"));
    let at = |text: &str| {
        let found = svm.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text}"))
    };
    let order = [
        "\"clgi\"",
        "entry_work!(),",
        "load_gprs!(),",
        "\"vmrun rax\"",
        "store_gprs!(),",
        "exit_work!(),",
        "\"stgi\"",
        "pop_kept!(),",
        "\"ret\"",
    ];
    assert!(order.map(at).is_sorted());
    assert!(
        svm.iter()
            .all(|line| !line.starts_with("\"call") && !line.starts_with("\"jmp"))
    );
    let vmx = lines(include_str!("../vmx/switch.rs"));
    let positions = |text: &str| -> Vec<_> {
        (0..vmx.len())
            .filter(|at| vmx[*at].contains(text))
            .collect()
    };
    let (works, returns) = (positions("exit_work!(),"), positions("\"ret\""));
    assert_eq!((works.len(), returns.len()), (2, 2));
    assert!(works[0] < returns[0] && returns[0] < works[1] && works[1] < returns[1]);
    assert!(positions("entry_work!(),")[0] < positions("\"vmresume\"")[0]);
}

/// Does the work at entry and at exit, without registers that only the hypervisor may write.
/// Returns by how much that moved the stack.
///
/// # Safety
/// `work` has neither IBPB nor SPEC_CTRL nor L1D_FLUSH.
#[unsafe(naked)]
#[allow(unsafe_code, reason = "runs the text of the world switches")]
unsafe extern "sysv64" fn both_works(work: &switch::Switch) -> u64 {
    core::arch::naked_asm!(
        "push rbx",
        "mov rbx, rdi",
        "mov r8, rsp",
        super::switch::entry_work!(),
        super::switch::exit_work!(),
        "mov rax, rsp",
        "sub rax, r8",
        "pop rbx",
        "ret",
        selector = sym switch::SELECTOR,
    )
}

#[test]
#[allow(unsafe_code, reason = "runs the text of the world switches")]
fn the_work_leaves_the_stack_as_it_was() {
    use super::switch::{Switch, entry, exit};
    for (entry, exit) in [
        (0, 0),
        (entry::DIV, 0),
        (entry::VERW, exit::RSB),
        (entry::DIV | entry::VERW, exit::RSB),
    ] {
        let work = Switch {
            entry,
            exit,
            ..Switch::default()
        };
        // SAFETY: no register is written.
        assert_eq!(unsafe { both_works(&work) }, 0, "{entry} {exit}");
    }
}

/// SPEC-2: behind the last conditional jump of either work stands an LFENCE, and what is done at
/// exit is in an order in which the return predictor is filled after IBPB.
#[test]
fn a_mispredicted_jump_skips_no_work() {
    let text = lines(include_str!("switch.rs"));
    let part = |from: &str, to: &str| {
        let start = text.iter().position(|line| line.contains(from)).unwrap();
        let end = start
            + text[start..]
                .iter()
                .position(|line| line.contains(to))
                .unwrap();
        text[start..=end].to_vec()
    };
    let works = [
        part("macro_rules! entry_work", "lfence\""),
        part("macro_rules! exit_work", "lfence\""),
    ];
    for work in &works {
        let jumps = |line: &&String| line.starts_with("jz ") || line.starts_with("jnz ");
        assert_eq!(work.iter().filter(jumps).count(), 4);
        let last = work.iter().rposition(|line| jumps(&line)).unwrap();
        assert!(work[last..].last().unwrap().ends_with("lfence\""));
    }
    let at = |text: &str| {
        works[1]
            .iter()
            .position(|line| line.contains(text))
            .unwrap()
    };
    assert!(at("mov ecx, 0x49") < at("mov ecx, 0x48") && at("mov ecx, 0x48") < at("call 73f"));
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
            ..SpecVcpu::default()
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
