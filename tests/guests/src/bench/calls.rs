//! Hypercalls without a second party.

use guest_pv_abi as abi;

use super::{Bench, measure};
use crate::base::{clock, hypercall};

pub const BENCHES: &[Bench] = &[
    ("hypercall", null),
    ("multicall-entry", multicall),
    ("event-send", send),
    ("set-timer", set_timer),
    ("yield", give_way),
];

/// xen_version: the way in and out, and the dispatcher.
fn null(name: &str) {
    let number = abi::HYPERVISOR_XEN_VERSION.into();
    measure(name, 256, || {
        hypercall::raw(number, [abi::XENVER_VERSION.into(), 0, 0, 0, 0]);
    });
}

/// One of 64 entries of a multicall.
fn multicall(name: &str) {
    const ENTRIES: u64 = 64;
    let entry = abi::MulticallEntry {
        op: abi::HYPERVISOR_XEN_VERSION.into(),
        result: 0,
        args: [abi::XENVER_VERSION.into(), 0, 0, 0, 0, 0],
    };
    let mut list = [entry; ENTRIES as usize];
    let at = list.as_mut_ptr() as u64;
    super::sample(name, ENTRIES, || {
        let began = super::now();
        let result = hypercall::raw(abi::HYPERVISOR_MULTICALL.into(), [at, ENTRIES, 0, 0, 0]);
        let ticks = super::now() - began;
        assert!(result == 0, "multicall: {result}");
        ticks
    });
}

/// EVTCHNOP_send to a port of one's own that is not pending: the event is marked, nobody is woken.
fn send(name: &str) {
    let port = loopback();
    measure(name, 256, || {
        hypercall::send(port);
        clear(port);
    });
}

/// VCPUOP_set_singleshot_timer, an hour ahead.
fn set_timer(name: &str) {
    let mut set = abi::VcpuSetSingleshotTimer {
        timeout_abs_ns: clock::now() + 3_600_000_000_000,
        flags: 0,
        _pad: 0,
    };
    measure(name, 128, || {
        set.timeout_abs_ns += 1000;
        hypercall::vcpu(abi::VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set);
    });
    hypercall::vcpu(abi::VCPUOP_STOP_SINGLESHOT_TIMER, 0, &mut 0u64);
}

/// SCHEDOP_yield with nobody to yield to: the scheduler's way around.
fn give_way(name: &str) {
    measure(name, 128, hypercall::yield_now);
}

/// A port whose other end is another port of this domain.
pub fn loopback() -> u32 {
    let mut alloc = abi::EvtchnAllocUnbound {
        dom: abi::DOMID_SELF,
        remote_dom: abi::DOMID_SELF,
        port: 0,
    };
    let result = hypercall::event(abi::EVTCHNOP_ALLOC_UNBOUND, &mut alloc);
    assert!(result == 0, "alloc_unbound: {result}");
    let mut bind = abi::EvtchnBindInterdomain {
        remote_dom: abi::DOMID_SELF,
        _pad: 0,
        remote_port: alloc.port,
        local_port: 0,
    };
    let result = hypercall::event(abi::EVTCHNOP_BIND_INTERDOMAIN, &mut bind);
    assert!(result == 0, "bind_interdomain: {result}");
    clear(bind.local_port);
    clear(alloc.port);
    bind.local_port
}

/// Takes all that is pending in the port's word, and the upcall: the next event finds nothing set.
/// Both ends of a loopback lie in it.
pub fn clear(port: u32) {
    let shared = clock::shared();
    // SAFETY: the page is mapped; nobody else of this guest runs meanwhile.
    unsafe {
        let word = (port as usize / 64) % 64;
        (&raw mut (*shared).evtchn_pending[word]).write_volatile(0);
        let info = &raw mut (*shared).vcpu_info[0];
        (&raw mut (*info).evtchn_pending_sel).write_volatile(0);
        (&raw mut (*info).evtchn_upcall_pending).write_volatile(0);
    }
}
