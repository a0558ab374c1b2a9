//! A domain's processor state as a list of records (xen/hvm/save.h, xen/arch-x86/hvm/save.h).
//!
//! The list is HEADER first, the vcpus' records by kind, and END; each record has a descriptor before
//! it. Its framing is checked as a whole before any record of it is loaded.

use alloc::sync::Arc;
use alloc::vec::Vec;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::Errno;

use super::life::while_paused;
use crate::domain::Domain;
use crate::hypercall::{Answer, Call};
use crate::vcpu::Hold;

/// Kinds of records that a vcpu may have, in Xen's order.
const KINDS: [u16; 8] = [
    abi::HVM_SAVE_CODE_CPU,
    abi::HVM_SAVE_CODE_LAPIC,
    abi::HVM_SAVE_CODE_LAPIC_REGS,
    abi::HVM_SAVE_CODE_MTRR,
    abi::HVM_SAVE_CODE_XSAVE,
    abi::HVM_SAVE_CODE_VMCE_VCPU,
    abi::HVM_SAVE_CODE_TSC_ADJUST,
    abi::HVM_SAVE_CODE_MSR,
];

/// 128 vcpus with all records and large extended states take less.
const MOST_BYTES: usize = 4 << 20;
/// A record that one getcontext_partial asks for.
const NO_CHANGESET: u64 = u64::MAX;

pub fn get(call: &mut Call<'_>, domain: &Arc<Domain>, op: &mut abi::Domctl) -> Answer {
    let mut ask: abi::DomctlHvmContext = op.u.view();
    let records = while_paused(call, domain, |_| collect(domain))?;
    let size = u32::try_from(records.len()).map_err(|_| Errno::TooBig)?;
    if ask.buffer != 0 {
        if ask.size < size {
            return Err(Errno::NoSpc.into());
        }
        call.write_bytes(ask.buffer, &records)?;
    }
    ask.size = size;
    op.u.store(&ask);
    Ok(0)
}

/// One record's contents, without its descriptor.
pub fn get_one(call: &mut Call<'_>, domain: &Arc<Domain>, op: &mut abi::Domctl) -> Answer {
    let mut ask: abi::DomctlHvmContextPartial = op.u.view();
    let kind = u16::try_from(ask.kind).map_err(|_| Errno::Inval)?;
    if !KINDS.contains(&kind) {
        return Err(Errno::Inval.into());
    }
    let vcpu = domain.vcpu(ask.instance).ok_or(Errno::NoEnt)?;
    let record = while_paused(call, domain, |_| {
        let mut record = Vec::new();
        vcpu.arch.save(kind, &mut record).map(|()| record)
    })?;
    let size = record.len() as u64;
    if ask.buffer != 0 {
        if ask.bufsz < size {
            return Err(Errno::NoSpc.into());
        }
        call.write_bytes(ask.buffer, &record)?;
    }
    ask.bufsz = size;
    op.u.store(&ask);
    Ok(0)
}

/// Takes all vcpus down; those that get a CPU record are up after it, with that state.
pub fn set(call: &mut Call<'_>, domain: &Arc<Domain>, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlHvmContext = op.u.view();
    let size = ask.size as usize;
    if size > MOST_BYTES {
        return Err(Errno::TooBig.into());
    }
    while_paused(call, domain, |call| {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::NoMem)?;
        bytes.resize(size, 0);
        call.read_bytes(ask.buffer, &mut bytes)?;
        load(domain, &bytes)
    })?;
    Ok(0)
}

fn collect(domain: &Domain) -> Result<Vec<u8>, Errno> {
    let mut list = Vec::new();
    let header = abi::HvmSaveHeader {
        magic: abi::HVM_FILE_MAGIC,
        version: abi::HVM_FILE_VERSION,
        changeset: NO_CHANGESET,
        cpuid: super::leaf(domain, 1).map_or(0, |leaf| leaf.a),
        gtsc_khz: domain.machine.platform.clock().tsc_khz(),
    };
    append(
        &mut list,
        abi::HVM_SAVE_CODE_HEADER,
        0,
        bytemuck::bytes_of(&header),
    )?;
    for kind in KINDS {
        for vcpu in domain.vcpus() {
            // One that is down stays down where the list is loaded: it has no CPU record.
            if kind == abi::HVM_SAVE_CODE_CPU && vcpu.is_held(Hold::Down) {
                continue;
            }
            let mut record = Vec::new();
            match vcpu.arch.save(kind, &mut record) {
                Ok(()) => append(&mut list, kind, vcpu.id.0, &record)?,
                // It has no record of that kind.
                Err(Errno::NoEnt) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    append(&mut list, abi::HVM_SAVE_CODE_END, 0, &[])?;
    Ok(list)
}

fn append(list: &mut Vec<u8>, kind: u16, instance: u32, record: &[u8]) -> Result<(), Errno> {
    let descriptor = abi::HvmSaveDescriptor {
        typecode: kind,
        instance: u16::try_from(instance).map_err(|_| Errno::Inval)?,
        length: u32::try_from(record.len()).map_err(|_| Errno::Inval)?,
    };
    list.extend_from_slice(bytemuck::bytes_of(&descriptor));
    list.extend_from_slice(record);
    Ok(())
}

/// The record at the start of `list`, and what follows it.
fn split(list: &[u8]) -> Result<(abi::HvmSaveDescriptor, &[u8], &[u8]), Errno> {
    let (descriptor, rest) =
        abi::take_first::<abi::HvmSaveDescriptor>(list).ok_or(Errno::NoData)?;
    let (record, rest) = rest
        .split_at_checked(descriptor.length as usize)
        .ok_or(Errno::NoData)?;
    Ok((descriptor, record, rest))
}

fn check(list: &[u8]) -> Result<(), Errno> {
    let (first, header, mut rest) = split(list)?;
    let header: abi::HvmSaveHeader =
        bytemuck::try_pod_read_unaligned(header).map_err(|_| Errno::Inval)?;
    if first.typecode != abi::HVM_SAVE_CODE_HEADER
        || header.magic != abi::HVM_FILE_MAGIC
        || header.version != abi::HVM_FILE_VERSION
    {
        return Err(Errno::Inval);
    }
    loop {
        let (descriptor, _, tail) = split(rest)?;
        if descriptor.typecode == abi::HVM_SAVE_CODE_END {
            return Ok(());
        }
        if !KINDS.contains(&descriptor.typecode) {
            return Err(Errno::Inval);
        }
        rest = tail;
    }
}

fn load(domain: &Domain, list: &[u8]) -> Result<(), Errno> {
    check(list)?;
    for vcpu in domain.vcpus() {
        vcpu.hold(Hold::Down);
        vcpu.set_initialised(false);
    }
    let (_, _, mut rest) = split(list)?;
    loop {
        let (descriptor, record, tail) = split(rest)?;
        if descriptor.typecode == abi::HVM_SAVE_CODE_END {
            return Ok(());
        }
        let vcpu = domain
            .vcpu(descriptor.instance.into())
            .ok_or(Errno::Inval)?;
        let loaded = vcpu.arch.load(descriptor.typecode, record);
        loaded.map_err(|errno| match errno {
            Errno::NoEnt => Errno::Inval,
            errno => errno,
        })?;
        if descriptor.typecode == abi::HVM_SAVE_CODE_CPU {
            vcpu.set_initialised(true);
            vcpu.update_time();
            vcpu.release(Hold::Down);
        }
        rest = tail;
    }
}
