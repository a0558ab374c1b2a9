//! hvm_op: parameters and the upcall vector of HVM-style guests (xen/hvm/hvm_op.h, params.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, Result};

use super::op::operations;
use super::{Call, Target};
use crate::params;

/// Vectors below this are exceptions.
const FIRST_VECTOR: u8 = 0x10;

operations! {
    /// args: cmd, argument.
    pub fn call(call) with ();
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[1];
    accepted {
        HVMOP_SET_EVTCHN_UPCALL_VECTOR: takes(abi::HvmEvtchnUpcallVector) by anyone
            => set_upcall_vector, full;
        HVMOP_SET_PARAM: takes(abi::HvmParam) by anyone => set_param, full;
        HVMOP_GET_PARAM: updates(abi::HvmParam) by anyone => get_param, full;
        HVMOP_GET_TIME: gives(abi::HvmGetTime) by anyone => time, full;
        HVMOP_FLUSH_TLBS: plain by anyone => flush, full;
    }
    refused {
        HVMOP_PAGETABLE_DYING: NoSys, "a guest then does not call again";
        HVMOP_XENTRACE: NoSys;
        HVMOP_SET_MEM_ACCESS: NoSys;
        HVMOP_GET_MEM_ACCESS: NoSys;
        HVMOP_GET_MEM_TYPE: NoSys;
        HVMOP_GUEST_REQUEST_VM_EVENT: NoSys;
        HVMOP_ALTP2M: NoSys;
    }
    else Err(Errno::NoSys.into());
}

fn set_upcall_vector(call: &Call<'_>, ask: &abi::HvmEvtchnUpcallVector) -> Result<()> {
    if ask.vector < FIRST_VECTOR {
        return Err(Errno::Inval);
    }
    let vcpu = call.domain().vcpu(ask.vcpu).ok_or(Errno::NoEnt)?;
    vcpu.set_upcall_vector(ask.vector);
    Ok(())
}

fn time(call: &Call<'_>, answer: &mut abi::HvmGetTime) {
    answer.now = call.machine().now();
}

fn flush(call: &Call<'_>) -> Result<()> {
    if call.args[1] != 0 {
        return Err(Errno::Inval);
    }
    call.domain().memory.flush();
    Ok(())
}

/// The domain whose parameter it is. `own`: whether a guest may use the parameter of its own
/// domain.
fn owner(call: &Call<'_>, ask: &abi::HvmParam, own: fn(u32) -> bool) -> Result<Target> {
    params::check(ask.index)?;
    let domain = call.target(ask.domid)?;
    if !own(ask.index) {
        call.privileged()?;
    }
    Ok(domain)
}

fn set_param(call: &Call<'_>, ask: &abi::HvmParam) -> Result<()> {
    let domain = owner(call, ask, params::guest_may_write)?;
    if ask.index == abi::HVM_PARAM_CALLBACK_IRQ {
        // Only the global vector (type 2) means something without a PIC or a PCI device to raise;
        // other types are accepted and do nothing.
        domain.set_callback(ask.value);
    }
    domain.set_hvm_param(ask.index, ask.value)
}

fn get_param(call: &Call<'_>, ask: &mut abi::HvmParam) -> Result<()> {
    let domain = owner(call, ask, params::guest_may_read)?;
    ask.value = domain.hvm_param(ask.index)?;
    Ok(())
}
