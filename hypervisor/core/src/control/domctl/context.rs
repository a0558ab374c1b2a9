//! A domain's processor state as a list of records (xen/hvm/save.h, xen/arch-x86/hvm/save.h).
//!
//! The list is HEADER first, the vcpus' records by kind, and END; each record has a descriptor
//! before it. Its framing is checked as a whole before any record of it is loaded.

use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use super::life::while_paused;
use crate::domain::Domain;
use crate::fallible;
use crate::hypercall::{Call, List, Stop, Target};
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
/// All extended state that a processor has is less.
const MOST_RECORD: usize = 16 << 10;
/// A record that one getcontext_partial asks for.
const NO_CHANGESET: u64 = u64::MAX;

/// The whole list. Without a buffer, only its length is answered.
pub(super) fn get(
    call: &Call<'_>,
    domain: &Target,
    ask: &mut abi::DomctlHvmContext,
) -> Result<(), Stop> {
    ask.size = while_paused(call, domain, || {
        let mut list = Writer::new(call, ask.buffer, ask.size.into());
        collect(domain, &mut list)?;
        u32::try_from(list.done).map_err(|_| Errno::TooBig)
    })?;
    Ok(())
}

/// One record's contents, without its descriptor.
pub(super) fn get_one(
    call: &Call<'_>,
    domain: &Target,
    ask: &mut abi::DomctlHvmContextPartial,
) -> Result<(), Stop> {
    let kind = u16::try_from(ask.kind).map_err(|_| Errno::Inval)?;
    if !KINDS.contains(&kind) {
        return Err(Errno::Inval.into());
    }
    let vcpu = domain.vcpu(ask.instance).ok_or(Errno::NoEnt)?;
    ask.bufsz = while_paused(call, domain, || {
        let mut record = Writer::new(call, ask.buffer, ask.bufsz);
        vcpu.arch.save(kind, &mut |part| record.put(part))?;
        Ok(record.done)
    })?;
    Ok(())
}

/// The caller's buffer, filled as the records come. Without one, their bytes are only counted.
struct Writer<'a> {
    to: List<'a, u8>,
    room: u64,
    done: u64,
}

impl<'a> Writer<'a> {
    fn new(call: &Call<'a>, to: u64, room: u64) -> Self {
        Self {
            to: call.list(to),
            room,
            done: 0,
        }
    }

    fn put(&mut self, part: &[u8]) -> Result<()> {
        let end = self.done.saturating_add(part.len() as u64);
        if !self.to.is_null() {
            if end > self.room {
                return Err(Errno::NoSpc);
            }
            self.to.set_all(self.done, part)?;
        }
        self.done = end;
        Ok(())
    }

