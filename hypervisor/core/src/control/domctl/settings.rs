//! Limits and other settings of a domain.

use guest_pv_abi as abi;
use oxen_types::{Errno, PAGE_SIZE, Port, Result};

use crate::hypercall::{Answer, Call, Stop, Target};

const KIB_PER_FRAME: u64 = PAGE_SIZE as u64 / 1024;
const ADDRESS_BITS: u32 = 64;

/// `XEN_CPUID_TSC_MODE_*` of libxl and the headers' comments: what RDTSC is to a guest.
mod tsc {
    pub(super) const DEFAULT: u32 = 0;
    pub(super) const ALWAYS_EMULATE: u32 = 1;
    pub(super) const NATIVE: u32 = 2;
}

/// createdomain has made them; this confirms it.
pub(super) fn max_vcpus(
    _call: &Call<'_>,
    domain: &Target,
    ask: &abi::DomctlMaxVcpus,
) -> Result<()> {
    if ask.max == domain.config.max_vcpus {
        Ok(())
    } else {
        Err(Errno::Inval)
    }
}

/// The limit of the domain's RAM. It may be less than the domain has: then it gets no more. Goes in
/// steps, the call executed again for each: a higher limit takes page tables along.
pub(super) fn max_mem(_call: &Call<'_>, domain: &Target, ask: &abi::DomctlMaxMem) -> Answer {
    match domain.set_max_frames(ask.max_memkb / KIB_PER_FRAME)? {
        true => Ok(0),
        false => Err(Stop::Again),
    }
}

/// The domain's UUID.
pub(super) fn handle(_call: &Call<'_>, domain: &Target, ask: &abi::DomctlSetDomainHandle) {
    domain.with_control(|control| control.handle = ask.handle);
}

/// How far the domain's wall clock is ahead of the machine's.
pub(super) fn time_offset(_call: &Call<'_>, domain: &Target, ask: &abi::DomctlSetTimeOffset) {
    domain.set_time_offset(ask.time_offset_seconds);
}

/// Guests read the machine's TSC with an offset, at its own rate.
pub(super) fn tsc_info(call: &Call<'_>, _domain: &Target, answer: &mut abi::DomctlTscInfo) {
    let machine = call.machine();
    *answer = abi::DomctlTscInfo {
        tsc_mode: tsc::DEFAULT,
        gtsc_khz: machine.platform.clock().tsc_khz(),
        incarnation: 0,
        pad: 0,
        elapsed_nsec: machine.now(),
    };
}

/// Agrees to the mode that RDTSC has already. A rate that differs (a guest from another machine) is
/// accepted in the default mode: its clock is pvclock, which tells it the new one.
pub(super) fn set_tsc_info(
    _call: &Call<'_>,
    _domain: &Target,
    ask: &abi::DomctlTscInfo,
) -> Result<()> {
    match ask.tsc_mode {
        tsc::DEFAULT | tsc::NATIVE => Ok(()),
        tsc::ALWAYS_EMULATE => Err(Errno::OpNotSupp),
        _ => Err(Errno::Inval),
    }
}

/// The width of the guest's addresses.
pub(super) fn address_size(
    _call: &Call<'_>,
    _domain: &Target,
    answer: &mut abi::DomctlAddressSize,
) {
    answer.size = ADDRESS_BITS;
}

/// Only PV guests could have another.
pub(super) fn set_address_size(
    _call: &Call<'_>,
    _domain: &Target,
    ask: &abi::DomctlAddressSize,
) -> Result<()> {
    if ask.size == ADDRESS_BITS {
        Ok(())
    } else {
        Err(Errno::Inval)
    }
}

/// Whether the domain is shown as debugged.
pub(super) fn debugging(_call: &Call<'_>, domain: &Target, ask: &abi::DomctlSetDebugging) {
    domain.with_control(|control| control.debugging = ask.enable != 0);
}

/// The guest's port that is notified of a finished suspend instead of VIRQ_DOM_EXC; 0 for none.
pub(super) fn subscribe(_call: &Call<'_>, domain: &Target, ask: &abi::DomctlSubscribe) {
    let port = (ask.port != 0).then_some(Port(ask.port));
    domain.with_control(|control| control.suspend_port = port);
}
