//! The memory map that a guest sees (E820 entries).

use guest_pv_abi as abi;
use oxen_types::Errno;

use super::{Answer, Call};
use crate::fallible;
use crate::hypercall::Handle;

/// Entries that a toolstack may set for a guest.
const MOST_ENTRIES: u32 = 128;

pub fn get(call: &Call<'_>) -> Answer {
    let at: Handle<abi::MemoryMap> = call.handle(1);
    let ask = call.read(at)?;
    let list: Handle<abi::E820Entry> = Handle::new(ask.buffer);
    let room = if list.is_null() { 0 } else { ask.nr_entries };
    let (mut count, mut written) = (0u32, Ok(()));
    let mut tell = |entry: abi::E820Entry| {
        if count < room && written.is_ok() {
            let to = list.nth(count.into());
            written = to.and_then(|to| call.write(to, &entry));
        }
        count = count.saturating_add(1);
    };
    if call.is_privileged() {
        let platform = call.machine().platform;
        platform.dom0_memory_map(&mut |addr, size, kind| tell(abi::E820Entry { addr, size, kind }));
    } else {
        call.domain()
            .with_memory_map(|map| map.iter().for_each(|entry| tell(*entry)));
    }
    written?;
    if count == 0 {
        return Err(Errno::NoSys.into());
    }
    let nr_entries = if list.is_null() {
        count
    } else {
        count.min(room)
    };
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
    let mut entries = fallible::list(ask.nr_entries as usize)?;
    for i in 0..ask.nr_entries {
        fallible::push(&mut entries, call.read(list.nth(i.into())?)?)?;
    }
    domain.set_memory_map(entries);
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
