//! Kernel images that tests build from bytes.

/// A 64-bit ELF kernel: `body` at 16 MiB with a zero tail, the entry in its middle.
#[must_use]
pub fn elf64(body: &[u8]) -> Vec<u8> {
    const LOAD: u64 = 16 << 20;
    let note = [
        4u32.to_le_bytes().as_slice(),
        &8u32.to_le_bytes(),
        &18u32.to_le_bytes(),
        b"Xen\0",
        &(LOAD + 16).to_le_bytes(),
    ]
    .concat();
    let headers = 64 + 2 * 56;
    let mut image = Vec::new();
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend(2u16.to_le_bytes());
    image.extend(62u16.to_le_bytes());
    image.extend(1u32.to_le_bytes());
    image.extend([0u64.to_le_bytes(), 64u64.to_le_bytes(), 0u64.to_le_bytes()].concat());
    image.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    let program = |kind: u32, at: u64, addr: u64, len: u64, size: u64| {
        let mut header = [kind.to_le_bytes(), 5u32.to_le_bytes()].concat();
        for word in [at, addr, addr, len, size, 4] {
            header.extend(word.to_le_bytes());
        }
        header
    };
    let body_at = (headers + note.len()) as u64;
    image.extend(program(
        1,
        body_at,
        LOAD,
        body.len() as u64,
        body.len() as u64 + 8192,
    ));
    image.extend(program(
        4,
        headers as u64,
        0,
        note.len() as u64,
        note.len() as u64,
    ));
    image.extend(note);
    image.extend(body);
    image
}

/// The smallest kernel: 64 HLT instructions.
#[must_use]
pub fn sample_kernel() -> Vec<u8> {
    elf64(&[0xf4; 64])
}
