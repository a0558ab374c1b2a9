//! domctl: one domain, as its toolstack controls it (xen/domctl.h, interface version 0x15).
//!
//! Only a privileged domain may call it. What takes long is called again ([`Stop::Again`]) until it
//! is done; how far it got stands in the domain that it is about.

mod context;
mod create;
pub mod info;
mod life;
mod paging;
mod policy;
mod rights;
mod sched;
mod settings;

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno};

use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Handle, Stop};

pub use policy::leaf;

/// args: the operation.
pub fn call(call: &mut Call<'_>) -> Answer {
    let at: Handle<abi::Domctl> = call.handle(0);
    let mut op = call.read(at)?;
    if op.interface_version != abi::DOMCTL_INTERFACE_VERSION {
        return Err(Errno::Acces.into());
    }
    let before = op;
    let answer = act(call, &mut op);
    // Some operations tell more when they fail.
    if answer != Err(Stop::Again) && bytemuck::bytes_of(&op) != bytemuck::bytes_of(&before) {
        call.write(at, &op)?;
    }
    answer
}

fn act(call: &mut Call<'_>, op: &mut abi::Domctl) -> Answer {
    match op.cmd {
        abi::XEN_DOMCTL_CREATEDOMAIN => return create::create(call, op),
        abi::XEN_DOMCTL_GETDOMAININFO => return info::domain(call, op),
        _ => {}
    }
    let machine = call.machine();
    let domain = machine.domain(DomainId(op.domain)).ok_or(Errno::Srch)?;
    match op.cmd {
        abi::XEN_DOMCTL_DESTROYDOMAIN => life::destroy(call, &domain),
        abi::XEN_DOMCTL_PAUSEDOMAIN => life::pause(call, &domain),
        abi::XEN_DOMCTL_UNPAUSEDOMAIN => life::unpause(call, &domain),
        abi::XEN_DOMCTL_RESUMEDOMAIN => life::resume(call, &domain),
        abi::XEN_DOMCTL_SENDTRIGGER => life::trigger(&domain, op),
        abi::XEN_DOMCTL_SOFT_RESET => Err(Errno::OpNotSupp.into()),

        abi::XEN_DOMCTL_GETVCPUINFO => info::vcpu(&domain, op),
        abi::XEN_DOMCTL_GETVCPUCONTEXT | abi::XEN_DOMCTL_SETVCPUCONTEXT => {
            Err(Errno::OpNotSupp.into())
        }

        abi::XEN_DOMCTL_MAX_VCPUS => settings::max_vcpus(call, &domain, op),
        abi::XEN_DOMCTL_MAX_MEM => settings::max_mem(&domain, op),
        abi::XEN_DOMCTL_SETDOMAINHANDLE => settings::handle(&domain, op),
        abi::XEN_DOMCTL_SETTIMEOFFSET => settings::time_offset(&domain, op),
        abi::XEN_DOMCTL_GETTSCINFO => settings::tsc_info(call, op),
        abi::XEN_DOMCTL_SETTSCINFO => settings::set_tsc_info(call, &domain, op),
        abi::XEN_DOMCTL_GET_ADDRESS_SIZE => settings::address_size(op),
        abi::XEN_DOMCTL_SET_ADDRESS_SIZE => settings::set_address_size(op),
        abi::XEN_DOMCTL_SETDEBUGGING => settings::debugging(call, &domain, op),
        abi::XEN_DOMCTL_SUBSCRIBE => settings::subscribe(&domain, op),
        // Guests have the page written by the MSR that CPUID names.
        abi::XEN_DOMCTL_HYPERCALL_INIT => Err(Errno::OpNotSupp.into()),
        // One domain that acts for another: there are no device-model domains yet.
        abi::XEN_DOMCTL_SET_TARGET | abi::XEN_DOMCTL_SET_VIRQ_HANDLER => {
            Err(Errno::OpNotSupp.into())
        }

        abi::XEN_DOMCTL_SETVCPUAFFINITY => sched::set_affinity(call, &domain, op),
        abi::XEN_DOMCTL_GETVCPUAFFINITY => sched::affinity(call, &domain, op),
        abi::XEN_DOMCTL_SETNODEAFFINITY => sched::set_node_affinity(call, op),
        abi::XEN_DOMCTL_GETNODEAFFINITY => sched::node_affinity(call, op),
        abi::XEN_DOMCTL_SCHEDULER_OP => sched::params(&domain, op),

        abi::XEN_DOMCTL_GETHVMCONTEXT => context::get(call, &domain, op),
        abi::XEN_DOMCTL_SETHVMCONTEXT => context::set(call, &domain, op),
        abi::XEN_DOMCTL_GETHVMCONTEXT_PARTIAL => context::get_one(call, &domain, op),

        abi::XEN_DOMCTL_GET_CPU_POLICY => policy::get(call, &domain, op),
        abi::XEN_DOMCTL_SET_CPU_POLICY => policy::set(call, &domain, op),

        abi::XEN_DOMCTL_SHADOW_OP => paging::shadow(call, &domain, op),
        abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE => paging::pool(&domain, op),
        abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE => paging::set_pool(&domain, op),
        abi::XEN_DOMCTL_GETPAGEFRAMEINFO3 => paging::frame_types(call, &domain, op),

        abi::XEN_DOMCTL_IRQ_PERMISSION => rights::irq(&domain, op),
        abi::XEN_DOMCTL_IOMEM_PERMISSION => rights::memory(&domain, op),
        abi::XEN_DOMCTL_IOPORT_PERMISSION => rights::ports(&domain, op),
        _ => Err(Errno::NoSys.into()),
    }
}

/// Most operations make no sense for the domain that calls: it would wait for itself.
fn not_self(call: &Call<'_>, domain: &Arc<Domain>) -> Result<(), Errno> {
    if Arc::ptr_eq(domain, call.domain()) {
        Err(Errno::Inval)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
