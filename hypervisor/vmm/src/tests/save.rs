//! Records of a vcpu's state, and the states that it can start with.

use guest_pv_abi as abi;
use std::vec::Vec;

use oxen_types::Errno;
use oxen_virt::{Exit, Reg};

use crate::testing::{Guest, Lab};

fn record(guest: &Guest, code: u16) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    guest.vcpu(0).arch.save(code, &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

#[test]
fn a_record_that_was_saved_is_loaded_again() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest.script(0).then(|cpu| {
        cpu.gprs_mut().r15 = 0x1234;
        cpu.set(Reg::Star, 0x5678);
        Exit::Settled
    });
    guest.run(0);
    let other = lab.guest_of(2, 1);
    for code in [abi::HVM_SAVE_CODE_CPU, abi::HVM_SAVE_CODE_MTRR] {
        let saved = record(&guest, code).expect("it has one");
        other
            .vcpu(0)
            .arch
            .load(code, &saved)
            .expect("a whole record");
        let both = record(&other, code).expect("it has one");
        assert_eq!(both, saved, "{code}");
    }
}

#[test]
fn a_record_that_there_is_not_is_refused() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    assert_eq!(record(&guest, 77), Err(Errno::NoEnt));
    let arch = &guest.vcpu(0).arch;
    assert_eq!(arch.load(77, &[0; 8]), Err(Errno::NoEnt));
    let cpu = abi::HVM_SAVE_CODE_CPU;
    assert_eq!(arch.load(cpu, &[0; 8]), Err(Errno::NoData));
}

#[test]
fn a_start_context_of_64_bits_needs_paging() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let vcpu = guest.vcpu(0);
    let mut bytes = vec![0; size_of::<abi::VcpuHvmContext>()];
    // VCPU_HVM_MODE_64B, without CR0.PG.
    bytes[0] = 1;
    assert_eq!(vcpu.arch.load_start_context(&bytes), Err(Errno::Inval));
    assert_eq!(vcpu.arch.load_start_context(&bytes[..3]), Err(Errno::Inval));
}

#[test]
fn a_start_context_of_32_bits_sets_the_registers() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    let mut bytes = vec![0; size_of::<abi::VcpuHvmContext>()];
    // EAX, and EIP behind the eight general registers.
    bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
    bytes[40..44].copy_from_slice(&0x8000u32.to_le_bytes());
    guest
        .vcpu(0)
        .arch
        .load_start_context(&bytes)
        .expect("a state");
    guest.script(0).then(|cpu| {
        assert_eq!((cpu.gprs().rax, cpu.get(Reg::Rip)), (7, 0x8000));
        Exit::Settled
    });
    guest.run(0);
}

#[test]
fn a_pvh_kernel_starts_at_its_entry_with_its_boot_information() {
    let lab = Lab::new();
    let guest = lab.guest(1);
    guest
        .vcpu(0)
        .arch
        .start_pvh(0x10_0000, 0x9000)
        .expect("paused");
    guest.script(0).then(|cpu| {
        assert_eq!((cpu.get(Reg::Rip), cpu.gprs().rbx), (0x10_0000, 0x9000));
        Exit::Settled
    });
    guest.run(0);
}
