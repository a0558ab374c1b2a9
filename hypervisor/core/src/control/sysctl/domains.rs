//! getdomaininfolist: what all domains are and do.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::DomainId;

use crate::control::domctl::info;
use crate::hypercall::{Answer, Call, Handle, Long};

/// Domains described before the CPU looks at its other work.
const BATCH: u32 = 32;

pub fn list(call: &Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlGetDomainInfoList = op.u.view();
    let argument = call.args[0];
    let goes_on = call.resume(Long::DomainList, argument);
    let [start, mut next] = goes_on.unwrap_or([0, ask.first_domain.into()]);
    let buffer: Handle<abi::DomctlGetDomainInfo> = Handle::new(ask.buffer);
    let mut done = start;
    while done < ask.max_domains {
        let first = u16::try_from(next).map_or(DomainId::INVALID, DomainId);
        let Some(domain) = call.machine().next_domain(first) else {
            break;
        };
        if done >= start.saturating_add(BATCH) {
            return Err(call.go_on(Long::DomainList, argument, [done, next]));
        }
        call.write(buffer.nth(done.into())?, &info::describe(&domain))?;
        done = done.saturating_add(1);
        next = u32::from(domain.id.0) + 1;
    }
    ask.num_domains = done;
    op.u.store(&ask);
    Ok(0)
}
