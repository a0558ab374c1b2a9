//! vcpu_op, set_timer_op and vm_assist (xen/vcpu.h).

use guest_pv_abi as abi;
use oxen_types::{Errno, Gfn, PAGE_SIZE, Vaddr};

use super::{Answer, Call};
use crate::area::SharedArea;
use crate::clock::TIME_INFO_SIZE;
use crate::runstate::RUNSTATE_SIZE;
use crate::timer::TimerKind;
use crate::vcpu::{Hold, info};

/// The shortest period of a periodic timer, as Xen's: 1 ms.
const SHORTEST_PERIOD: u64 = 1_000_000;

/// args: cmd, vcpu id, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    let vcpu_id = u32::try_from(call.args[1]).map_err(|_| Errno::NoEnt)?;
    let vcpu = call.domain().vcpu(vcpu_id).ok_or(Errno::NoEnt)?;
    match call.args[0] as u32 {
        // An HVM-style vcpu is started by INIT and SIPI, or by these two with a context.
        abi::VCPUOP_INITIALISE => {
            if vcpu.is_initialised() {
                return Err(Errno::Exist.into());
            }
            let context: abi::VcpuHvmContext = call.read(call.handle(2))?;
            vcpu.arch.load_start_context(bytemuck::bytes_of(&context))?;
            vcpu.set_initialised(true);
            Ok(0)
        }
        abi::VCPUOP_UP => {
            if !vcpu.is_initialised() {
                return Err(Errno::Inval.into());
            }
            vcpu.release(Hold::Down);
            Ok(0)
        }
        abi::VCPUOP_DOWN => {
            vcpu.hold(Hold::Down);
            vcpu.domain.end_if_all_are_down();
            Ok(0)
        }
        abi::VCPUOP_IS_UP => Ok(u64::from(!vcpu.is_held(Hold::Down))),
        abi::VCPUOP_GET_RUNSTATE_INFO => {
            let bytes = vcpu.runstate_info(call.machine().now());
            call.write_bytes(call.args[2], &bytes)?;
            Ok(0)
        }
        abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let area = registered(call, RUNSTATE_SIZE)?;
            vcpu.set_runstate_area(area);
            Ok(0)
        }
        abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => {
            let area = registered(call, TIME_INFO_SIZE)?;
            vcpu.set_time_area(area);
            Ok(0)
        }
        abi::VCPUOP_REGISTER_VCPU_INFO => register_info(call, &vcpu),
        abi::VCPUOP_SET_PERIODIC_TIMER => {
            let set: abi::VcpuSetPeriodicTimer = call.read(call.handle(2))?;
            if set.period_ns < SHORTEST_PERIOD || set.period_ns > i64::MAX as u64 {
                return Err(Errno::Inval.into());
            }
            vcpu.set_period(set.period_ns);
            Ok(0)
        }
        abi::VCPUOP_STOP_PERIODIC_TIMER => {
            vcpu.set_period(0);
            Ok(0)
        }
        abi::VCPUOP_SET_SINGLESHOT_TIMER => {
            let set: abi::VcpuSetSingleshotTimer = call.read(call.handle(2))?;
            let past = set.timeout_abs_ns < call.machine().now();
            if set.flags & abi::VCPU_SSHOTTMR_FUTURE != 0 && past {
                return Err(Errno::Time.into());
            }
            vcpu.arm_timer_here(TimerKind::SingleShot, set.timeout_abs_ns);
            Ok(0)
        }
        abi::VCPUOP_STOP_SINGLESHOT_TIMER => {
            vcpu.cancel_timer(TimerKind::SingleShot);
            Ok(0)
        }
        abi::VCPUOP_SEND_NMI => {
            vcpu.arch.post_nmi();
            vcpu.kick();
            Ok(0)
        }
        abi::VCPUOP_GET_PHYSID => Err(Errno::Inval.into()),
        _ => Err(Errno::NoSys.into()),
    }
}

/// set_timer_op: a one-shot VIRQ_TIMER at an absolute system time; 0 switches it off.
pub fn set_timer_op(call: &mut Call<'_>) -> Answer {
    match call.args[0] {
        0 => call.vcpu.cancel_timer(TimerKind::SingleShot),
        deadline => call.vcpu.arm_timer_here(TimerKind::SingleShot, deadline),
    }
    Ok(0)
}

/// The area behind argument 2: a linear address within the guest, 0 to withdraw it.
fn registered(call: &Call<'_>, len: usize) -> Result<Option<SharedArea>, Errno> {
    let at: u64 = call.read(call.handle(2))?;
    if at == 0 {
        return Ok(None);
    }
    SharedArea::at_linear(call.linear, &*call.domain().memory, Vaddr::new(at), len).map(Some)
}

/// Moves a vcpu's vcpu_info into a page of the guest's: once, for a vcpu that does not run yet or
/// for the caller itself.
fn register_info(call: &Call<'_>, vcpu: &crate::vcpu::Vcpu) -> Answer {
    let ask: abi::VcpuRegisterVcpuInfo = call.read(call.handle(2))?;
    let offset = ask.offset as usize;
    if offset > PAGE_SIZE - info::SIZE || !offset.is_multiple_of(8) {
        return Err(Errno::Inval.into());
    }
    if vcpu.id != call.vcpu.id && !vcpu.is_held(Hold::Down) {
        return Err(Errno::Inval.into());
    }
    let page = call
        .domain()
        .memory
        .page(Gfn::new(ask.mfn), true)
        .map_err(|_| Errno::Inval)?;
    vcpu.move_info(page, offset)?;
    // Events may have arrived for the old place meanwhile: have the guest look at all of them.
    crate::evtchn::mark_all_pending(vcpu);
    Ok(0)
}

/// vm_assist: only the run-state update flag means something to an HVM-style guest.
/// args: cmd, type.
pub fn vm_assist(call: &mut Call<'_>) -> Answer {
    let on = match call.args[0] as u32 {
        abi::VMASST_CMD_ENABLE => true,
        abi::VMASST_CMD_DISABLE => false,
        _ => return Err(Errno::NoSys.into()),
    };
    if call.args[1] != u64::from(abi::VMASST_TYPE_RUNSTATE_UPDATE_FLAG) {
        return Err(Errno::Inval.into());
    }
    call.domain()
        .with_vcpus(|vcpus| vcpus.iter().for_each(|v| v.mark_runstate_updates(on)));
    Ok(0)
}
