//! The contents of the VMCB, and the outcome of exits.

use oxen_types::Maddr;

use super::SvmVcpu;
use crate::backend::{
    Event, Exit, Reg, SegReg, Segment, ShadowRoots, VcpuBackend, VcpuEmulation, VcpuEvents,
    VcpuRegisters, Window,
};
use crate::start;
use crate::svm::intercept::{self, g1};
use crate::svm::vmcb::Clean;
use crate::svm::{SvmCaps, maps};
use crate::testing::parts;
use crate::x86::{CR0_PE, CR0_PG, CR4_MCE, DR6_BS, EFER_LMA, EFER_LME, RFLAGS_RF, RFLAGS_TF};

const ROOTS: ShadowRoots = ShadowRoots {
    long: Maddr::new(0x1000),
    pae: Maddr::new(0x2000),
};

fn vcpu() -> SvmVcpu {
    SvmVcpu::new(SvmCaps::for_tests(), parts(maps::new)).unwrap()
}

fn on_shadow() -> SvmVcpu {
    let mut v = vcpu();
    v.set_shadow_roots(ROOTS);
    v
}

/// An exit with this code. The number of entries must be one.
fn exit(v: &mut SvmVcpu, code: u64) -> Exit {
    let mut entries = 0;
    v.run_once(|v| {
        entries += 1;
        assert_eq!(entries, 1, "it enters again by itself");
        v.vmcb.control.event_inj = 0;
        v.vmcb.control.exit_code = code;
    })
}

/// Task switches load CR3 past the intercept of CR3 (APM 15.9, table 15-7), and check this
/// intercept alone (15.14.1).
#[test]
fn task_switches_exit_on_a_shadow_and_under_nested_paging() {
    let mut v = on_shadow();
    start::pvh(&mut v, 0x1000, 0);
    assert_eq!(v.vmcb.control.nested_ctl, 0);
    assert_ne!(v.vmcb.save.cr0 & CR0_PG, 0, "the CPU pages");
    for v in [&vcpu(), &v] {
        assert_ne!(v.vmcb.control.general1 & 1 << 29, 0, "TASK_SWITCH");
    }
    assert_eq!(exit(&mut v, 0x7d), Exit::TaskSwitch);
}

#[test]
fn a_guest_on_a_shadow_that_comes_back_with_another_cr3_is_told() {
    let mut v = on_shadow();
    assert_eq!(exit(&mut v, 0x72), Exit::Cpuid);
    v.vmcb.save.cr3 = 0x666000;
    assert_eq!(exit(&mut v, 0x72), Exit::ForeignRoot(0x666000));
    // With nested paging CR3 is the guest's own.
    let mut v = vcpu();
    v.vmcb.save.cr3 = 0x666000;
    assert_eq!(exit(&mut v, 0x72), Exit::Cpuid);
}

#[test]
fn the_root_of_a_shadow_follows_the_mode() {
    let mut v = on_shadow();
    assert_eq!(v.vmcb.save.cr3, ROOTS.pae.raw());
    v.set(Reg::Efer, EFER_LME | EFER_LMA);
    v.set(Reg::Cr0, CR0_PE | CR0_PG);
    assert_eq!(v.vmcb.save.cr3, ROOTS.long.raw());
    assert_eq!(exit(&mut v, 0x72), Exit::Cpuid);
}

/// XSA-156: an exception whose delivery raises it again exits for ever; each time the CPU's loop
/// comes round.
#[test]
fn each_reflected_exception_comes_back_to_the_loop_of_the_cpu() {
    for (code, event) in [(0x41, Event::DB), (0x51, Event::AC)] {
        let mut v = vcpu();
        for _ in 0..3 {
            assert_eq!(exit(&mut v, code), Exit::Settled);
            assert_eq!(v.pending_event(), Some(event));
        }
    }
}

