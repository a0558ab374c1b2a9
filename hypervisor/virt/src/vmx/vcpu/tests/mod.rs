//! The fields of the VMCS, and the outcome of exits.

use super::{SINGLE_STEP, VmxVcpu};
use crate::backend::{
    Event, Exit, Reg, SegReg, Segment, VcpuBackend, VcpuEmulation, VcpuEvents, VcpuRegisters,
};
use crate::testing::parts;
use crate::vmx::caps::tests::caps;
use crate::vmx::exit::Info;
use crate::vmx::maps;
use crate::vmx::refused::Refused;
use crate::vmx::state;
use crate::x86::{CR0_PE, CR0_PG, CR4_PKE, EFER_LMA, EFER_LME, RFLAGS_RF, RFLAGS_TF};

fn vcpu() -> VmxVcpu {
    VmxVcpu::new(caps(), parts(maps::new)).unwrap()
}

/// An exit for an exception, as the interruption information tells it. The number of entries must
/// be one.
fn exception(v: &mut VmxVcpu, event: u32) -> Exit {
    let mut entries = 0;
    v.run_once(|v| {
        entries += 1;
        assert_eq!(entries, 1, "it enters again by itself");
        v.pending = None;
        v.info = Info {
            event,
            ..Info::default()
        };
        Ok(())
    })
}

/// XSA-156: an exception whose delivery raises it again exits for ever; each time the CPU's loop
/// comes round.
#[test]
fn each_reflected_exception_comes_back_to_the_loop_of_the_cpu() {
    for (info, event) in [(0x8000_0301, Event::DB), (0x8000_0b11, Event::AC)] {
        let mut v = vcpu();
        for _ in 0..3 {
            assert_eq!(exception(&mut v, info), Exit::Settled);
            assert_eq!(v.pending_event(), Some(event));
        }
    }
}

#[test]
fn a_machine_check_during_the_entry_does_not_end_the_guest() {
    let mut v = vcpu();
    assert_eq!(
        v.run_once(|_| Err(Refused::MachineCheck)),
        Exit::HostMachineCheck
    );
}

/// XSA-170: CPUID in the last two bytes of 4 GiB, or below the hole between the canonical halves.
#[test]
fn rip_is_brought_into_the_form_that_entries_take() {
    let mut v = vcpu();
    v.set(Reg::Cr0, CR0_PE | CR0_PG);
    v.set(Reg::Efer, EFER_LME | EFER_LMA);
    v.match_entry_controls();
    v.set_segment(SegReg::Cs, Segment::new(0x23, 0xcfb, u32::MAX, 0));
    v.set(Reg::Rip, 0xffff_fffe);
    v.advance_rip(2);
    v.match_rip();
    assert_eq!((v.get(Reg::Rip), v.pending_event()), (0, None));
    v.set_segment(SegReg::Cs, Segment::new(0x33, 0xafb, u32::MAX, 0));
    v.set(Reg::Rip, 0x7fff_ffff_fffe);
    v.advance_rip(2);
    v.match_rip();
    assert_eq!(v.get(Reg::Rip), 0xffff_8000_0000_0000);
    assert_eq!(v.pending_event(), Some(Event::GP));
}

#[test]
fn an_emulated_instruction_ends_rf_and_traps_under_tf() {
    let mut v = vcpu();
    v.set(Reg::Rflags, RFLAGS_RF);
    v.advance_rip(2);
    assert_eq!(v.get(Reg::Rflags) & RFLAGS_RF, 0);
    assert_eq!(v.state.get(state::PENDING_DEBUG), 0);
    v.set(Reg::Rflags, RFLAGS_TF);
    v.advance_rip(2);
    assert_eq!(v.state.get(state::PENDING_DEBUG), SINGLE_STEP);
}

#[test]
fn keys_are_for_cpus_whose_pkru_is_switched() {
    let mut caps = caps();
    caps.cr4_allowed |= CR4_PKE;
    caps.match_keys(true);
    assert_ne!(caps.cr4_allowed & CR4_PKE, 0);
    caps.match_keys(false);
    assert_eq!(caps.cr4_allowed & CR4_PKE, 0);
}

#[test]
fn capabilities_are_those_of_the_cpu() {
    let with = |change: fn(&mut crate::vmx::VmxCaps)| {
        let mut v = vcpu();
        change(&mut v.caps);
        (v.apic_assist().is_some(), v.run_deadline().is_some())
    };
    let all =
        |caps: &mut crate::vmx::VmxCaps| (caps.timer_shift, caps.timer_steady) = (Some(5), true);
    assert_eq!(with(all), (true, true));
    assert!(!with(|caps| caps.apic = 0).0);
    assert!(!with(|caps| caps.timer_shift = None).1);
    // Where the timer has a rate of its own, runs end by it, but not at a moment that is asked for.
    assert!(!with(|caps| (caps.timer_shift, caps.timer_steady) = (Some(5), false)).1);
}
