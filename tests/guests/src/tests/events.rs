//! Event channels: every port that can be had, storms of sends, closing what is in use, wrong
//! numbers, and the FIFO ABI's words changed by a second CPU while the hypervisor works with them.

use core::sync::atomic::{AtomicBool, Ordering};

use guest_pv_abi as abi;

use super::Setting;
use crate::base::clock::Deadline;
use crate::base::random::Random;
use crate::base::{console, hypercall, smp};

/// The FIFO ABI's control block and array pages: RAM above the kernel.
const CONTROL: u64 = 0x0040_0000;
const ARRAY: u64 = 0x0041_0000;
const ARRAY_PAGES: u64 = 8;

static STOP: AtomicBool = AtomicBool::new(false);

pub fn abuse(cx: &mut Setting) {
    let ports = exhaust();
    println!("ports={ports}");
    storm(cx);
    println!("PASS {}", cx.name);
}

pub fn fifo(cx: &mut Setting) {
    fifo_setup();
    // One vcpu is enough to corrupt words between calls; with two it also happens during them.
    let second = smp::start(1, corrupt).is_ok();
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut random = Random::new(cx.random.next());
    let mut sends = 0u64;
    while !deadline.is_over() {
        let port = alloc_self();
        for _ in 0..32 {
            sends += u64::from(hypercall::send(random.below(64) as u32) == 0);
            random_operation(&mut random);
            if !second {
                corrupt_once(&mut random);
            }
        }
        if port > 0 {
            close(port as u32);
        }
    }
    STOP.store(true, Ordering::SeqCst);
    smp::join();
    println!("PASS {} second={second} sends={sends}", cx.name);
}

/// Allocates until the hypervisor says no, then gives all back.
fn exhaust() -> u32 {
    let first = alloc_self();
    assert!(first > 0, "not one port: {first}");
    let mut last = first;
    let mut count = 1;
    let refusal = loop {
        match alloc_self() {
            port if port > 0 => {
                last = port;
                count += 1;
                assert!(count < 200_000, "no limit of ports");
            }
            error => break error,
        }
    };
    assert!(refusal == -28, "ENOSPC was due, not {refusal}");
    for port in first..=last {
        close(port as u32);
    }
    assert!(alloc_self() > 0, "nothing to be had after closing all");
    count
}

fn storm(cx: &mut Setting) {
    let deadline = Deadline::after_seconds(cx.seconds);
    let mut random = Random::new(cx.random.next());
    let (mut sends, mut refused) = (0u64, 0u64);
    while !deadline.is_over() {
        for _ in 0..64 {
            let port = random.below(300) as u32;
            if hypercall::send(port) == 0 {
                sends += 1;
            } else {
                refused += 1;
            }
            random_operation(&mut random);
        }
    }
    println!("sends={sends} refused={refused}");
}

fn fifo_setup() {
    for vcpu in 0..2 {
        let mut control = abi::EvtchnInitControl {
            control_gfn: CONTROL >> 12,
            offset: vcpu * 0x80,
            vcpu,
            link_bits: 0,
            _pad: [0; 7],
        };
        let result = hypercall::event(abi::EVTCHNOP_INIT_CONTROL, &mut control);
        assert!(result == 0 || vcpu != 0, "init_control: {result}");
    }
    for page in 0..ARRAY_PAGES {
        let mut expand = abi::EvtchnExpandArray {
            array_gfn: (ARRAY >> 12) + page,
        };
        let result = hypercall::event(abi::EVTCHNOP_EXPAND_ARRAY, &mut expand);
        assert!(result == 0, "expand_array: {result}");
    }
}

fn corrupt(_: usize) {
    let mut random = Random::new(0x5eed);
    while !STOP.load(Ordering::SeqCst) {
        for _ in 0..256 {
            corrupt_once(&mut random);
        }
    }
}

fn corrupt_once(random: &mut Random) {
    let (at, value) = match random.below(8) {
        0 => (CONTROL + random.below(0x40) * 4, random.nasty()),
        // Words of ports in use, with links to others, in circles and beyond the array.
        1..=5 => (ARRAY + random.below(64) * 4, random.next()),
        6 => (ARRAY + random.below(64) * 4, 7 << 29 | random.below(64)),
        _ => (ARRAY + random.below(ARRAY_PAGES * 1024) * 4, random.next()),
    };
    // SAFETY: RAM that belongs to no Rust object.
    unsafe { (at as *mut u32).write_volatile(value as u32) };
}

/// Any operation but a reset, on any port but the console's.
fn random_operation(random: &mut Random) {
    let port = match random.below(16) {
        0 => random.nasty() as u32,
        _ => random.below(300) as u32,
    };
    if port == console::port() {
        return;
    }
    let vcpu = random.pick(&[0, 0, 1, 2, u32::MAX]);
    match random.below(9) {
        0 => {
            let mut bind = abi::EvtchnBindInterdomain {
                remote_dom: random.pick(&[abi::DOMID_SELF, 0, 1, 0x7ff1, 0xffff]),
                _pad: 0,
                remote_port: port,
                local_port: 0,
            };
            hypercall::event(abi::EVTCHNOP_BIND_INTERDOMAIN, &mut bind);
        }
        1 => {
            let mut bind = abi::EvtchnBindVirq {
                virq: random.below(30) as u32,
                vcpu,
                port: 0,
            };
            hypercall::event(abi::EVTCHNOP_BIND_VIRQ, &mut bind);
        }
        2 => {
            hypercall::event(
                abi::EVTCHNOP_BIND_IPI,
                &mut abi::EvtchnBindIpi { vcpu, port: 0 },
            );
        }
        3 => {
            hypercall::event(
                abi::EVTCHNOP_BIND_VCPU,
                &mut abi::EvtchnBindVcpu { port, vcpu },
            );
        }
        4 => {
            hypercall::event(abi::EVTCHNOP_UNMASK, &mut abi::EvtchnUnmask { port });
        }
        5 => {
            let priority = random.below(20) as u32;
            let mut set = abi::EvtchnSetPriority { port, priority };
            hypercall::event(abi::EVTCHNOP_SET_PRIORITY, &mut set);
        }
        6 => {
            // Of dom0's ports too: a guest may not ask.
            let mut status = abi::EvtchnStatus {
                dom: random.pick(&[abi::DOMID_SELF, 0]),
                _pad: 0,
                port,
                status: 0,
                vcpu: 0,
                u: [0; 8],
            };
            hypercall::event(abi::EVTCHNOP_STATUS, &mut status);
        }
        7 => {
            alloc_self();
        }
        _ => close(port),
    }
}

/// A port whose other end may be bound by this domain; or an error.
fn alloc_self() -> i64 {
    let mut alloc = abi::EvtchnAllocUnbound {
        dom: abi::DOMID_SELF,
        remote_dom: abi::DOMID_SELF,
        port: 0,
    };
    match hypercall::event(abi::EVTCHNOP_ALLOC_UNBOUND, &mut alloc) {
        0 => alloc.port.into(),
        error => error,
    }
}

fn close(port: u32) {
    if port != console::port() {
        hypercall::event(abi::EVTCHNOP_CLOSE, &mut abi::EvtchnClose { port });
    }
}
