//! hvm_op: parameters and the upcall vector of HVM-style guests (xen/hvm/hvm_op.h, params.h).

use guest_pv_abi as abi;
use oxen_types::Errno;

use super::{Answer, Call, Handle};
use crate::params;

/// Vectors below this are exceptions.
const FIRST_VECTOR: u8 = 0x10;

/// args: cmd, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    match call.args[0] as u32 {
        abi::HVMOP_SET_EVTCHN_UPCALL_VECTOR => {
            let ask: abi::HvmEvtchnUpcallVector = call.read(call.handle(1))?;
            if ask.vector < FIRST_VECTOR {
                return Err(Errno::Inval.into());
            }
            let vcpu = call.domain().vcpu(ask.vcpu).ok_or(Errno::NoEnt)?;
            vcpu.set_upcall_vector(ask.vector);
            Ok(0)
        }
        abi::HVMOP_SET_PARAM => set_param(call),
        abi::HVMOP_GET_PARAM => get_param(call),
        // We keep no shadow that would care (yet): told so, the guest does not call again.
        abi::HVMOP_PAGETABLE_DYING => Err(Errno::NoSys.into()),
        abi::HVMOP_GET_TIME => {
            let at: Handle<abi::HvmGetTime> = call.handle(1);
            call.write(
                at,
                &abi::HvmGetTime {
                    now: call.machine().now(),
                },
            )?;
            Ok(0)
        }
        abi::HVMOP_FLUSH_TLBS => {
            if call.args[1] != 0 {
                return Err(Errno::Inval.into());
            }
            call.domain().memory.flush();
            Ok(0)
        }
        _ => Err(Errno::NoSys.into()),
    }
}

fn set_param(call: &mut Call<'_>) -> Answer {
    let ask: abi::HvmParam = call.read(call.handle(1))?;
    params::check(ask.index)?;
    let domain = call.target(ask.domid)?;
    if !call.is_privileged() && !params::guest_may_write(ask.index) {
        return Err(Errno::Perm.into());
    }
    if ask.index == abi::HVM_PARAM_CALLBACK_IRQ {
        // Only the global vector (type 2) means something without a PIC or PCI device to raise; others
        // are accepted and do nothing.
        domain.set_callback(ask.value);
    }
    domain.set_hvm_param(ask.index, ask.value)?;
    Ok(0)
}

fn get_param(call: &mut Call<'_>) -> Answer {
    let at: Handle<abi::HvmParam> = call.handle(1);
    let ask = call.read(at)?;
    params::check(ask.index)?;
    let domain = call.target(ask.domid)?;
    if !call.is_privileged() && !params::guest_may_read(ask.index) {
        return Err(Errno::Perm.into());
    }
    let value = domain.hvm_param(ask.index)?;
    call.write(at, &abi::HvmParam { value, ..ask })?;
    Ok(0)
}
