//! Accesses to addresses without RAM: the local APIC, where dom0 has IO-APICs, holes, the end of
//! the mapping; of all sizes, aligned or not, in many instruction forms.

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::code::Code;
use crate::base::random::Random;

/// Instructions with the address in RDI, and RAX, RCX, RSI loaded.
const FORMS: &[&[u8]] = &[
    &[0x8a, 0x07],                         // mov al, [rdi]
    &[0x66, 0x8b, 0x07],                   // mov ax, [rdi]
    &[0x8b, 0x07],                         // mov eax, [rdi]
    &[0x48, 0x8b, 0x07],                   // mov rax, [rdi]
    &[0x88, 0x07],                         // mov [rdi], al
    &[0x66, 0x89, 0x07],                   // mov [rdi], ax
    &[0x89, 0x07],                         // mov [rdi], eax
    &[0x48, 0x89, 0x07],                   // mov [rdi], rax
    &[0xc6, 0x07, 0x5a],                   // mov byte [rdi], 0x5a
    &[0xc7, 0x07, 0x78, 0x56, 0x34, 0x12], // mov dword [rdi], imm
    &[0x0f, 0xb6, 0x07],                   // movzx eax, byte [rdi]
    &[0x0f, 0xbf, 0x07],                   // movsx eax, word [rdi]
    &[0x48, 0x63, 0x07],                   // movsxd rax, [rdi]
    &[0x01, 0x07],                         // add [rdi], eax
    &[0x0b, 0x07],                         // or eax, [rdi]
    &[0x83, 0x27, 0x0f],                   // and dword [rdi], 15
    &[0xf0, 0x31, 0x07],                   // lock xor [rdi], eax
    &[0x39, 0x07],                         // cmp [rdi], eax
    &[0x85, 0x07],                         // test [rdi], eax
    &[0xf7, 0x07, 1, 0, 0, 0],             // test dword [rdi], 1
    &[0xf7, 0x17],                         // not dword [rdi]
    &[0xf7, 0x1f],                         // neg dword [rdi]
    &[0xff, 0x07],                         // inc dword [rdi]
    &[0xf7, 0x27],                         // mul dword [rdi]
    &[0x87, 0x07],                         // xchg [rdi], eax
    &[0x0f, 0xb1, 0x0f],                   // cmpxchg [rdi], ecx
    &[0x0f, 0xc1, 0x07],                   // xadd [rdi], eax
    &[0x0f, 0xc7, 0x0f],                   // cmpxchg8b [rdi]
    &[0x48, 0x0f, 0xc7, 0x0f],             // cmpxchg16b [rdi]
    &[0x0f, 0xab, 0x07],                   // bts [rdi], eax
    &[0x0f, 0xba, 0x37, 3],                // btr dword [rdi], 3
    &[0xc1, 0x27, 2],                      // shl dword [rdi], 2
    &[0xa4],                               // movsb
    &[0xf3, 0xa4],                         // rep movsb
    &[0xf3, 0xa5],                         // rep movsd
    &[0xf3, 0x48, 0xa5],                   // rep movsq
    &[0xf3, 0xab],                         // rep stosd
    &[0xfd, 0xf3, 0xab, 0xfc],             // backwards
    &[0x48, 0x87, 0xfe, 0xf3, 0xa5],       // rep movsd from the device
    &[0xf3, 0xa6],                         // rep cmpsb
    &[0xf2, 0xae],                         // repne scasb
    &[0x48, 0x87, 0xfe, 0xf3, 0xad],       // rep lodsd from the device
    &[0xff, 0x37, 0x58],                   // push [rdi]; pop
    &[0x50, 0x8f, 0x07],                   // push; pop [rdi]
    &[0x0f, 0x94, 0x07],                   // setz [rdi]
    &[0x0f, 0x01, 0x07],                   // sgdt [rdi]
    &[0x0f, 0x01, 0x27],                   // smsw [rdi]
    &[0x0f, 0xae, 0x07],                   // fxsave [rdi]
    &[0xdd, 0x07],                         // fld qword [rdi]
    &[0x0f, 0x10, 0x07],                   // movups xmm0, [rdi]
    &[0x0f, 0x29, 0x07],                   // movaps [rdi], xmm0
    &[0xc5, 0xfd, 0x7f, 0x07],             // vmovdqa [rdi], ymm0
    &[0x0f, 0x18, 0x07],                   // prefetchnta [rdi]
    &[0x0f, 0xae, 0x3f],                   // clflush [rdi]
    &[0x0f, 0x01, 0x3f],                   // invlpg [rdi]
    &[0xff, 0xd7],                         // call rdi: fetch from there
    &[0x67, 0x8b, 0x07],                   // address size prefix
    &[0x65, 0x8b, 0x07],                   // segment prefix
    &[
        0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x8b, 0x07,
    ], // 13 bytes
    &[0x0f, 0x38, 0xf0, 0x07],             // movbe eax, [rdi]
    &[0x6c],                               // insb
    &[0x48, 0x87, 0xfe, 0x6e],             // outsb from the device
];

pub fn wild(cx: &mut Setting) {
    let deadline = Deadline::after_seconds(cx.seconds);
    let (mut runs, mut faults) = (0u64, 0u64);
    while !deadline.is_over() {
        let address = target(&mut cx.random);
        let form = cx.random.pick(FORMS);
        let code = Code::new()
            .load(7, address)
            .load(6, 0x0030_0000 + cx.random.below(64))
            .load(0, cx.random.nasty())
            .load(1, 1 + cx.random.below(9))
            .load(2, cx.random.pick(&[0x80, 0xe9, 0x3f8]))
            .bytes(form);
        runs += 1;
        faults += u64::from(code.run().is_err());
    }
    println!("PASS {} runs={runs} faults={faults}", cx.name);
}

/// Below 4 GiB, and nothing that the test itself needs.
fn target(random: &mut Random) -> u64 {
    let inside = random.below(0x1000);
    match random.below(8) {
        // Registers that send interrupts or switch the APIC off are among them, with interrupts
        // off.
        0..=2 => 0xfee0_0000 + inside,
        3 => 0xfee0_0000 + random.below(0x100) * 16,
        4 => 0xfec0_0000 + random.below(0x40),
        5 => 0xfed0_0000 + inside,
        6 => 0xfee0_0000 - 8 + random.below(16),
        _ => 0xe000_0000 + random.below(0x1000_0000),
    }
}
