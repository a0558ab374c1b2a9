//! The memory map that a guest sees (E820 entries).

use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use super::Call;
use crate::fallible;
use crate::hypercall::{List, Privileged};

/// Entries that a toolstack may set for a guest.
const MOST_ENTRIES: u32 = 128;

/// dom0 gets the machine's map, a guest the map that its toolstack has set.
///
/// # Errors
/// `NoSys` if the toolstack has set none, `Fault` if the list cannot be written.
pub(super) fn get(call: &Call<'_>, ask: &mut abi::MemoryMap) -> Result<()> {
    let list: List<'_, abi::E820Entry> = call.list(ask.buffer);
    let room = if list.is_null() { 0 } else { ask.nr_entries };
    let (mut count, mut written) = (0u32, Ok(()));
    let mut add = |entry: abi::E820Entry| {
        if count < room && written.is_ok() {
            written = list.set(count.into(), &entry);
        }
        count = count.saturating_add(1);
    };
    if call.privileged().is_ok() {
        let platform = call.machine().platform;
        platform.dom0_memory_map(&mut |addr, size, kind| add(abi::E820Entry { addr, size, kind }));
    } else {
        call.domain()
            .with_memory_map(|map| map.iter().for_each(|entry| add(*entry)));
    }
    written?;
    if count == 0 {
        return Err(Errno::NoSys);
    }
    ask.nr_entries = if list.is_null() {
        count
    } else {
        count.min(room)
    };
    Ok(())
}

/// Sets the map that a domain gets.
///
/// # Errors
/// `Inval` for more than [`MOST_ENTRIES`] entries, `Fault` if the list cannot be read.
pub(super) fn set(call: &Call<'_>, _dom0: Privileged, ask: &abi::ForeignMemoryMap) -> Result<()> {
    let domain = call.target(ask.domid)?;
    if ask.nr_entries > MOST_ENTRIES {
        return Err(Errno::Inval);
    }
    let list: List<'_, abi::E820Entry> = call.list(ask.buffer);
    let mut entries = fallible::list(ask.nr_entries as usize)?;
    for i in 0..ask.nr_entries {
        fallible::push(&mut entries, list.get(i.into())?)?;
    }
    domain.set_memory_map(entries);
    Ok(())
}

/// No device here needs memory of its own in a guest's map: an empty list.
pub(super) fn no_reserved_device_memory(_call: &Call<'_>, ask: &mut abi::ReservedDeviceMemoryMap) {
    ask.nr_entries = 0;
}
