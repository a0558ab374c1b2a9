use super::*;
use crate::backend::{BoxedVcpu, SegReg, Segment};
use crate::fpu::FpuLayout;
use crate::policy::DomainShape;
use crate::testing::{CODE, Space, vcpu};
use crate::x86::{CR0_ET, CR0_PE, CR4_PAE, CpuIdReaderNative};

fn plain(number: u8) -> Operand {
    Operand::Register {
        number,
        narrow: false,
    }
}

fn cpuid() -> CpuidPolicy {
    let shape = DomainShape {
        shadow: true,
        ..DomainShape::default()
    };
    CpuidPolicy::new(&CpuIdReaderNative, &FpuLayout::none(), shape)
}

/// The vcpu at `code` with this privilege level.
fn at(code: &[u8], cpl: u16) -> (BoxedVcpu, Space) {
    let mut v = vcpu();
    v.set_segment(
        SegReg::Ss,
        Segment::new(0x28 | cpl, 0xc93 | cpl << 5, u32::MAX, 0),
    );
    assert_eq!(u16::from(v.cpl()), cpl);
    (v, Space::new(code))
}

const fn access(control: u8, write: bool) -> ControlExit {
    ControlExit::Access { control, write }
}

fn go(v: &mut BoxedVcpu, s: &mut Space, exit: ControlExit) -> ControlOutcome {
    control_exit(&mut **v, s, &cpuid(), exit)
}

/// Thread A loops SMSW, which exits at any privilege level; thread B has put a move there
/// meanwhile.
#[test]
fn user_code_that_exits_by_smsw_moves_to_no_control_register() {
    for code in [
        &[0x0f, 0x22, 0xd8][..],
        &[0x0f, 0x22, 0xc0],
        &[0x0f, 0x22, 0xe0],
        &[0x0f, 0x20, 0xc0],
        &[0x0f, 0x06],
        &[0x0f, 0x01, 0xf0],
        &[0x0f, 0x01, 0x33],
    ] {
        let (mut v, mut s) = at(code, 3);
        (v.gprs_mut().rax, v.gprs_mut().rbx) = (0xbad000, 0x2000);
        let before = [Reg::Cr0, Reg::Cr3, Reg::Cr4].map(|reg| v.get(reg));
        let outcome = go(&mut v, &mut s, access(0, false));
        assert!(
            matches!(
                outcome,
                ControlOutcome::Retry | ControlOutcome::Inject(Event::GP)
            ),
            "{code:x?}: {outcome:?}"
        );
        assert_eq!([Reg::Cr0, Reg::Cr3, Reg::Cr4].map(|reg| v.get(reg)), before);
        assert_eq!((v.get(Reg::Rip), v.gprs().rax), (CODE, 0xbad000));
    }
}

#[test]
fn an_operation_that_is_not_the_exits_is_left_to_the_guest() {
    // MOV to CR3 where MOV to CR0 exited, and the other way round; a read where a write did.
    for (code, exit) in [
        ([0x0f, 0x22, 0xd8], access(0, true)),
        ([0x0f, 0x22, 0xc0], access(3, true)),
        ([0x0f, 0x20, 0xd8], access(3, true)),
        ([0x0f, 0x01, 0xe0], access(0, true)),
        ([0x0f, 0x01, 0xf8], access(0, true)),
    ] {
        let (mut v, mut s) = at(&code, 0);
        v.gprs_mut().rax = 0xbad000;
        assert_eq!(go(&mut v, &mut s, exit), ControlOutcome::Retry);
        assert_eq!((v.get(Reg::Rip), v.get(Reg::Cr3)), (CODE, 0));
    }
}

