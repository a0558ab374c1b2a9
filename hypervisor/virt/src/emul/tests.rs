use super::*;
use crate::backend::{BoxedVcpu, Exit};
use crate::testing::{CODE, DEVICE, Space, vcpu};
use crate::x86::{RFLAGS_CF, RFLAGS_DF, RFLAGS_ZF};

fn fault(gpa: u64) -> NestedFault {
    NestedFault {
        gpa: Gaddr::new(gpa),
        write: true,
        fetch: false,
        present: false,
        table_walk: false,
    }
}

/// Emulates `code` with RBX at the device's register 0xb0, which holds `device`.
fn run(code: &[u8], device: u32, prepare: impl FnOnce(&mut BoxedVcpu)) -> (BoxedVcpu, Space) {
    let (mut v, mut s) = (vcpu(), Space::new(code));
    s.device[0xb0..0xb4].copy_from_slice(&device.to_le_bytes());
    v.gprs_mut().rbx = DEVICE + 0xb0;
    prepare(&mut v);
    assert_eq!(
        mmio(&mut *v, &mut s, &fault(DEVICE + 0xb0)),
        EmulOutcome::Done
    );
    assert_eq!(v.get(Reg::Rip), CODE + code.len() as u64);
    (v, s)
}

#[test]
fn stores() {
    // mov [0xfee000b0], eax
    let (_, s) = run(&[0xa3, 0xb0, 0, 0xe0, 0xfe], 0, |v| {
        v.gprs_mut().rax = 0x1_2345_6789
    });
    assert_eq!(s.log, [('w', DEVICE + 0xb0, 4, 0x2345_6789)]);
    // mov dword [ebx], -2
    let (_, s) = run(&[0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff], 0, |_| ());
    assert_eq!(s.log, [('w', DEVICE + 0xb0, 4, 0xffff_fffe)]);
    // mov [ebx], ch
    let (_, s) = run(&[0x88, 0x2b], 0, |v| v.gprs_mut().rcx = 0xabcd);
    assert_eq!(s.log, [('w', DEVICE + 0xb0, 1, 0xab)]);
}

#[test]
fn loads() {
    let all = |v: &mut BoxedVcpu| v.gprs_mut().rax = u64::MAX;
    // mov eax, [ebx]; movzx eax, byte [ebx]; movsx eax, word [ebx]; mov al, [ebx]
    assert_eq!(
        run(&[0x8b, 0x03], 0x8000_0001, all).0.gprs().rax,
        0x8000_0001
    );
    assert_eq!(run(&[0x0f, 0xb6, 0x03], 0x1f0, all).0.gprs().rax, 0xf0);
    assert_eq!(
        run(&[0x0f, 0xbf, 0x03], 0x8001, all).0.gprs().rax,
        0xffff_8001
    );
    assert_eq!(run(&[0x8a, 0x03], 0x12, all).0.gprs().rax, !0xff | 0x12);
}

#[test]
fn read_modify_write() {
    // and dword [ebx], 0x0f; flags
    let (v, s) = run(&[0x83, 0x23, 0x0f], 0xf0, |_| ());
    assert_eq!(
        s.log,
        [('r', DEVICE + 0xb0, 4, 0xf0), ('w', DEVICE + 0xb0, 4, 0)]
    );
    assert_ne!(v.get(Reg::Rflags) & RFLAGS_ZF, 0);
    // xchg [ebx], ecx
    let (v, s) = run(&[0x87, 0x0b], 7, |v| v.gprs_mut().rcx = 9);
    assert_eq!((v.gprs().rcx, s.log[1]), (7, ('w', DEVICE + 0xb0, 4, 9)));
    // lock bts dword [ebx], 16
    let (v, s) = run(&[0xf0, 0x0f, 0xba, 0x2b, 16], 1 << 16, |_| ());
    assert_ne!(v.get(Reg::Rflags) & RFLAGS_CF, 0);
    assert_eq!(s.log[1], ('w', DEVICE + 0xb0, 4, 1 << 16));
    // btr [ebx], ecx with a bit of the word before
    let (_, s) = run(&[0x0f, 0xb3, 0x0b], 0, |v| {
        v.gprs_mut().rcx = (-31i64) as u64
    });
    assert_eq!(s.log[0].1, DEVICE + 0xac);
    // lock cmpxchg [ebx], ecx: equal, then not
    let (_, s) = run(&[0xf0, 0x0f, 0xb1, 0x0b], 5, |v| {
        (v.gprs_mut().rax, v.gprs_mut().rcx) = (5, 6);
    });
    assert_eq!(s.log[1].3, 6);
    let (v, s) = run(&[0xf0, 0x0f, 0xb1, 0x0b], 4, |v| {
        (v.gprs_mut().rax, v.gprs_mut().rcx) = (5, 6);
    });
    assert_eq!((v.gprs().rax, s.log[1].3), (4, 4));
}

