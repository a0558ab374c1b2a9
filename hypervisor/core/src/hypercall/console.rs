//! console_io: the hypervisor's console as dom0's hvc0, and a log for others (xen/xen.h, CONSOLEIO_*).

use guest_pv_abi as abi;
use oxen_types::Errno;

use super::{Answer, Call, Stop};

/// Bytes moved in one go.
const CHUNK: usize = 128;
/// Bytes moved before the CPU looks at its other work: at 115200 baud, half a millisecond each.
const BURST: usize = 8 * CHUNK;

/// args: cmd, count, buffer.
pub fn call(call: &mut Call<'_>) -> Answer {
    call.require_privilege()?;
    match call.args[0] as u32 {
        abi::CONSOLEIO_WRITE => write(call),
        abi::CONSOLEIO_READ => read(call),
        _ => Err(Errno::NoSys.into()),
    }
}

fn write(call: &mut Call<'_>) -> Answer {
    let console = call.machine().platform.console();
    let mut buffer = [0; CHUNK];
    let mut moved = 0;
    while call.args[1] > 0 {
        if moved == BURST {
            return Err(Stop::Again);
        }
        let len = CHUNK.min(call.args[1] as usize);
        call.read_bytes(call.args[2], &mut buffer[..len])?;
        console.write(&buffer[..len]);
        call.args[1] -= len as u64;
        call.args[2] = call.args[2].wrapping_add(len as u64);
        moved += len;
    }
    Ok(0)
}

fn read(call: &mut Call<'_>) -> Answer {
    let mut buffer = [0; CHUNK];
    let most = CHUNK.min(usize::try_from(call.args[1]).unwrap_or(CHUNK));
    let len = call.machine().platform.console().read(&mut buffer[..most]);
    call.write_bytes(call.args[2], &buffer[..len])?;
    Ok(len as u64)
}
