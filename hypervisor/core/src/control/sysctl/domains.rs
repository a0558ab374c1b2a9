//! getdomaininfolist: what all domains are and do.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::DomainId;

use crate::control::domctl::info;
use crate::hypercall::{Answer, Call, Handle, Stop};

/// Domains described before the CPU looks at its other work.
const BATCH: usize = 32;
/// Arguments of a call that goes on: that it does, domains done, and the next number.
const GOES_ON: usize = 1;
const DONE: usize = 2;
const NEXT: usize = 3;
/// No argument that a caller leaves there by chance.
const MARK: u64 = 0x6f78_656e_4c69_7374;

pub fn list(call: &mut Call<'_>, op: &mut abi::Sysctl) -> Answer {
    let mut ask: abi::SysctlGetDomainInfoList = op.u.view();
    let (mut done, mut next) = if call.args[GOES_ON] == MARK {
        (call.args[DONE] as u32, call.args[NEXT] as u16)
    } else {
        (0, ask.first_domain)
    };
    let buffer: Handle<abi::DomctlGetDomainInfo> = Handle::new(ask.buffer);
    let room = ask.max_domains.saturating_sub(done) as usize;
    let some = call.machine().domains_from(DomainId(next), room.min(BATCH));
    for domain in &some {
        call.write(buffer.nth(done.into())?, &info::describe(domain))?;
        done = done.saturating_add(1);
        next = domain.id.0.saturating_add(1);
    }
    if some.len() == BATCH {
        (call.args[GOES_ON], call.args[DONE], call.args[NEXT]) = (MARK, done.into(), next.into());
        return Err(Stop::Again);
    }
    call.args[GOES_ON] = 0;
    ask.num_domains = done;
    op.u.store(&ask);
    Ok(0)
}