#[test]
fn what_the_exit_tells_is_done() {
    let (mut v, mut s) = at(&[0x0f, 0x22, 0xd8], 0);
    v.gprs_mut().rax = 0x5000;
    assert_eq!(
        go(&mut v, &mut s, access(3, true)),
        ControlOutcome::NewAddressSpace
    );
    assert_eq!((v.get(Reg::Cr3), v.get(Reg::Rip)), (0x5000, CODE + 3));
    let (mut v, mut s) = at(&[0x0f, 0x22, 0xe1], 0);
    v.gprs_mut().rcx = CR4_PAE;
    assert_eq!(go(&mut v, &mut s, access(4, true)), ControlOutcome::Done);
    assert_eq!(v.get(Reg::Cr4), CR4_PAE);
    // A bit that CPUID hides.
    let (mut v, mut s) = at(&[0x0f, 0x22, 0xe1], 0);
    v.gprs_mut().rcx = 1 << 12;
    let fault = ControlOutcome::Inject(Event::GP);
    assert_eq!(go(&mut v, &mut s, access(4, true)), fault);
}

#[test]
fn smsw_works_at_any_privilege_level_unless_umip_is_on() {
    for cpl in [0, 3] {
        // smsw eax; smsw [ebx]; smsw word ptr [ebx + 2]
        let (mut v, mut s) = at(&[0x0f, 0x01, 0xe0], cpl);
        v.gprs_mut().rax = 0xffff_0000;
        assert_eq!(go(&mut v, &mut s, access(0, false)), ControlOutcome::Done);
        assert_eq!(v.gprs().rax, 0xffff_0000 | CR0_PE | CR0_ET);
        for code in [&[0x0f, 0x01, 0x23][..], &[0x0f, 0x01, 0x63, 0x02]] {
            let (mut v, mut s) = at(code, cpl);
            v.gprs_mut().rbx = 0x2000;
            assert_eq!(go(&mut v, &mut s, access(0, false)), ControlOutcome::Done);
            let place = 0x2000 + code.len() - 3 + usize::from(code.len() == 4);
            assert_eq!(s.ram[place..place + 2], [0x11, 0]);
            assert_eq!(v.get(Reg::Rip), CODE + code.len() as u64);
        }
        let (mut v, mut s) = at(&[0x0f, 0x01, 0x23], cpl);
        v.set(Reg::Cr4, CR4_UMIP);
        let outcome = go(&mut v, &mut s, access(0, false));
        assert_eq!(outcome == ControlOutcome::Done, cpl == 0);
    }
}

#[test]
fn smsw_into_memory_of_others_is_a_page_fault() {
    let (mut v, mut s) = (vcpu(), Space::new(&[0x0f, 0x01, 0x23]));
    s.long_mode(&mut v);
    v.set_segment(SegReg::Ss, Segment::new(0x2b, 0xcf3, u32::MAX, 0));
    // The device's page at the end is the supervisor's.
    v.gprs_mut().rbx = 0x7fff_ffe0_0000;
    let outcome = go(&mut v, &mut s, access(0, false));
    assert!(matches!(
        outcome,
        ControlOutcome::Inject(Event::Exception { vector: 14, .. })
    ));
    assert_eq!(v.get(Reg::Cr2), 0x7fff_ffe0_0000);
}

#[test]
fn lmsw_reads_sixteen_bits_of_memory() {
    let (mut v, mut s) = at(&[0x0f, 0x01, 0x33], 0);
    v.gprs_mut().rbx = 0x2000;
    s.ram[0x2000..0x2002].copy_from_slice(&[0x08, 0xff]);
    assert_eq!(go(&mut v, &mut s, access(0, true)), ControlOutcome::Done);
    // TS on; PE cannot be cleared.
    assert_eq!(v.get(Reg::Cr0), CR0_PE | CR0_ET | CR0_TS);
}

#[test]
fn what_the_cpu_tells_whole_is_not_fetched() {
    // On this CPU nothing tells the length: the instruction is held to what the exit says.
    let known = |control| {
        ControlExit::Known(ControlOp::Write {
            control,
            register: 0,
        })
    };
    let (mut v, mut s) = at(&[0x0f, 0x22, 0xd8], 0);
    assert_eq!(go(&mut v, &mut s, known(0)), ControlOutcome::Retry);
    assert_eq!(
        go(&mut v, &mut s, known(3)),
        ControlOutcome::NewAddressSpace
    );
}

