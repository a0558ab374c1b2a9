//! Hypercalls: one table that binds number, name, handler and who may call; one dispatcher.

use guest_pv_abi as abi;
use oxen_types::Errno;

use crate::control::{domctl, physdev, platform, sysctl};
use crate::evtchn::ops as evtchn;
use crate::grant::ops as grant;
use crate::hypercall::{Answer, Call, Outcome, Stop};
use crate::hypercall::{console, hvm, memory, multicall, sched, vcpu, version};

/// One hypercall: the only place that says it exists.
pub struct Entry {
    /// The number of the ABI.
    pub number: u32,
    /// The ABI's name, for logs.
    pub name: &'static str,
    /// The function that runs its operations.
    pub handler: fn(&mut Call<'_>) -> Answer,
    /// Argument registers that it has. It may change these, and no others
    /// (public/arch-x86/xen-x86_64.h).
    pub arguments: usize,
    /// Only a privileged domain may call it at all; others get -EPERM.
    pub privileged: bool,
}

const fn entry(
    number: u32,
    name: &'static str,
    arguments: usize,
    handler: fn(&mut Call<'_>) -> Answer,
) -> Entry {
    Entry {
        number,
        name,
        handler,
        arguments,
        privileged: false,
    }
}

const fn privileged(
    number: u32,
    name: &'static str,
    arguments: usize,
    handler: fn(&mut Call<'_>) -> Answer,
) -> Entry {
    Entry {
        privileged: true,
        ..entry(number, name, arguments, handler)
    }
}

/// Every hypercall that exists here; any other number is -ENOSYS.
pub static TABLE: &[Entry] = &[
    privileged(
        abi::HYPERVISOR_PLATFORM_OP,
        "platform_op",
        1,
        platform::call,
    ),
    entry(abi::HYPERVISOR_MEMORY_OP, "memory_op", 2, memory::call),
    entry(abi::HYPERVISOR_MULTICALL, "multicall", 2, multicall::call),
    entry(
        abi::HYPERVISOR_SET_TIMER_OP,
        "set_timer_op",
        1,
        vcpu::set_timer_op,
    ),
    entry(abi::HYPERVISOR_XEN_VERSION, "xen_version", 2, version::call),
    privileged(abi::HYPERVISOR_CONSOLE_IO, "console_io", 3, console::call),
    entry(
        abi::HYPERVISOR_GRANT_TABLE_OP,
        "grant_table_op",
        3,
        grant::call,
    ),
    entry(abi::HYPERVISOR_VM_ASSIST, "vm_assist", 2, vcpu::vm_assist),
    entry(abi::HYPERVISOR_VCPU_OP, "vcpu_op", 3, vcpu::call),
    entry(abi::HYPERVISOR_SCHED_OP, "sched_op", 2, sched::call),
    entry(
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        "event_channel_op",
        2,
        evtchn::call,
    ),
    entry(abi::HYPERVISOR_PHYSDEV_OP, "physdev_op", 2, physdev::call),
    entry(abi::HYPERVISOR_HVM_OP, "hvm_op", 2, hvm::call),
    privileged(abi::HYPERVISOR_SYSCTL, "sysctl", 1, sysctl::call),
    privileged(abi::HYPERVISOR_DOMCTL, "domctl", 1, domctl::call),
];

/// Numbers from here on are never a hypercall.
const NUMBERS: usize = 64;

/// The table by number, so that a call costs one look.
static BY_NUMBER: [Option<&'static Entry>; NUMBERS] = by_number();

const fn by_number() -> [Option<&'static Entry>; NUMBERS] {
    let mut table: [Option<&'static Entry>; NUMBERS] = [None; NUMBERS];
    let mut i = 0;
    while i < TABLE.len() {
        table[TABLE[i].number as usize] = Some(&TABLE[i]);
        i += 1;
    }
    table
}

/// Runs one hypercall. The caller has checked that the guest's kernel made it.
pub fn dispatch(number: u64, call: &mut Call<'_>) -> Outcome {
    call.enter();
    #[cfg(test)]
    let answer =
        |number, call: &mut Call<'_>| crate::testing::heap::in_core(|| answer(number, call));
    let answer = answer(number, call);
    if call.machine().frames.take_emptied() {
        call.machine().reap();
    }
    match answer {
        Ok(value) => Outcome::Done(value),
        Err(Stop::Err(errno)) => Outcome::Done(errno.to_abi() as u64),
        Err(Stop::Again) => Outcome::Again,
    }
}

pub(crate) fn answer(number: u64, call: &mut Call<'_>) -> Answer {
    let entry = usize::try_from(number)
        .ok()
        .and_then(|n| BY_NUMBER.get(n).copied().flatten());
    let Some(entry) = entry else {
        return Err(Errno::NoSys.into());
    };
    if entry.privileged {
        call.privileged()?;
    }
    let given = call.args;
    let answer = (entry.handler)(call);
    if let (Some(others), Some(given)) = (
        call.args.get_mut(entry.arguments..),
        given.get(entry.arguments..),
    ) {
        others.copy_from_slice(given);
    }
    answer
}

/// The declarations of a hypercall, for the tests; none for one that has no operations.
///
/// # Panics
/// If nothing is known of the hypercall: it has to be added here.
#[cfg(test)]
pub(crate) fn declarations(
    number: u32,
) -> &'static [&'static [crate::hypercall::op::declared::Declaration]] {
    match number {
        abi::HYPERVISOR_PLATFORM_OP => &[platform::OPERATIONS],
        abi::HYPERVISOR_MEMORY_OP => &[memory::OPERATIONS],
        abi::HYPERVISOR_XEN_VERSION => &[version::OPERATIONS],
        abi::HYPERVISOR_CONSOLE_IO => &[console::OPERATIONS],
        abi::HYPERVISOR_GRANT_TABLE_OP => &[grant::OPERATIONS],
        abi::HYPERVISOR_VCPU_OP => &[vcpu::OPERATIONS],
        abi::HYPERVISOR_SCHED_OP => &[sched::OPERATIONS],
        abi::HYPERVISOR_EVENT_CHANNEL_OP => &[evtchn::OPERATIONS],
        abi::HYPERVISOR_PHYSDEV_OP => &[physdev::OPERATIONS],
        abi::HYPERVISOR_HVM_OP => &[hvm::OPERATIONS],
        abi::HYPERVISOR_SYSCTL => &[sysctl::OPERATIONS],
        abi::HYPERVISOR_DOMCTL => &[domctl::OPERATIONS, domctl::ON_DOMAIN],
        abi::HYPERVISOR_MULTICALL | abi::HYPERVISOR_SET_TIMER_OP | abi::HYPERVISOR_VM_ASSIST => &[],
        _ => panic!("hypercall {number} is not known here"),
    }
}
