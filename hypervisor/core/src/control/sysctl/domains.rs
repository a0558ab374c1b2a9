//! getdomaininfolist: what all domains are and do.

use guest_pv_abi as abi;
use oxen_types::DomainId;

use crate::control::domctl::info;
use crate::hypercall::{Answer, Call, DomainList, List, Privileged};

/// Domains described before the CPU looks at its other work.
const BATCH: u32 = 32;

/// Describes the domains from `first_domain` on, in parts.
pub(super) fn list(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::SysctlGetDomainInfoList,
) -> Answer {
    let begin = DomainList {
        done: 0,
        next: ask.first_domain.into(),
    };
    let mut at = call.resume().unwrap_or(begin);
    let stop = at.done.saturating_add(BATCH);
    let buffer: List<'_, abi::DomctlGetDomainInfo> = call.list(ask.buffer);
    while at.done < ask.max_domains {
        let first = u16::try_from(at.next).map_or(DomainId::INVALID, DomainId);
        let Some(domain) = call.machine().next_domain(first) else {
            break;
        };
        if at.done >= stop {
            return Err(call.go_on(at));
        }
        buffer.set(at.done.into(), &info::describe(&domain))?;
        at.done = at.done.saturating_add(1);
        at.next = u32::from(domain.id.0) + 1;
    }
    ask.num_domains = at.done;
    Ok(0)
}