#[test]
fn machine_checks_stay_on_whatever_the_guest_sets() {
    let mut v = vcpu();
    for value in [0, 0x20, 0x60] {
        v.set(Reg::Cr4, value);
        assert_eq!(v.vmcb.save.cr4, value | CR4_MCE);
        assert_eq!((v.get(Reg::Cr4), v.execution().cr4), (value, value));
        let reads = v.vmcb.control.cr_read & intercept::CR4 != 0;
        assert_eq!(reads, value & CR4_MCE == 0, "the guest reads its own value");
        assert_ne!(v.vmcb.control.cr_write & intercept::CR4, 0);
    }
    let mut v = on_shadow();
    v.set(Reg::Cr4, 0x20);
    assert_eq!(v.vmcb.save.cr4 & CR4_MCE, CR4_MCE);
    assert_eq!(v.get(Reg::Cr4), 0x20);
    assert_eq!(
        v.vmcb.control.cr_read & intercept::CR_SHADOWED,
        intercept::CR_SHADOWED
    );
}

#[test]
fn an_emulated_instruction_ends_rf_and_traps_under_tf() {
    let mut v = vcpu();
    v.set(Reg::Rflags, RFLAGS_RF);
    v.advance_rip(2);
    assert_eq!(
        (v.get(Reg::Rflags) & RFLAGS_RF, v.pending_event()),
        (0, None)
    );
    assert_eq!(v.get(Reg::Dr6) & DR6_BS, 0);
    v.set(Reg::Rflags, RFLAGS_TF);
    v.advance_rip(2);
    assert_eq!(v.pending_event(), Some(Event::DB));
    assert_eq!(v.get(Reg::Dr6) & DR6_BS, DR6_BS);
}

#[test]
fn real_mode_gets_no_error_code() {
    let mut v = vcpu();
    v.set(Reg::Cr0, 0);
    v.inject(Event::GP);
    v.tidy();
    assert_eq!(v.vmcb.control.event_inj, 0x8000_030d);
    v.set(Reg::Cr0, CR0_PE);
    v.inject(Event::GP);
    v.tidy();
    assert_eq!(v.vmcb.control.event_inj, 0x8000_0b0d);
}

/// Its delivery may exit; then it is delivered again, from RIP behind the instruction.
#[test]
fn int1_and_rdpru_exit() {
    assert_eq!(
        vcpu().vmcb.control.general2 & (1 << 8 | 1 << 14),
        1 << 8 | 1 << 14
    );
    assert_eq!(exit(&mut vcpu(), 0x88), Exit::Icebp);
    assert_eq!(exit(&mut vcpu(), 0x8e), Exit::Rdpru);
}

#[test]
fn rip_is_brought_into_the_form_of_its_code_segment() {
    let mut v = vcpu();
    v.set(Reg::Cr0, CR0_PE | CR0_PG);
    v.set(Reg::Efer, EFER_LME | EFER_LMA);
    v.set_segment(SegReg::Cs, Segment::new(0x23, 0xcfb, u32::MAX, 0));
    v.set(Reg::Rip, 0xffff_fffe);
    v.advance_rip(2);
    v.tidy();
    assert_eq!((v.get(Reg::Rip), v.pending_event()), (0, None));
    v.set_segment(SegReg::Cs, Segment::new(0x33, 0xafb, u32::MAX, 0));
    v.set(Reg::Rip, 0x7fff_ffff_fffe);
    v.advance_rip(2);
    v.tidy();
    assert_eq!(v.get(Reg::Rip), 0xffff_8000_0000_0000);
    assert_eq!(v.pending_event(), Some(Event::GP));
}

