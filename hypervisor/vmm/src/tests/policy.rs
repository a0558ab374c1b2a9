//! CPUID and MSR policies, as toolstacks and guests see them.

use bytemuck::bytes_of;
use guest_pv_abi as abi;
use oxen_types::Errno;
use oxen_virt::Exit;

use crate::testing::{Guest, Lab};

fn leaf(guest: &Guest, number: u32) -> abi::CpuidLeaf {
    let mut found = None;
    let all = guest.domain.arch.cpuid(&mut |leaf| {
        if leaf.leaf == number && found.is_none() {
            found = Some(*leaf);
        }
        Ok(())
    });
    all.expect("visited");
    found.expect("the policy has it")
}

#[test]
fn a_policy_is_narrowed_and_never_widened() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let arch = &guest.domain.arch;
    let mut one = leaf(&guest, 1);
    let before = one.d;
    one.d &= !(1 << 25);
    arch.set_cpuid(bytes_of(&one)).expect("narrower");
    assert_eq!(leaf(&guest, 1).d, before & !(1 << 25));
    one.d = u32::MAX;
    assert_eq!(arch.set_cpuid(bytes_of(&one)), Err(Errno::Inval));
}

#[test]
fn a_policy_that_is_refused_in_part_changes_nothing() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let (mut narrow, mut wide) = (leaf(&guest, 1), leaf(&guest, 1));
    let before = narrow.d;
    narrow.d &= !(1 << 25);
    wide.d = u32::MAX;
    let both = [bytes_of(&narrow), bytes_of(&wide)].concat();
    assert_eq!(guest.domain.arch.set_cpuid(&both), Err(Errno::Inval));
    assert_eq!(leaf(&guest, 1).d, before);
}

#[test]
fn an_msr_policy_is_not_taken_and_then_dropped() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let arch = &guest.domain.arch;
    assert_eq!(arch.set_msrs(&[]), Ok(()));
    assert_eq!(arch.set_msrs(&[0; 16]), Err(Errno::OpNotSupp));
}

#[test]
fn the_guest_s_cpuid_names_its_hypervisor_and_steps_on() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.script(0).then(|cpu| {
        cpu.gprs_mut().rax = 0x4000_0000;
        cpu.gprs_mut().rcx = 0;
        Exit::Cpuid
    });
    guest.script(0).then(|cpu| {
        let regs = *cpu.gprs();
        let name = [regs.rbx, regs.rcx, regs.rdx].map(|word| (word as u32).to_le_bytes());
        assert_eq!(name.concat(), b"XenVMMXenVMM");
        Exit::Settled
    });
    guest.run(0);
    assert!(
        guest
            .script(0)
            .take()
            .contains(&crate::testing::backend::Act::Advance(3))
    );
}

#[test]
fn a_guest_s_clock_starts_at_0_and_dom0_has_the_machine_s() {
    let lab = Lab::new();
    lab.fake.set_now(5_000);
    let (guest, dom0) = (lab.guest(1), lab.dom0());
    assert_eq!(guest.vcpu(0).arch.tsc_offset(), 10_000u64.wrapping_neg());
    assert_eq!(dom0.vcpu(0).arch.tsc_offset(), 0);
}
