//! multicall: a list of hypercalls in one (xen/xen.h, `multicall_entry`).

use guest_pv_abi::MulticallEntry;
use oxen_types::Errno;

use super::{Answer, Handle, Stop, answer};

/// Entries done in one go before the CPU looks at its other work.
const BATCH: u64 = 32;

/// args: entries, count. What is done is counted off, so that a continuation goes on with the rest.
pub fn call(call: &mut super::Call<'_>) -> Answer {
    let entries: Handle<MulticallEntry> = call.handle(0);
    let count = call.args[1];
    for done in 0..count {
        if done == BATCH {
            call.args[0] = entries.nth(done)?.raw();
            call.args[1] = count - done;
            return Err(Stop::Again);
        }
        let at = entries.nth(done)?;
        let mut entry = call.read(at)?;
        if entry.op == u64::from(guest_pv_abi::HYPERVISOR_MULTICALL) {
            entry.result = Errno::Inval.to_abi() as u64;
        } else {
            let mut inner = super::Call {
                vcpu: call.vcpu,
                linear: call.linear,
                args: entry.args,
            };
            entry.result = match answer(entry.op, &mut inner) {
                Ok(value) => value,
                Err(Stop::Err(errno)) => errno.to_abi() as u64,
                Err(Stop::Again) => {
                    // The rest of this entry comes first when the guest is back.
                    entry.args = inner.args;
                    call.write(at, &entry)?;
                    call.args[0] = at.raw();
                    call.args[1] = count - done;
                    return Err(Stop::Again);
                }
            };
        }
        call.write(at, &entry)?;
    }
    Ok(0)
}
