//! The declarations of operations as data, for the tests and for docs/hypercalls.md.

/// How far an operation goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// As in Xen 4.17 for PVH domains.
    Full,
    /// With the difference that the note names.
    Part,
    /// Answered with success, as nothing is to do.
    Taken,
    /// Refused.
    No,
}

/// One operation of a hypercall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declaration {
    pub number: u64,
    /// The number's name in the ABI crate.
    pub name: &'static str,
    /// The form of the argument, as `mod.rs` describes it.
    pub form: &'static str,
    /// The argument's type; empty if there is none.
    pub argument: &'static str,
    pub size: usize,
    pub who: &'static str,
    pub status: Status,
    pub note: &'static str,
}

impl Declaration {
    pub(crate) const fn refused(
        number: u64,
        name: &'static str,
        errno: &'static str,
        note: &'static str,
    ) -> Self {
        Self {
            number,
            name,
            form: errno,
            argument: "",
            size: 0,
            who: "",
            status: Status::No,
            note,
        }
    }
}

macro_rules! status {
    (full) => {
        $crate::hypercall::op::declared::Status::Full
    };
    (part) => {
        $crate::hypercall::op::declared::Status::Part
    };
    (taken) => {
        $crate::hypercall::op::declared::Status::Taken
    };
}

macro_rules! declaration {
    ($number:ident, $form:ident $(($type:ty))?, $who:ident, $status:ident $(($note:literal))?) => {
        $crate::hypercall::op::declared::Declaration {
            number: guest_pv_abi::$number as u64,
            name: stringify!($number),
            form: stringify!($form),
            argument: concat!($(stringify!($type))?),
            size: 0 $(+ size_of::<$type>())?,
            who: stringify!($who),
            status: $crate::hypercall::op::declared::status!($status),
            note: concat!($($note)?),
        }
    };
}

pub(crate) use {declaration, status};

/// The declarations of a hypercall; none for one that has no operations.
///
/// # Panics
/// If nothing is known of the hypercall: it has to be added here.
pub(crate) fn of(number: u32) -> &'static [&'static [Declaration]] {
    use crate::control::{domctl, physdev, platform, sysctl};
    use crate::hypercall::{console, hvm, memory, sched, vcpu, version};
    use guest_pv_abi as abi;
    match number {
        abi::HYPERVISOR_PLATFORM_OP => &[platform::OPERATIONS],
        abi::HYPERVISOR_MEMORY_OP => &[memory::OPERATIONS],
        abi::HYPERVISOR_XEN_VERSION => &[version::OPERATIONS],
        abi::HYPERVISOR_CONSOLE_IO => &[console::OPERATIONS],
        abi::HYPERVISOR_GRANT_TABLE_OP => &[crate::grant::OPERATIONS],
        abi::HYPERVISOR_VCPU_OP => &[vcpu::OPERATIONS],
        abi::HYPERVISOR_SCHED_OP => &[sched::OPERATIONS],
        abi::HYPERVISOR_EVENT_CHANNEL_OP => &[crate::evtchn::OPERATIONS],
        abi::HYPERVISOR_PHYSDEV_OP => &[physdev::OPERATIONS],
        abi::HYPERVISOR_HVM_OP => &[hvm::OPERATIONS],
        abi::HYPERVISOR_SYSCTL => &[sysctl::OPERATIONS],
        abi::HYPERVISOR_DOMCTL => &[domctl::OPERATIONS, domctl::ON_DOMAIN],
        abi::HYPERVISOR_MULTICALL | abi::HYPERVISOR_SET_TIMER_OP | abi::HYPERVISOR_VM_ASSIST => &[],
        _ => panic!("hypercall {number} is not known here"),
    }
}
