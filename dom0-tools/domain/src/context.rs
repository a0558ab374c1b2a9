//! The registers that a PVH guest starts with, as records of the hypervisor's save format
//! (xen/hvm/save.h, xen/arch-x86/hvm/save.h; entry state of docs/misc/pvh).

use core::mem::offset_of;
use zerocopy::{FromZeros, Immutable, IntoBytes};

const END: u16 = 0;
const HEADER: u16 = 1;
const CPU: u16 = 2;
const MTRR: u16 = 14;

const DESCRIPTOR: usize = 8;
/// `msr_mtrr_def_type` is the last word of its record.
const WRITE_BACK_ENABLED: u64 = 6 | 1 << 11;

/// `struct hvm_hw_cpu`; only what the start needs has a name.
#[derive(FromZeros, IntoBytes, Immutable)]
#[repr(C)]
struct Cpu {
    fpu: [u8; 512],
    rax: u64,
    rbx: u64,
    others: [u64; 14],
    rip: u64,
    rflags: u64,
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    dr0_to_3: [u64; 4],
    dr6: u64,
    dr7: u64,
    selectors: [u32; 8],
    limits: [u32; 10],
    bases: [u64; 10],
    attributes: [u32; 8],
    sysenter: [u64; 3],
    shadow_gs: u64,
    msrs: [u64; 7],
    tsc: u64,
    pending_event: u32,
    error_code: u32,
    flags: u32,
    pad: u32,
}

const _: () = assert!(
    offset_of!(Cpu, rip) == 640 && offset_of!(Cpu, attributes) == 888 && size_of::<Cpu>() == 1032
);

// The order of segments in the arrays.
const CS: usize = 0;
const DS: usize = 1;
const ES: usize = 2;
const SS: usize = 5;
const TR: usize = 6;

/// One record found in a context.
struct Record<'a> {
    kind: u16,
    whole: &'a [u8],
}

/// The contexts to set, in order: memory types for each vcpu, then vcpu 0's registers. Setting any
/// takes all vcpus down, so the registers must come last.
///
/// `current` is the domain's context as the hypervisor has it: its header is sent back, because only
/// the hypervisor knows what belongs there.
pub(crate) fn start(
    current: &[u8],
    entry: u32,
    start_info: u64,
    max_vcpus: u32,
) -> Result<Vec<Vec<u8>>, String> {
    let header = records(current).find(|record| record.kind == HEADER);
    let header = header
        .ok_or("the hypervisor's context has no header")?
        .whole;
    let mut contexts = Vec::new();
    if let Some(mtrr) = records(current).find(|record| record.kind == MTRR) {
        let (_, body) = mtrr.whole.split_at(DESCRIPTOR);
        let mut body = body.to_vec();
        if let Some(def_type) = body.last_chunk_mut::<8>() {
            *def_type = WRITE_BACK_ENABLED.to_le_bytes();
        }
        for vcpu in 0..max_vcpus {
            contexts.push(context(header, MTRR, vcpu as u16, &body));
        }
    }
    contexts.push(context(
        header,
        CPU,
        0,
        registers(entry, start_info).as_bytes(),
    ));
    Ok(contexts)
}

fn registers(entry: u32, start_info: u64) -> Cpu {
    let mut cpu = Cpu::new_zeroed();
    cpu.rbx = start_info;
    cpu.rip = entry.into();
    cpu.rflags = 2;
    cpu.cr0 = 0x11; // PE and ET
    cpu.dr6 = 0xffff_0ff0;
    cpu.dr7 = 0x400;
    for data in [DS, ES, SS] {
        cpu.limits[data] = u32::MAX;
        cpu.attributes[data] = 0xc93;
    }
    cpu.limits[CS] = u32::MAX;
    cpu.attributes[CS] = 0xc9b;
    cpu.limits[TR] = 0x67;
    cpu.attributes[TR] = 0x8b;
    cpu
}

fn context(header: &[u8], kind: u16, instance: u16, body: &[u8]) -> Vec<u8> {
    [
        header,
        &descriptor(kind, instance, body.len()),
        body,
        &descriptor(END, 0, 0),
    ]
    .concat()
}

fn descriptor(kind: u16, instance: u16, length: usize) -> [u8; DESCRIPTOR] {
    let mut bytes = [0; DESCRIPTOR];
    let parts = kind
        .to_le_bytes()
        .into_iter()
        .chain(instance.to_le_bytes())
        .chain((length as u32).to_le_bytes());
    for (byte, part) in bytes.iter_mut().zip(parts) {
        *byte = part;
    }
    bytes
}

fn records(context: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = context;
    core::iter::from_fn(move || {
        let head: &[u8; DESCRIPTOR] = rest.first_chunk()?;
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (whole, tail) = rest.split_at_checked(DESCRIPTOR.checked_add(length)?)?;
        rest = tail;
        Some(Record { kind, whole })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Vec<u8> {
        let header = [descriptor(HEADER, 0, 24).to_vec(), vec![7; 24]].concat();
        let mtrr = [descriptor(MTRR, 0, 240).to_vec(), vec![9; 240]].concat();
        [header, mtrr, descriptor(END, 0, 0).to_vec()].concat()
    }

    #[test]
    fn memory_types_first_and_the_registers_last() {
        let contexts = start(&given(), 0x100_0010, 0x200_0000, 2).expect("contexts");
        assert_eq!(contexts.len(), 3);
        let kinds: Vec<Vec<u16>> = contexts
            .iter()
            .map(|c| records(c).map(|r| r.kind).collect())
            .collect();
        assert_eq!(
            kinds,
            [[HEADER, MTRR, END], [HEADER, MTRR, END], [HEADER, CPU, END]]
        );
        assert_eq!(contexts[1][32 + 2], 1, "the second vcpu's record");
        assert_eq!(
            contexts[0][32 + 8 + 232..][..8],
            WRITE_BACK_ENABLED.to_le_bytes()
        );
        let cpu = &contexts[2][32 + 8..];
        assert_eq!(cpu[520..528], 0x200_0000u64.to_le_bytes());
        assert_eq!(cpu[640..648], 0x100_0010u64.to_le_bytes());
        assert_eq!(cpu[656..664], 0x11u64.to_le_bytes());
    }

    #[test]
    fn without_memory_types_only_the_registers() {
        let header = [descriptor(HEADER, 0, 24).to_vec(), vec![7; 24]].concat();
        assert_eq!(start(&header, 1, 1, 8).expect("contexts").len(), 1);
        assert!(start(&[], 1, 1, 1).is_err());
        assert!(start(&[1, 0, 0, 0, 255, 255, 255, 255], 1, 1, 1).is_err());
    }
}
