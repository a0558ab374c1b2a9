//! The hypervisor's log and debug keys.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::Errno;

use crate::hypercall::{Answer, Call};

/// Bytes of the log that are copied at a time.
const CHUNK: usize = 512;
/// Nobody types more at once.
const MOST_KEYS: usize = 128;

/// Copies the log from an index on, or all that was not cleared; tells the bytes copied and the
/// index that follows them.
pub fn read(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlReadConsole = op.u.view();
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
        let to = ask.buffer.checked_add(done.into()).ok_or(Errno::Fault)?;
        call.write_bytes(to, room.get(..count).ok_or(Errno::Inval)?)?;
        done = done.saturating_add(count as u32);
    }
    if ask.clear != 0 {
        console.clear_log();
    }
    (ask.count, ask.index) = (done, next.unwrap_or(ask.index));
    op.u.store(&ask);
    Ok(0)
}

pub fn keys(call: &Call<'_>, op: &abi::Sysctl) -> Answer {
    let ask: abi::SysctlDebugKeys = op.u.view();
    let mut keys = [0; MOST_KEYS];
    let keys = keys.get_mut(..ask.nr_keys as usize).ok_or(Errno::TooBig)?;
    call.read_bytes(ask.keys, keys)?;
    let console = call.machine().platform.console();
    keys.iter().for_each(|key| console.debug_key(*key));
    Ok(0)
}