    /// A descriptor, and the record that `save` gives; each time the same, as the domain stands
    /// still.
    fn record(
        &mut self,
        kind: u16,
        instance: u32,
        save: impl Fn(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let mut len = 0usize;
        save(&mut |part| {
            len = len.saturating_add(part.len());
            Ok(())
        })?;
        let descriptor = abi::HvmSaveDescriptor {
            typecode: kind,
            instance: u16::try_from(instance).map_err(|_| Errno::Inval)?,
            length: u32::try_from(len).map_err(|_| Errno::Inval)?,
        };
        self.put(bytemuck::bytes_of(&descriptor))?;
        let end = self.done.saturating_add(len as u64);
        save(&mut |part| self.put(part))?;
        if self.done == end {
            Ok(())
        } else {
            Err(Errno::Io)
        }
    }
}

/// Takes all vcpus down; those that get a CPU record are up after it, with that state.
pub(super) fn set(
    call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlHvmContext,
) -> Result<(), Stop> {
    let size = ask.size as usize;
    if size > MOST_BYTES {
        return Err(Errno::TooBig.into());
    }
    while_paused(call, domain, || {
        let list = Reader {
            call,
            from: ask.buffer,
            end: size as u64,
        };
        let longest = check(&list)?;
        load(domain, &list, longest)
    })
}

fn collect(domain: &Domain, list: &mut Writer<'_>) -> Result<()> {
    let header = abi::HvmSaveHeader {
        magic: abi::HVM_FILE_MAGIC,
        version: abi::HVM_FILE_VERSION,
        changeset: NO_CHANGESET,
        cpuid: super::leaf(domain, 1).map_or(0, |leaf| leaf.a),
        gtsc_khz: domain.machine.platform.clock().tsc_khz(),
    };
    let header = bytemuck::bytes_of(&header);
    list.record(abi::HVM_SAVE_CODE_HEADER, 0, |write| write(header))?;
    for kind in KINDS {
        for vcpu in domain.vcpus() {
            // One that is down stays down where the list is loaded: it has no CPU record.
            if kind == abi::HVM_SAVE_CODE_CPU && vcpu.is_held(Hold::Down) {
                continue;
            }
            match list.record(kind, vcpu.id.0, |write| vcpu.arch.save(kind, write)) {
                // It has no record of that kind.
                Ok(()) | Err(Errno::NoEnt) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    list.record(abi::HVM_SAVE_CODE_END, 0, |_| Ok(()))
}

/// A list in the caller's memory. Each part is read when it is looked at: what changes in between
/// is the caller's own loss.
struct Reader<'a, 'b> {
    call: &'a Call<'b>,
    from: u64,
    end: u64,
}

impl Reader<'_, '_> {
    /// The descriptor of the record at an offset; where the record begins, and where the next does.
    fn descriptor(&self, at: u64) -> Result<(abi::HvmSaveDescriptor, u64, u64)> {
        let begin = at
            .checked_add(size_of::<abi::HvmSaveDescriptor>() as u64)
            .filter(|begin| *begin <= self.end)
            .ok_or(Errno::NoData)?;
        let descriptor: abi::HvmSaveDescriptor = self.call.list(self.address(at)?).get(0)?;
        let next = begin
            .checked_add(descriptor.length.into())
            .filter(|next| *next <= self.end)
            .ok_or(Errno::NoData)?;
        Ok((descriptor, begin, next))
    }

    fn address(&self, at: u64) -> Result<u64> {
        self.from.checked_add(at).ok_or(Errno::Fault)
    }
}

/// Checks the framing of a list; the length of its longest record.
fn check(list: &Reader<'_, '_>) -> Result<usize> {
    let (first, begin, mut at) = list.descriptor(0)?;
    if first.length as usize != size_of::<abi::HvmSaveHeader>() {
        return Err(Errno::Inval);
    }
    let header: abi::HvmSaveHeader = list.call.list(list.address(begin)?).get(0)?;
    if first.typecode != abi::HVM_SAVE_CODE_HEADER
        || header.magic != abi::HVM_FILE_MAGIC
        || header.version != abi::HVM_FILE_VERSION
    {
        return Err(Errno::Inval);
    }
    let mut longest = 0;
    loop {
        let (descriptor, _, next) = list.descriptor(at)?;
        if descriptor.typecode == abi::HVM_SAVE_CODE_END {
            return Ok(longest);
        }
        let len = descriptor.length as usize;
        if !KINDS.contains(&descriptor.typecode) || len > MOST_RECORD {
            return Err(Errno::Inval);
        }
        longest = longest.max(len);
        at = next;
    }
}

fn load(domain: &Domain, list: &Reader<'_, '_>, longest: usize) -> Result<()> {
    // Longer than a page only where the processor's extended state is.
    let mut buffer = fallible::filled(longest, || 0)?;
    for vcpu in domain.vcpus() {
        vcpu.hold(Hold::Down);
        vcpu.set_initialised(false);
    }
    let (_, _, mut at) = list.descriptor(0)?;
    loop {
        let (descriptor, begin, next) = list.descriptor(at)?;
        if descriptor.typecode == abi::HVM_SAVE_CODE_END {
            return Ok(());
        }
        let record = buffer.get_mut(..descriptor.length as usize);
        let record = record.ok_or(Errno::Inval)?;
        list.call.list(list.address(begin)?).get_all(0, record)?;
        load_one(domain, descriptor, record)?;
        at = next;
    }
}

fn load_one(domain: &Domain, descriptor: abi::HvmSaveDescriptor, record: &[u8]) -> Result<()> {
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
    Ok(())
}
