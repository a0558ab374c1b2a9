//! The hypervisor's log and debug keys.

use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use crate::hypercall::{Call, List, Privileged};

/// Bytes of the log that are copied at a time.
const CHUNK: usize = 512;
/// Nobody types more at once.
const MOST_KEYS: usize = 128;

/// Copies the log from an index on, or all that was not cleared; tells the bytes copied and the
/// index that follows them.
pub(super) fn read(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlReadConsole,
) -> Result<()> {
    let buffer: List<'_, u8> = call.list(ask.buffer);
    let console = call.machine().platform.console();
    let mut next = (ask.incremental != 0).then_some(ask.index);
    let mut done = 0u32;
    let mut chunk = [0; CHUNK];
    while done < ask.count {
        let room = CHUNK.min((ask.count - done) as usize);
        let room = chunk.get_mut(..room).ok_or(Errno::Inval)?;
        let (count, following) = console.read_log(next, room);
        next = Some(following);
        if count == 0 {
            break;
        }
        buffer.set_all(done.into(), room.get(..count).ok_or(Errno::Inval)?)?;
        done = done.saturating_add(count as u32);
    }
    if ask.clear != 0 {
        console.clear_log();
    }
    (ask.count, ask.index) = (done, next.unwrap_or(ask.index));
    Ok(())
}

/// Debug keys, as if they were typed at the console.
pub(super) fn keys(call: &Call<'_>, _dom0: Privileged, ask: &abi::SysctlDebugKeys) -> Result<()> {
    let mut keys = [0; MOST_KEYS];
    let keys = keys.get_mut(..ask.nr_keys as usize).ok_or(Errno::TooBig)?;
    let list: List<'_, u8> = call.list(ask.keys);
    list.get_all(0, keys)?;
    let console = call.machine().platform.console();
    keys.iter().for_each(|key| console.debug_key(*key));
    Ok(())
}