/// APM 15.21.4: a virtual interrupt is taken when V_INTR_PRIO is above V_TPR, which MOV to CR8
/// changes without an exit.
#[test]
fn what_cr8_holds_back_exits_when_cr8_falls() {
    const V_IRQ: u64 = 1 << 8;
    const V_IGN_TPR: u64 = 1 << 20;
    let mut v = vcpu();
    v.set(Reg::Cr8, 9);
    let fields = |v: &SvmVcpu| {
        let int_ctl = v.vmcb.control.int_ctl;
        assert_eq!(int_ctl & 0xf, 9, "V_TPR is the guest's");
        let asked = v.vmcb.control.general1 & g1::VINTR != 0;
        assert_eq!(asked, int_ctl & V_IRQ != 0);
        (asked, int_ctl & V_IGN_TPR != 0, int_ctl >> 16 & 0xf)
    };
    for _ in 0..2 {
        v.request_interrupt_window(Window::Priority(8));
        assert_eq!(fields(&v), (true, false, 8));
        v.request_interrupt_window(Window::Interrupts);
        assert_eq!(fields(&v), (true, true, 15));
        v.request_interrupt_window(Window::Priority(2));
        assert_eq!(fields(&v), (true, false, 2));
        v.clean.insert(Clean::TPR);
        v.request_interrupt_window(Window::Priority(2));
        assert!(v.clean.contains(Clean::TPR), "nothing has changed");
        v.request_interrupt_window(Window::Unwanted);
        assert!(!v.clean.contains(Clean::TPR));
        assert_eq!(fields(&v), (false, false, 0));
    }
    v.request_interrupt_window(Window::Priority(8));
    assert_eq!(exit(&mut v, 0x64), Exit::InterruptWindow);
    assert_eq!(fields(&v), (false, false, 0));
}

/// QEMU takes a virtual interrupt whose priority is V_TPR's: the guest would leave at each entry,
/// and never get anywhere. One such exit is enough.
#[test]
fn a_cpu_that_takes_an_equal_priority_is_asked_for_one_less() {
    let mut v = vcpu();
    v.set(Reg::Cr8, 8);
    let priority = |v: &SvmVcpu| v.vmcb.control.int_ctl >> 16 & 0xf;
    // An exit for another reason shows nothing.
    v.request_interrupt_window(Window::Interrupts);
    assert_eq!(exit(&mut v, 0x64), Exit::InterruptWindow);
    v.request_interrupt_window(Window::Priority(8));
    assert_eq!(priority(&v), 8);
    v.vmcb.control.int_ctl = v.vmcb.control.int_ctl & !0xf | 7; // The guest lowered CR8.
    assert_eq!(exit(&mut v, 0x64), Exit::InterruptWindow);
    v.request_interrupt_window(Window::Priority(8));
    assert_eq!(priority(&v), 8);
    v.set(Reg::Cr8, 8);
    assert_eq!(exit(&mut v, 0x64), Exit::InterruptWindow);
    for (class, asked) in [(8, 7), (1, 0), (15, 14)] {
        v.request_interrupt_window(Window::Priority(class));
        assert_eq!(priority(&v), asked);
    }
}

#[test]
fn what_cr8_holds_back_is_not_asked_for_where_that_ends_the_machine() {
    let mut v = vcpu();
    v.quirks.cr8_aborts = true;
    v.request_interrupt_window(Window::Interrupts);
    v.request_interrupt_window(Window::Priority(8));
    assert_eq!(v.vmcb.control.int_ctl >> 8 & 1, 0, "V_IRQ");
    assert_eq!(v.vmcb.control.general1 & g1::VINTR, 0);
}

/// STI and HLT, with an interrupt of the host between the two: the CPU stores the shadow, and VMRUN
/// of the emulator does not load it again.
#[test]
fn a_shadow_that_the_next_entry_loses_is_reported() {
    for (quirk, int_state, expected) in [
        (true, 1, Exit::ShadowLost),
        (true, 0, Exit::ExternalInterrupt),
        (false, 1, Exit::ExternalInterrupt),
    ] {
        let mut v = vcpu();
        v.quirks.shadow_lost = quirk;
        v.vmcb.control.int_state = int_state;
        assert_eq!(exit(&mut v, 0x60), expected);
    }
    let mut v = vcpu();
    v.quirks.shadow_lost = true;
    v.vmcb.control.int_state = 1;
    assert_eq!(exit(&mut v, 0x61), Exit::ShadowLost, "an NMI");
    assert_eq!(exit(&mut v, 0x72), Exit::Cpuid);
}
