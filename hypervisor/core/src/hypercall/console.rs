//! console_io: the hypervisor's console as dom0's hvc0, and a log for others (xen/xen.h,
//! CONSOLEIO_*).

use oxen_types::{Errno, Result};

use super::op::operations;
use super::{Answer, Call, List, Privileged, Stop};

/// Bytes moved in one go.
const CHUNK: usize = 128;
/// Bytes moved before the CPU looks at its other work: at 115200 baud, half a millisecond each.
const BURST: usize = 8 * CHUNK;

operations! {
    /// args: cmd, count, buffer.
    pub fn call(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[2];
    accepted {
        CONSOLEIO_WRITE: plain by privileged => write, full;
        CONSOLEIO_READ: plain by privileged => read, full;
    }
    refused {}
    else Err(Errno::NoSys.into());
}

fn write(call: &mut Call<'_>, _dom0: Privileged) -> Answer {
    let console = call.machine().platform.console();
    let mut buffer = [0; CHUNK];
    let mut moved = 0;
    while call.args[1] > 0 {
        if moved == BURST {
            return Err(Stop::Again);
        }
        let part = buffer.get_mut(..CHUNK.min(call.args[1] as usize));
        let part = part.unwrap_or_default();
        call.list::<u8>(call.args[2]).get_all(0, part)?;
        console.write(part);
        call.args[1] -= part.len() as u64;
        call.args[2] = call.args[2].wrapping_add(part.len() as u64);
        moved += part.len();
    }
    Ok(0)
}

fn read(call: &Call<'_>, _dom0: Privileged) -> Result<u64> {
    let mut buffer = [0; CHUNK];
    let most = CHUNK.min(usize::try_from(call.args[1]).unwrap_or(CHUNK));
    let room = buffer.get_mut(..most).unwrap_or_default();
    let len = call.machine().platform.console().read(room);
    let list: List<'_, u8> = call.list(call.args[2]);
    list.set_all(0, room.get(..len).unwrap_or(room))?;
    Ok(len as u64)
}
