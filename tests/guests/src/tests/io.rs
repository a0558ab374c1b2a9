//! Every port, in and out, of every size, one by one and in strings.

use super::Setting;
use crate::base::code::Code;
use crate::base::random::Random;

/// With the port in DX.
const FORMS: &[&[u8]] = &[
    &[0xec],                   // in al, dx
    &[0x66, 0xed],             // in ax, dx
    &[0xed],                   // in eax, dx
    &[0xee],                   // out dx, al
    &[0x66, 0xef],             // out dx, ax
    &[0xef],                   // out dx, eax
    &[0x6c],                   // insb
    &[0xf3, 0x66, 0x6d],       // rep insw
    &[0xf3, 0x6d],             // rep insd
    &[0x6e],                   // outsb
    &[0xf3, 0x66, 0x6f],       // rep outsw
    &[0xf3, 0x6f],             // rep outsd
    &[0xfd, 0xf3, 0x6d, 0xfc], // backwards
];

const MEMORY: u64 = 0x0030_0800;

pub fn all(cx: &mut Setting) {
    let mut faults = 0u64;
    for port in 0..=0xffffu64 {
        // Each form sees each port in some run; each run sees each port.
        for form in [FORMS[0], cx.random.pick(FORMS), cx.random.pick(FORMS)] {
            faults += u64::from(access(port, form, MEMORY, &mut cx.random));
        }
    }
    println!("ports done, faults={faults}");
    assert!(faults == 0, "port accesses at privilege 0 faulted");
    // Strings between a port and memory that is not there, or a device's.
    let mut faults = 0u64;
    for _ in 0..2000 {
        let (port, at) = (cx.random.below(0x10000), cx.random.address());
        if (0x1000..0x0030_0000).contains(&at) {
            continue;
        }
        let form = cx.random.pick(&FORMS[6..]);
        faults += u64::from(access(port, form, at, &mut cx.random));
    }
    println!("PASS {} string faults={faults}", cx.name);
}

/// Tells whether it faulted.
fn access(port: u64, form: &[u8], memory: u64, random: &mut Random) -> bool {
    Code::new()
        .load(2, port)
        .load(0, random.next())
        .load(1, 1 + random.below(5))
        .load(6, memory)
        .load(7, memory)
        .bytes(form)
        .run()
        .is_err()
}
