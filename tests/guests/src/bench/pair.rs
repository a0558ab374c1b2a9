//! Two guests: `pong` is created first, `ping`, which measures, right after it, so that their
//! numbers follow one another.

use guest_pv_abi as abi;

use super::calls::clear;
use super::measure;
use super::memory::{copy_page, grant, map_and_unmap, own_domain};
use crate::base::{clock, hypercall};
use crate::tests::Setting;

/// Ports that the other end may have got, as the first that it asked for.
const PORTS: core::ops::Range<u32> = 1..32;
const PATIENCE_MS: u64 = 20_000;

/// Answers every event, for ever.
pub fn pong(cx: &mut Setting) {
    let ping = own_domain() + 1;
    grant(ping);
    let mut alloc = abi::EvtchnAllocUnbound {
        dom: abi::DOMID_SELF,
        remote_dom: ping,
        port: 0,
    };
    let result = hypercall::event(abi::EVTCHNOP_ALLOC_UNBOUND, &mut alloc);
    assert!(result == 0, "alloc_unbound: {result}");
    println!("READY {} port={}", cx.name, alloc.port);
    loop {
        wait(alloc.port);
        hypercall::send(alloc.port);
    }
}

/// Measures what takes two.
pub fn ping(cx: &mut Setting) {
    super::prepare(cx);
    let pong = own_domain() - 1;
    let port = bind(pong);
    // The other end is told of the binding; the answer to that comes first.
    wait(port);
    let wanted = |name| cx.only.is_none_or(|only| only == name);
    if wanted("event-ping-pong") {
        measure("event-ping-pong", 64, || {
            hypercall::send(port);
            wait(port);
        });
    }
    if wanted("grant-map-unmap") {
        measure("grant-map-unmap", 64, || map_and_unmap(pong));
    }
    if wanted("grant-copy") {
        measure("grant-copy", 64, || copy_page(pong));
    }
    println!("PASS {}", cx.name);
}

/// Sleeps until the port has an event, and takes it.
fn wait(port: u32) {
    hypercall::poll(&[port], 0);
    clear(port);
}

fn bind(domain: u16) -> u32 {
    for _ in 0..PATIENCE_MS / 10 {
        for remote_port in PORTS {
            let mut bind = abi::EvtchnBindInterdomain {
                remote_dom: domain,
                _pad: 0,
                remote_port,
                local_port: 0,
            };
            if hypercall::event(abi::EVTCHNOP_BIND_INTERDOMAIN, &mut bind) == 0 {
                return bind.local_port;
            }
        }
        clock::sleep_ms(10);
    }
    panic!("domain {domain} has no port for us");
}