#[test]
fn compares_do_not_write() {
    // test dword [ebx], 0x1000; cmp eax, [ebx]
    let (v, s) = run(&[0xf7, 0x03, 0, 0x10, 0, 0], 0x0fff, |_| ());
    assert_ne!(v.get(Reg::Rflags) & RFLAGS_ZF, 0);
    assert_eq!(s.log.len(), 1);
    let (v, s) = run(&[0x3b, 0x03], 5, |v| v.gprs_mut().rax = 4);
    assert_ne!(v.get(Reg::Rflags) & RFLAGS_CF, 0);
    assert_eq!(s.log.len(), 1);
}

#[test]
fn long_strings_come_in_parts() {
    // rep movsd, 100 times, from RAM to the device
    let code = [0xf3, 0xa5];
    let (mut v, mut s) = (vcpu(), Space::new(&code));
    let g = v.gprs_mut();
    (g.rsi, g.rdi, g.rcx) = (0x2000, DEVICE, 100);
    s.ram[0x2000 + 99 * 4] = 0x5a;
    assert_eq!(mmio(&mut *v, &mut s, &fault(DEVICE)), EmulOutcome::Done);
    assert_eq!(
        (v.get(Reg::Rip), v.gprs().rcx),
        (CODE, 100 - u64::from(MAX_REPEAT))
    );
    let next = DEVICE + u64::from(MAX_REPEAT) * 4;
    assert_eq!(mmio(&mut *v, &mut s, &fault(next)), EmulOutcome::Done);
    assert_eq!(
        (v.get(Reg::Rip), v.gprs().rcx, v.gprs().rdi),
        (CODE + 2, 0, DEVICE + 400)
    );
    assert_eq!(
        (s.log.len(), s.log[99]),
        (100, ('w', DEVICE + 396, 4, 0x5a))
    );
}

#[test]
fn strings_stop_where_the_device_ends() {
    // rep stosb downwards over the lower end: the page below is nothing
    let (mut v, mut s) = (vcpu(), Space::new(&[0xf3, 0xaa]));
    let g = v.gprs_mut();
    (g.rax, g.rdi, g.rcx) = (0x77, DEVICE + 1, 10);
    v.set(Reg::Rflags, RFLAGS_DF);
    assert_eq!(mmio(&mut *v, &mut s, &fault(DEVICE + 1)), EmulOutcome::Done);
    assert_eq!(
        (v.get(Reg::Rip), v.gprs().rcx, v.gprs().rdi),
        (CODE, 8, DEVICE - 1)
    );
    assert_eq!(mmio(&mut *v, &mut s, &fault(DEVICE)), EmulOutcome::Retry);
}

#[test]
fn another_instruction_than_the_one_that_faulted() {
    let (mut v, mut s) = (vcpu(), Space::new(&[0x89, 0x03]));
    v.gprs_mut().rbx = 0x3000;
    assert_eq!(mmio(&mut *v, &mut s, &fault(DEVICE)), EmulOutcome::Retry);
    assert!(s.log.is_empty() && s.ram[0x3000] == 0 && v.get(Reg::Rip) == CODE);
    // fld dword [ebx]: known to the decoder, not to us
    let mut s = Space::new(&[0xd9, 0x03]);
    assert!(matches!(
        mmio(&mut *v, &mut s, &fault(DEVICE)),
        EmulOutcome::Unknown { len: 15, .. }
    ));
}

