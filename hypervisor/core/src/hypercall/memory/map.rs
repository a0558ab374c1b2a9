//! The memory map that a guest sees (E820 entries).

use alloc::vec::Vec;

use guest_pv_abi as abi;
use oxen_types::Errno;

use super::{Answer, Call};
use crate::hypercall::Handle;

/// Entries that a toolstack may set for a guest.
const MOST_ENTRIES: u32 = 128;

pub fn get(call: &Call<'_>) -> Answer {
    let at: Handle<abi::MemoryMap> = call.handle(1);
    let ask = call.read(at)?;
    let entries = if call.is_privileged() {
        let mut entries = Vec::new();
        call.machine()
            .platform
            .dom0_memory_map(&mut |addr, size, kind| {
                entries.push(abi::E820Entry { addr, size, kind });
            });
        entries
    } else {
        call.domain().memory_map.lock().clone()
    };
    if entries.is_empty() {
        return Err(Errno::NoSys.into());
    }
    let count = entries.len().min(ask.nr_entries as usize);
    let list: Handle<abi::E820Entry> = Handle::new(ask.buffer);
    if !list.is_null() {
        for (i, entry) in entries.iter().take(count).enumerate() {
            call.write(list.nth(i as u64)?, entry)?;
        }
    }
    let nr_entries = if list.is_null() { entries.len() } else { count } as u32;
    call.write(at, &abi::MemoryMap { nr_entries, ..ask })?;
    Ok(0)
}

pub fn set(call: &Call<'_>) -> Answer {
    call.require_privilege()?;
    let ask: abi::ForeignMemoryMap = call.read(call.handle(1))?;
    let domain = call.target(ask.domid)?;
    if ask.nr_entries > MOST_ENTRIES {
        return Err(Errno::Inval.into());
    }
    let list: Handle<abi::E820Entry> = Handle::new(ask.buffer);
    let mut entries = Vec::with_capacity(ask.nr_entries as usize);
    for i in 0..ask.nr_entries {
        entries.push(call.read(list.nth(i.into())?)?);
    }
    *domain.memory_map.lock() = entries;
    Ok(0)
}

/// No device here needs memory of its own in a guest's map: an empty list.
pub fn no_reserved_device_memory(call: &Call<'_>) -> Answer {
    let at: Handle<abi::ReservedDeviceMemoryMap> = call.handle(1);
    let ask = call.read(at)?;
    call.write(
        at,
        &abi::ReservedDeviceMemoryMap {
            nr_entries: 0,
            ..ask
        },
    )?;
    Ok(0)
}
