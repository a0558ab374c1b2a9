//! Hypercalls: VMMCALL on AMD's CPUs, VMCALL on others, as CPUID names the vendor.

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, Ordering};

use bytemuck::Pod;
use guest_pv_abi as abi;

static INTEL: AtomicBool = AtomicBool::new(false);

pub fn prepare() {
    // "GenuineIntel" in EBX, EDX, ECX.
    INTEL.store(__cpuid(0).ebx == 0x756e_6547, Ordering::Relaxed);
}

/// Any number, any arguments.
pub fn raw(number: u64, arguments: [u64; 5]) -> i64 {
    let [a, b, c, d, e] = arguments;
    let result: u64;
    if INTEL.load(Ordering::Relaxed) {
        // SAFETY: what the call does to this guest's memory is what the caller is after.
        unsafe {
            asm!("vmcall", inlateout("rax") number => result, inlateout("rdi") a => _, inlateout("rsi") b => _,
                 inlateout("rdx") c => _, inlateout("r10") d => _, inlateout("r8") e => _);
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("vmmcall", inlateout("rax") number => result, inlateout("rdi") a => _, inlateout("rsi") b => _,
                 inlateout("rdx") c => _, inlateout("r10") d => _, inlateout("r8") e => _);
        }
    }
    result as i64
}

/// A call with a command and a structure, which the hypervisor may change.
pub fn with<T: Pod>(number: u32, command: u32, argument: &mut T) -> i64 {
    let at = core::ptr::from_mut(argument) as u64;
    raw(number.into(), [command.into(), at, 0, 0, 0])
}

pub fn event<T: Pod>(command: u32, argument: &mut T) -> i64 {
    with(abi::HYPERVISOR_EVENT_CHANNEL_OP, command, argument)
}

pub fn memory<T: Pod>(command: u32, argument: &mut T) -> i64 {
    with(abi::HYPERVISOR_MEMORY_OP, command, argument)
}

/// grant_table_op takes a count too.
pub fn grant<T: Pod>(command: u32, arguments: &mut [T]) -> i64 {
    let at = arguments.as_mut_ptr() as u64;
    let number = abi::HYPERVISOR_GRANT_TABLE_OP.into();
    raw(number, [command.into(), at, arguments.len() as u64, 0, 0])
}

pub fn vcpu<T>(command: u32, vcpu: u32, argument: &mut T) -> i64 {
    let at = core::ptr::from_mut(argument) as u64;
    let number = abi::HYPERVISOR_VCPU_OP.into();
    raw(number, [command.into(), vcpu.into(), at, 0, 0])
}

pub fn yield_now() {
    raw(
        abi::HYPERVISOR_SCHED_OP.into(),
        [abi::SCHEDOP_YIELD.into(), 0, 0, 0, 0],
    );
}

pub fn send(port: u32) -> i64 {
    event(abi::EVTCHNOP_SEND, &mut abi::EvtchnSend { port })
}

pub fn hvm_param(index: u32) -> u64 {
    let mut param = abi::HvmParam {
        domid: abi::DOMID_SELF,
        pad: 0,
        index,
        value: 0,
    };
    with(abi::HYPERVISOR_HVM_OP, abi::HVMOP_GET_PARAM, &mut param);
    param.value
}

/// Sleeps until a moment of the system time, or an event of one of the ports.
pub fn poll(ports: &[u32], until: u64) {
    let mut poll = abi::SchedPoll {
        ports: ports.as_ptr() as u64,
        nr_ports: ports.len() as u32,
        _pad: 0,
        timeout: until,
    };
    with(abi::HYPERVISOR_SCHED_OP, abi::SCHEDOP_POLL, &mut poll);
}

/// Asks for a shutdown; it may return (after a suspension, or when it is not done).
pub fn request_shutdown(reason: u32) -> i64 {
    let mut shutdown = abi::SchedShutdown { reason };
    with(
        abi::HYPERVISOR_SCHED_OP,
        abi::SCHEDOP_SHUTDOWN,
        &mut shutdown,
    )
}

pub fn shutdown(reason: u32) -> ! {
    loop {
        request_shutdown(reason);
        yield_now();
    }
}