fn write_of(bytes: &[u8], long: bool) -> Option<(u8, u8, u8)> {
    match decode(bytes, long)? {
        (ControlOp::Write { control, register }, len) => Some((control, register, len)),
        _ => None,
    }
}

#[test]
fn the_register_that_goes_to_a_control_register() {
    assert_eq!(write_of(&[0x0f, 0x22, 0xe0], true), Some((4, 0, 3)));
    assert_eq!(
        write_of(&[0x41, 0x0f, 0x22, 0xe7, 0x90], true),
        Some((4, 15, 4))
    );
    assert_eq!(write_of(&[0x66, 0x0f, 0x22, 0xe3], false), Some((4, 3, 4)));
    assert_eq!(write_of(&[0x0f, 0x22, 0xc0], true), Some((0, 0, 3)));
    assert_eq!(write_of(&[0x44, 0x0f, 0x22, 0xe0], true), Some((12, 0, 4)));
    assert_eq!(write_of(&[0x0f, 0x20, 0xe0], true), None);
    assert_eq!(write_of(&[0x0f, 0x22], true), None);
}

#[test]
fn the_others() {
    let of = |bytes: &[u8]| decode(bytes, true);
    let (control, register) = (3, 1);
    assert_eq!(
        of(&[0x0f, 0x20, 0xd9]),
        Some((ControlOp::Read { control, register }, 3))
    );
    assert_eq!(of(&[0x0f, 0x06]), Some((ControlOp::Clts, 2)));
    assert_eq!(
        of(&[0x0f, 0x01, 0xf0]),
        Some((ControlOp::LoadStatus(plain(0)), 3))
    );
    assert_eq!(
        of(&[0x0f, 0x01, 0xe3]),
        Some((ControlOp::StoreStatus(plain(3)), 3))
    );
    let invlpg = |register, len| Some((ControlOp::Invlpg { register }, len));
    assert_eq!(of(&[0x0f, 0x01, 0x3f]), invlpg(Some(7), 3));
    assert_eq!(of(&[0x41, 0x0f, 0x01, 0x38]), invlpg(Some(8), 4));
    assert_eq!(of(&[0x0f, 0x01, 0x7d, 0x10]), invlpg(None, 4));
    assert_eq!(of(&[0x41, 0x0f, 0x01, 0x3c, 0x24]), invlpg(None, 5));
    assert_eq!(of(&[0x0f, 0x01, 0x3d, 1, 2, 3, 4]), invlpg(None, 7));
    // VMRUN is not one of them.
    assert_eq!(of(&[0x0f, 0x01, 0xd8]), None);
}

/// iced-x86 is the judge of each operand that LMSW and SMSW can have in memory.
#[test]
fn status_words_in_memory_are_where_another_decoder_says() {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};
    let mut v = vcpu();
    for number in 0..16 {
        v.gprs_mut()
            .set(number, 0x1111_0000 * u64::from(number + 1));
    }
    let mut found = 0;
    for modrm in 0..0xc0 {
        for prefixes in [&[][..], &[0x66], &[0x67], &[0x64, 0xf3], &[0xf0]] {
            let code = [prefixes, &[0x0f, 0x01, modrm, 0x5c, 0x92, 0x83, 0x74, 0x65]].concat();
            let (bits, rip) = (v.execution().mode().bits(), v.get(Reg::Rip));
            let insn = Decoder::with_ip(bits, &code, rip, DecoderOptions::NONE).decode();
            let at = || super::super::decode::oracle::address(&*v, &insn).map(Operand::Memory);
            let judged = match insn.mnemonic() {
                Mnemonic::Smsw => at().map(ControlOp::StoreStatus),
                Mnemonic::Lmsw => at().map(ControlOp::LoadStatus),
                _ => None,
            };
            found += usize::from(judged.is_some());
            let judged = judged.map(|op| (op, insn.len() as u8));
            assert_eq!(status_in_memory(&*v, &code), judged, "{code:02x?}");
        }
    }
    assert_eq!(found, 2 * 24 * 4);
}
