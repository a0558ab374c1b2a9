//! multicall: a list of hypercalls in one (xen/xen.h, `multicall_entry`).
//!
//! The calls share the budget of the entry, so a list does no more in one go than one call may.

use guest_pv_abi::MulticallEntry;
use oxen_types::Errno;

use super::{Answer, Call, List, Stop, Work};
use crate::dispatch::answer;

/// args: entries, count. What is done is counted off, so that a continuation goes on with the rest.
pub fn call(call: &mut Call<'_>) -> Answer {
    let entries: List<'_, MulticallEntry> = call.list(call.args[0]);
    let count = call.args[1];
    for done in 0..count {
        let at = entries.address(done)?;
        if call.is_spent() {
            return Err(go_on(call, at, count - done));
        }
        call.spend(Work::Call, 1);
        let mut entry = entries.get(done)?;
        if entry.op == u64::from(guest_pv_abi::HYPERVISOR_MULTICALL) {
            entry.result = Errno::Inval.to_abi() as u64;
        } else {
            let mut inner = call.inner(entry.args);
            let answer = answer(entry.op, &mut inner);
            call.take_budget(&inner);
            entry.result = match answer {
                Ok(value) => value,
                Err(Stop::Err(errno)) => errno.to_abi() as u64,
                Err(Stop::Again) => {
                    // The rest of this entry comes first when the guest is back.
                    entry.args = inner.args;
                    entries.set(done, &entry)?;
                    return Err(go_on(call, at, count - done));
                }
            };
        }
        entries.set(done, &entry)?;
    }
    Ok(0)
}

/// Leaves `count` entries from `at` on for the next part of the call.
fn go_on(call: &mut Call<'_>, at: u64, count: u64) -> Stop {
    call.args[0] = at;
    call.args[1] = count;
    Stop::Again
}