#[test]
fn long_mode_addresses() {
    // mov r9, [rip + disp32], where the tables lead to the device
    let (mut v, mut s) = (vcpu(), Space::new(&[]));
    s.long_mode(&mut v);
    // mov qword [rax + rcx * 8 + 0x10], r9
    s.ram[CODE as usize..][..5].copy_from_slice(&[0x4c, 0x89, 0x4c, 0xc8, 0x10]);
    let g = v.gprs_mut();
    (g.rax, g.rcx, g.r9) = (0x7fff_ffe0_0100, (-1i64) as u64, u64::MAX);
    assert_eq!(
        mmio(&mut *v, &mut s, &fault(DEVICE + 0x108)),
        EmulOutcome::Done
    );
    assert_eq!(s.log, [('w', DEVICE + 0x108, 8, u64::MAX)]);
    // The same by user code, which may not: #PF in the guest, not an access.
    v.set_segment(
        crate::SegReg::Ss,
        crate::Segment::new(0x1b, 0xcf3, u32::MAX, 0),
    );
    v.set(Reg::Rip, CODE);
    let outcome = mmio(&mut *v, &mut s, &fault(DEVICE + 0x108));
    assert_eq!(outcome, EmulOutcome::Inject(Event::page_fault(7)));
    assert_eq!((v.get(Reg::Cr2), s.log.len()), (0x7fff_ffe0_0108, 1));
}

#[test]
fn operands_over_the_end_of_a_page() {
    // mov [ebx], eax with two bytes in the page below the device, which is nothing
    let (mut v, mut s) = (vcpu(), Space::new(&[0x89, 0x03]));
    v.gprs_mut().rbx = DEVICE + 0xffe;
    assert_eq!(
        mmio(&mut *v, &mut s, &fault(DEVICE + 0xffe)),
        EmulOutcome::Inject(Event::GP)
    );
    assert_eq!(s.log.len(), 2);
}

#[test]
fn string_port_input() {
    // rep insw
    let (mut v, mut s) = (vcpu(), Space::new(&[0xf3, 0x66, 0x6d]));
    let g = v.gprs_mut();
    (g.rdi, g.rcx, g.rdx) = (0x4000, 3, 0x1f0);
    let io = IoExit {
        port: 0x1f0,
        size: 2,
        input: true,
        string: true,
        rep: true,
        next_rip: CODE + 3,
    };
    let mut n = 0x1111;
    let outcome = string_io(&mut *v, &mut s, &io, &mut |out| {
        assert_eq!(out, None);
        n += 1;
        n
    });
    assert_eq!(
        (outcome, v.get(Reg::Rip), v.gprs().rcx),
        (EmulOutcome::Done, CODE + 3, 0)
    );
    assert_eq!(s.ram[0x4000..0x4006], [0x12, 0x11, 0x13, 0x11, 0x14, 0x11]);
}

#[test]
fn lengths_without_help_from_the_hardware() {
    let (mut v, mut s) = (vcpu(), Space::new(&[0x0f, 0xa2]));
    assert_eq!(insn_len(&mut *v, &mut s, &Exit::Cpuid), Some(2));
    assert_eq!(insn_len(&mut *v, &mut s, &Exit::Hypercall), None);
    v.set(Reg::Rip, 0x1_0000);
    assert_eq!(insn_len(&mut *v, &mut s, &Exit::Cpuid), None);
}

/// REP STOSD onto the local APIC's page: each write of ICR is an IPI.
#[test]
fn each_element_of_a_string_has_its_effect_on_the_local_apic() {
    use crate::dev::lapic::{Effect, Lapic, LapicConfig, Now};
    let config = LapicConfig {
        vcpu: 0,
        tsc_khz: 1_000_000,
        x2apic: false,
    };
    let mut lapic = Lapic::new(config).unwrap();
    let _ = lapic.mmio_write(0xf0, 4, 0x1ff, Now::default());
    let mut ipis = 0;
    let mut write = |value| {
        let apply = |effect| ipis += u32::from(matches!(effect, Effect::Ipi(_)));
        lapic.mmio(0x300, 4, Some(value), Now::default(), apply)
    };
    // rep stosd: the device sees one write for each element.
    let (mut v, mut s) = (vcpu(), Space::new(&[0xf3, 0xab]));
    let g = v.gprs_mut();
    (g.rax, g.rcx, g.rdi) = (0xc_00f0, 3, DEVICE + 0x300);
    assert_eq!(
        mmio(&mut *v, &mut s, &fault(DEVICE + 0x300)),
        EmulOutcome::Done
    );
    assert_eq!(s.log.len(), 3);
    for (_, _, _, value) in s.log {
        write(value);
    }
    assert_eq!(ipis, 3);
}
