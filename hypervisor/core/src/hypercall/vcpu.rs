//! vcpu_op, set_timer_op and vm_assist (xen/vcpu.h).

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{Errno, Gfn, PAGE_SIZE, Result};

use super::op::operations;
use super::{Answer, Call};
use crate::area::SharedArea;
use crate::clock::TIME_INFO_SIZE;
use crate::runstate::RUNSTATE_SIZE;
use crate::timer::TimerKind;
use crate::vcpu::{Hold, Vcpu, info};

/// The shortest period of a periodic timer, as Xen's: 1 ms.
const SHORTEST_PERIOD: u64 = 1_000_000;

/// args: cmd, vcpu id, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    let id = u32::try_from(call.args[1]).map_err(|_| Errno::NoEnt)?;
    let vcpu = call.domain().vcpu(id).ok_or(Errno::NoEnt)?;
    on_vcpu(call, &vcpu)
}

operations! {
    fn on_vcpu(call, vcpu: &Arc<Vcpu>) with (vcpu,);
    declared OPERATIONS;
    command call.args[0] as u32;
    argument call.args[2];
    accepted {
        VCPUOP_INITIALISE: takes(abi::VcpuHvmContext) by anyone => initialise, full;
        VCPUOP_UP: plain by anyone => up, full;
        VCPUOP_DOWN: plain by anyone => down, full;
        VCPUOP_IS_UP: plain by anyone => is_up, full;
        VCPUOP_GET_RUNSTATE_INFO: gives([u8; RUNSTATE_SIZE]) by anyone => runstate, full;
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: takes(u64) by anyone => register_runstate, full;
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: takes(u64) by anyone => register_time, full;
        VCPUOP_REGISTER_VCPU_INFO: takes(abi::VcpuRegisterVcpuInfo) by anyone => register_info, full;
        VCPUOP_SET_PERIODIC_TIMER: takes(abi::VcpuSetPeriodicTimer) by anyone => set_periodic, full;
        VCPUOP_STOP_PERIODIC_TIMER: plain by anyone => stop_periodic, full;
        VCPUOP_SET_SINGLESHOT_TIMER: takes(abi::VcpuSetSingleshotTimer) by anyone => set_singleshot,
            full;
        VCPUOP_STOP_SINGLESHOT_TIMER: plain by anyone => stop_singleshot, full;
        VCPUOP_SEND_NMI: plain by anyone => send_nmi, full;
    }
    refused {
        VCPUOP_GET_PHYSID: Inval;
    }
    else Err(Errno::NoSys.into());
}

/// A vcpu is started by INIT and SIPI, or by this with a context and [`up`].
fn initialise(_call: &Call<'_>, vcpu: &Vcpu, context: &abi::VcpuHvmContext) -> Result<()> {
    if vcpu.is_initialised() {
        return Err(Errno::Exist);
    }
    vcpu.arch.load_start_context(bytemuck::bytes_of(context))?;
    vcpu.set_initialised(true);
    Ok(())
}

fn up(_call: &Call<'_>, vcpu: &Arc<Vcpu>) -> Result<()> {
    if !vcpu.is_initialised() {
        return Err(Errno::Inval);
    }
    vcpu.release(Hold::Down);
    Ok(())
}

fn down(_call: &Call<'_>, vcpu: &Vcpu) {
    vcpu.hold(Hold::Down);
    vcpu.domain.end_if_all_are_down();
}

fn is_up(_call: &Call<'_>, vcpu: &Vcpu) -> u64 {
    u64::from(!vcpu.is_held(Hold::Down))
}

fn runstate(call: &Call<'_>, vcpu: &Vcpu, info: &mut [u8; RUNSTATE_SIZE]) {
    *info = vcpu.runstate_info(call.machine().now());
}

fn register_runstate(call: &Call<'_>, vcpu: &Vcpu, at: &u64) -> Result<()> {
    let area = registered(call, *at, RUNSTATE_SIZE)?;
    vcpu.set_runstate_area(area);
    Ok(())
}

fn register_time(call: &Call<'_>, vcpu: &Vcpu, at: &u64) -> Result<()> {
    let area = registered(call, *at, TIME_INFO_SIZE)?;
    vcpu.set_time_area(area);
    Ok(())
}

/// The area at a linear address of the guest's; 0 withdraws the one that is registered.
fn registered(call: &Call<'_>, at: u64, len: usize) -> Result<Option<SharedArea>> {
    if at == 0 {
        return Ok(None);
    }
    call.area(at, len).map(Some)
}

/// Moves a vcpu's vcpu_info into a page of the guest's: once, for a vcpu that does not run yet or
/// for the caller itself.
fn register_info(call: &Call<'_>, vcpu: &Vcpu, ask: &abi::VcpuRegisterVcpuInfo) -> Result<()> {
    let offset = ask.offset as usize;
    if offset > PAGE_SIZE - info::SIZE || !offset.is_multiple_of(8) {
        return Err(Errno::Inval);
    }
    if vcpu.id != call.vcpu.id && !vcpu.is_held(Hold::Down) {
        return Err(Errno::Inval);
    }
    let page = call
        .domain()
        .memory
        .page(Gfn::new(ask.mfn), true)
        .map_err(|_| Errno::Inval)?;
    vcpu.move_info(page, offset)?;
    // Events may have arrived for the old place meanwhile: have the guest look at all of them.
    crate::evtchn::mark_all_pending(vcpu);
    Ok(())
}

fn set_periodic(_call: &Call<'_>, vcpu: &Arc<Vcpu>, set: &abi::VcpuSetPeriodicTimer) -> Result<()> {
    if set.period_ns < SHORTEST_PERIOD || set.period_ns > i64::MAX as u64 {
        return Err(Errno::Inval);
    }
    vcpu.set_period(set.period_ns);
    Ok(())
}

fn stop_periodic(_call: &Call<'_>, vcpu: &Arc<Vcpu>) {
    vcpu.set_period(0);
}

fn set_singleshot(
    call: &Call<'_>,
    vcpu: &Arc<Vcpu>,
    set: &abi::VcpuSetSingleshotTimer,
) -> Result<()> {
    let past = set.timeout_abs_ns < call.machine().now();
    if set.flags & abi::VCPU_SSHOTTMR_FUTURE != 0 && past {
        return Err(Errno::Time);
    }
    vcpu.arm_timer_here(TimerKind::SingleShot, set.timeout_abs_ns);
    Ok(())
}

fn stop_singleshot(_call: &Call<'_>, vcpu: &Arc<Vcpu>) {
    vcpu.cancel_timer(TimerKind::SingleShot);
}

fn send_nmi(_call: &Call<'_>, vcpu: &Arc<Vcpu>) {
    vcpu.arch.post_nmi();
    vcpu.kick();
}

/// set_timer_op: a one-shot VIRQ_TIMER at an absolute system time; 0 switches it off.
pub fn set_timer_op(call: &mut Call<'_>) -> Answer {
    match call.args[0] {
        0 => call.vcpu.cancel_timer(TimerKind::SingleShot),
        deadline => call.vcpu.arm_timer_here(TimerKind::SingleShot, deadline),
    }
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
