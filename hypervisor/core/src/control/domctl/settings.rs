//! Limits and other settings of a domain.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{Errno, PAGE_SIZE, Port};

use super::not_self;
use crate::domain::Domain;
use crate::hypercall::{Answer, Call, Stop};

const KIB_PER_FRAME: u64 = PAGE_SIZE as u64 / 1024;
const ADDRESS_BITS: u32 = 64;

/// `XEN_CPUID_TSC_MODE_*` of libxl and the headers' comments: what RDTSC is to a guest.
mod tsc {
    pub const DEFAULT: u32 = 0;
    pub const ALWAYS_EMULATE: u32 = 1;
    pub const NATIVE: u32 = 2;
}

/// createdomain has made them; this confirms it.
pub fn max_vcpus(call: &Call<'_>, domain: &Arc<Domain>, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlMaxVcpus = op.u.view();
    not_self(call, domain)?;
    if ask.max == domain.config.max_vcpus {
        Ok(0)
    } else {
        Err(Errno::Inval.into())
    }
}

/// Goes in steps, the call executed again for each: a higher limit takes page tables along.
pub fn max_mem(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlMaxMem = op.u.view();
    match domain.set_max_frames(ask.max_memkb / KIB_PER_FRAME)? {
        true => Ok(0),
        false => Err(Stop::Again),
    }
}

pub fn handle(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlSetDomainHandle = op.u.view();
    domain.with_control(|control| control.handle = ask.handle);
    Ok(0)
}

pub fn time_offset(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlSetTimeOffset = op.u.view();
    domain.set_time_offset(ask.time_offset_seconds);
    Ok(0)
}

/// Guests read the machine's TSC with an offset, at its own rate.
pub fn tsc_info(call: &Call<'_>, op: &mut abi::Domctl) -> Answer {
    let machine = call.machine();
    op.u.store(&abi::DomctlTscInfo {
        tsc_mode: tsc::DEFAULT,
        gtsc_khz: machine.platform.clock().tsc_khz(),
        incarnation: 0,
        pad: 0,
        elapsed_nsec: machine.now(),
    });
    Ok(0)
}

/// What RDTSC already is may be asked for. A rate that differs (a guest from another machine) is
/// accepted in the default mode: its clock is pvclock, which tells it the new one.
pub fn set_tsc_info(call: &Call<'_>, domain: &Arc<Domain>, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlTscInfo = op.u.view();
    not_self(call, domain)?;
    match ask.tsc_mode {
        tsc::DEFAULT | tsc::NATIVE => Ok(0),
        tsc::ALWAYS_EMULATE => Err(Errno::OpNotSupp.into()),
        _ => Err(Errno::Inval.into()),
    }
}

pub fn address_size(op: &mut abi::Domctl) -> Answer {
    op.u.store(&abi::DomctlAddressSize { size: ADDRESS_BITS });
    Ok(0)
}

/// Only PV guests could have another.
pub fn set_address_size(op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlAddressSize = op.u.view();
    if ask.size == ADDRESS_BITS {
        Ok(0)
    } else {
        Err(Errno::Inval.into())
    }
}

pub fn debugging(call: &Call<'_>, domain: &Arc<Domain>, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlSetDebugging = op.u.view();
    not_self(call, domain)?;
    domain.with_control(|control| control.debugging = ask.enable != 0);
    Ok(0)
}

/// The port, of the guest's, that hears of a finished suspend instead of VIRQ_DOM_EXC.
pub fn subscribe(domain: &Domain, op: &abi::Domctl) -> Answer {
    let ask: abi::DomctlSubscribe = op.u.view();
    let port = (ask.port != 0).then_some(Port(ask.port));
    domain.with_control(|control| control.suspend_port = port);
    Ok(0)
}
