//! The registers that a PVH guest starts with, as records of the hypervisor's save format
//! (xen/hvm/save.h, xen/arch-x86/hvm/save.h; entry state of docs/misc/pvh).

use bytemuck::Zeroable;
use guest_pv_abi::{
    HVM_SAVE_CODE_CPU as CPU, HVM_SAVE_CODE_END as END, HVM_SAVE_CODE_HEADER as HEADER,
    HVM_SAVE_CODE_MTRR as MTRR, HvmHwCpu, HvmSaveDescriptor, take_first,
};

const DESCRIPTOR: usize = size_of::<HvmSaveDescriptor>();
/// `msr_mtrr_def_type` is the last word of its record.
const WRITE_BACK_ENABLED: u64 = 6 | 1 << 11;

/// One record found in a context.
struct Record<'a> {
    kind: u16,
    whole: &'a [u8],
}

/// The contexts to set, in order: memory types for each vcpu, then vcpu 0's registers. Setting any
/// takes all vcpus down, so the registers must come last.
///
/// `current` is the domain's context as the hypervisor has it: its header is sent back, because
/// only the hypervisor knows what belongs there.
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
        bytemuck::bytes_of(&registers(entry, start_info)),
    ));
    Ok(contexts)
}

fn registers(entry: u32, start_info: u64) -> HvmHwCpu {
    const DATA: u32 = 0xc93;
    const CODE: u32 = 0xc9b;
    const BUSY_TASK: u32 = 0x8b;
    HvmHwCpu {
        rbx: start_info,
        rip: entry.into(),
        rflags: 2,
        cr0: 0x11, // PE and ET
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        cs_limit: u32::MAX,
        ds_limit: u32::MAX,
        es_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        cs_arbytes: CODE,
        ds_arbytes: DATA,
        es_arbytes: DATA,
        ss_arbytes: DATA,
        tr_arbytes: BUSY_TASK,
        ..HvmHwCpu::zeroed()
    }
}

fn context(header: &[u8], kind: u16, instance: u16, body: &[u8]) -> Vec<u8> {
    let [first, last] = [(kind, instance, body.len()), (END, 0, 0)].map(descriptor);
    [
        header,
        bytemuck::bytes_of(&first),
        body,
        bytemuck::bytes_of(&last),
    ]
    .concat()
}

fn descriptor((typecode, instance, length): (u16, u16, usize)) -> HvmSaveDescriptor {
    HvmSaveDescriptor {
        typecode,
        instance,
        length: length as u32,
    }
}

fn records(context: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = context;
    core::iter::from_fn(move || {
        let (head, _) = take_first::<HvmSaveDescriptor>(rest)?;
        let length = DESCRIPTOR.checked_add(head.length as usize)?;
        let (whole, tail) = rest.split_at_checked(length)?;
        rest = tail;
        Some(Record {
            kind: head.typecode,
            whole,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Vec<u8> {
        let record = |kind, body: &[u8]| {
            let head = descriptor((kind, 0, body.len()));
            [bytemuck::bytes_of(&head), body].concat()
        };
        [
            record(HEADER, &[7; 24]),
            record(MTRR, &[9; 240]),
            record(END, &[]),
        ]
        .concat()
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
        let header = [bytemuck::bytes_of(&descriptor((HEADER, 0, 24))), &[7; 24]].concat();
        assert_eq!(start(&header, 1, 1, 8).expect("contexts").len(), 1);
        assert!(start(&[], 1, 1, 1).is_err());
        assert!(start(&[1, 0, 0, 0, 255, 255, 255, 255], 1, 1, 1).is_err());
    }
}
