//! Well-formed calls in any order, among dom0, two guests and what dom0 makes: the state behind
//! them gets as tangled as it can, and still all frames come back.

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{CpuId, DomainId, Gfn};
use proptest::prelude::*;

use crate::testing::{Guest, PAGE, USABLE, World, heap, pvh};

const EVENTS: u32 = abi::HYPERVISOR_EVENT_CHANNEL_OP;
const MEMORY: u32 = abi::HYPERVISOR_MEMORY_OP;
const VCPU: u32 = abi::HYPERVISOR_VCPU_OP;
/// Lists of gfns and the like.
const LIST: u64 = 20 * PAGE;

/// A call's ingredients: small numbers, so that calls meet each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    what: u8,
    caller: usize,
    a: u32,
    b: u32,
    c: u32,
}

impl Step {
    /// A domain that exists, existed, or may exist.
    fn domain(self) -> u16 {
        match self.a % 6 {
            5 => DomainId::SELF.0,
            id => id as u16,
        }
    }

    /// One of the three that there are at first.
    fn guest(self) -> u16 {
        (self.a % 3) as u16
    }

    fn gfn(self) -> u64 {
        // RAM, the arguments' own pages, and some places without RAM.
        u64::from(self.b % 40)
    }
}

pub(super) fn steps() -> impl Strategy<Value = std::vec::Vec<Step>> {
    let step =
        (0u8..40, 0usize..3, 0u32..12, 0u32..80, 0u32..12).prop_map(|(what, caller, a, b, c)| {
            Step {
                what,
                caller,
                a,
                b,
                c,
            }
        });
    prop::collection::vec(step, 1..300)
}

fn event(guests: &[Guest; 3], step: Step) {
    let guest = &guests[step.caller];
    let (port, vcpu) = (1 + step.c % 5, step.b % 3);
    if step.what == 2 {
        let remote = &guests[usize::from(step.guest())];
        // The port that it asks for is most often there.
        let _ = crate::evtchn::alloc_unbound(&remote.domain, guest.domain.id);
    }
    let _ = match step.what {
        0 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_ALLOC_UNBOUND,
            &abi::EvtchnAllocUnbound {
                dom: if step.c.is_multiple_of(4) {
                    step.domain()
                } else {
                    DomainId::SELF.0
                },
                remote_dom: step.guest(),
                port: 0,
            },
        ),
        1 | 2 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_BIND_INTERDOMAIN,
            &abi::EvtchnBindInterdomain {
                remote_dom: step.guest(),
                remote_port: port,
                ..Zeroable::zeroed()
            },
        ),
        3 => guest.try_op(EVENTS, abi::EVTCHNOP_CLOSE, &abi::EvtchnClose { port }),
        4 | 5 => guest.try_op(EVENTS, abi::EVTCHNOP_SEND, &abi::EvtchnSend { port }),
        6 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_BIND_VIRQ,
            &abi::EvtchnBindVirq {
                virq: step.a,
                vcpu,
                port: 0,
            },
        ),
        7 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_BIND_IPI,
            &abi::EvtchnBindIpi { vcpu, port: 0 },
        ),
        8 => guest.try_op(EVENTS, abi::EVTCHNOP_UNMASK, &abi::EvtchnUnmask { port }),
        9 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_BIND_VCPU,
            &abi::EvtchnBindVcpu { port, vcpu },
        ),
        10 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_INIT_CONTROL,
            &abi::EvtchnInitControl {
                control_gfn: step.gfn(),
                vcpu,
                ..Zeroable::zeroed()
            },
        ),
        11 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_EXPAND_ARRAY,
            &abi::EvtchnExpandArray {
                array_gfn: step.gfn(),
            },
        ),
        12 if step.c == 0 => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_RESET,
            &abi::EvtchnReset { dom: step.domain() },
        ),
        _ => guest.try_op(
            EVENTS,
            abi::EVTCHNOP_SET_PRIORITY,
            &abi::EvtchnSetPriority {
                port,
                priority: step.a,
            },
        ),
    };
}

fn memory(guest: &Guest, step: Step) {
    // The pages that arguments and lists lie in may be gone by now: then there is nothing to call
    // with.
    let own = DomainId::SELF.0;
    let _ = match step.what {
        13 | 14 => {
            let space = [
                abi::XENMAPSPACE_SHARED_INFO,
                abi::XENMAPSPACE_GRANT_TABLE,
                abi::XENMAPSPACE_GMFN,
                abi::XENMAPSPACE_GMFN_RANGE,
            ][step.c as usize % 4];
            guest.try_op(
                MEMORY,
                abi::XENMEM_ADD_TO_PHYSMAP,
                &abi::AddToPhysmap {
                    domid: own,
                    size: step.c as u16,
                    space,
                    idx: (step.a % 5).into(),
                    gpfn: step.gfn(),
                },
            )
        }
        15 => guest.try_op(
            MEMORY,
            abi::XENMEM_REMOVE_FROM_PHYSMAP,
            &abi::RemoveFromPhysmap {
                domid: own,
                gpfn: step.gfn(),
                ..Zeroable::zeroed()
            },
        ),
        16 | 17 => {
            guest.try_write(LIST, &[step.gfn(), step.gfn() + 1, (step.a + 200).into()]);
            let cmd = if step.what == 16 {
                abi::XENMEM_POPULATE_PHYSMAP
            } else {
                abi::XENMEM_DECREASE_RESERVATION
            };
            guest.try_op(
                MEMORY,
                cmd,
                &abi::MemoryReservation {
                    extent_start: LIST,
                    nr_extents: (step.c % 4).into(),
                    extent_order: step.c / 8,
                    domid: step.domain(),
                    ..Zeroable::zeroed()
                },
            )
        }
        18 | 19 => {
            guest.try_write(LIST, &[u64::from(step.a), u64::from(step.c)]);
            guest.try_write(LIST + 64, &[step.gfn(), step.gfn() + 100]);
            guest.try_op(
                MEMORY,
                abi::XENMEM_ADD_TO_PHYSMAP_BATCH,
                &abi::AddToPhysmapBatch {
                    domid: own,
                    space: abi::XENMAPSPACE_GMFN_FOREIGN as u16,
                    size: 2,
                    foreign_domid: (step.a % 5) as u16,
                    idxs: LIST,
                    gpfns: LIST + 64,
                    errs: LIST + 128,
                },
            )
        }
        _ => {
            guest.try_write(LIST, &[step.gfn(), step.gfn() + 50]);
            guest.try_op(
                MEMORY,
                abi::XENMEM_ACQUIRE_RESOURCE,
                &abi::AcquireResource {
                    domid: (step.a % 5) as u16,
                    kind: abi::XENMEM_RESOURCE_GRANT_TABLE as u16,
                    id: abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
                    nr_frames: 2,
                    frame: (step.c % 3).into(),
                    frame_list: LIST,
                    ..Zeroable::zeroed()
                },
            )
        }
    };
}

/// The granter fills in an entry of its own table.
fn set_entry(granter: &Guest, grant: u32, to: u16, gfn: u32) {
    if let Ok(frame) = granter.domain.grants.frame(&granter.domain, 0) {
        let entry = [1 | u32::from(to) << 16, gfn];
        frame.write(grant as usize * 8, bytemuck::bytes_of(&entry));
    }
}

fn grant(guests: &[Guest; 3], step: Step) {
    let guest = &guests[step.caller];
    let (grant, place) = (step.c % 4, 100 + u64::from(step.b % 3));
    match step.what {
        21 | 22 => {
            set_entry(guest, grant, step.guest(), step.b % 40);
        }
        23 | 24 => {
            if step.what == 24 {
                let granter = &guests[usize::from(step.guest())];
                set_entry(granter, grant, guest.id(), step.b % 40);
            }
            let op = abi::GnttabMapGrantRef {
                host_addr: place * PAGE,
                flags: abi::GNTMAP_HOST_MAP | ((step.b & 1) * abi::GNTMAP_READONLY),
                grant_ref: grant,
                dom: step.guest(),
                ..Zeroable::zeroed()
            };
            guest.try_grant_op(abi::GNTTABOP_MAP_GRANT_REF, &op);
        }
        25 => {
            let op = abi::GnttabUnmapGrantRef {
                host_addr: place * PAGE,
                handle: step.a % 3,
                ..Zeroable::zeroed()
            };
            guest.try_grant_op(abi::GNTTABOP_UNMAP_GRANT_REF, &op);
        }
        _ => {
            set_entry(
                &guests[usize::from(step.guest())],
                grant,
                guest.id(),
                step.b % 40,
            );
            let at = |u: u64, domid: u16| abi::GnttabCopyPtr {
                u,
                domid,
                ..Zeroable::zeroed()
            };
            let op = abi::GnttabCopy {
                source: at(grant.into(), step.guest()),
                dest: at(step.gfn(), DomainId::SELF.0),
                len: 64,
                flags: abi::GNTCOPY_SOURCE_GREF,
                ..Zeroable::zeroed()
            };
            guest.try_grant_op(abi::GNTTABOP_COPY, &op);
        }
    }
}

fn vcpu(guest: &Guest, step: Step) {
    let id = step.a % 3;
    match step.what {
        27 => {
            let place = abi::VcpuRegisterVcpuInfo {
                mfn: step.gfn(),
                offset: step.c * 64,
                rsvd: 0,
            };
            guest.try_vcpu_op(abi::VCPUOP_REGISTER_VCPU_INFO, id, &place);
        }
        28 => {
            let at = step.gfn() * PAGE + u64::from(step.c) * 372;
            let cmd = [
                abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
                abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
            ][step.c as usize % 2];
            guest.try_vcpu_op(cmd, id, &at);
        }
        29 => {
            let set = abi::VcpuSetSingleshotTimer {
                timeout_abs_ns: step.b.into(),
                flags: 0,
                _pad: 0,
            };
            guest.try_vcpu_op(abi::VCPUOP_SET_SINGLESHOT_TIMER, id, &set);
        }
        30 => {
            let cmd = [
                abi::VCPUOP_UP,
                abi::VCPUOP_DOWN,
                abi::VCPUOP_STOP_PERIODIC_TIMER,
            ];
            guest.call(VCPU, &[cmd[step.c as usize % 3].into(), id.into(), 0]);
        }
        _ => {
            let poll = abi::SchedPoll {
                timeout: step.b.into(),
                ..Zeroable::zeroed()
            };
            guest.try_op(abi::HYPERVISOR_SCHED_OP, abi::SCHEDOP_POLL, &poll);
        }
    }
}

fn toolset(dom0: &Guest, step: Step) {
    let id = (step.a % 6) as u16;
    let envelope = match step.what {
        32 => abi::Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, id, &pvh(1 + step.c % 3)),
        33 if step.c < 4 => abi::Domctl::new(abi::XEN_DOMCTL_DESTROYDOMAIN, id),
        34 => abi::Domctl::with(abi::XEN_DOMCTL_MAX_MEM, id, &u64::from(step.b * 16)),
        35 => abi::Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, id),
        36 => abi::Domctl::new(abi::XEN_DOMCTL_UNPAUSEDOMAIN, id),
        37 => abi::Domctl::with(abi::XEN_DOMCTL_SUBSCRIBE, id, &step.c),
        38 => abi::Domctl::new(abi::XEN_DOMCTL_GETHVMCONTEXT, id),
        _ => abi::Domctl::new(abi::XEN_DOMCTL_RESUMEDOMAIN, id),
    };
    dom0.try_write(2 * PAGE, &envelope);
    dom0.call(abi::HYPERVISOR_DOMCTL, &[2 * PAGE]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn all_frames_come_back(steps in steps()) {
        all_frames_come_back_after(steps);
    }
}

/// Makes the calls, destroys all domains, and looks whether everything came back.
pub(super) fn all_frames_come_back_after(steps: std::vec::Vec<Step>) {
    heap::fail_sometimes(steps.len() as u64);
    let (world, dom0) = World::new();
    let guests = [dom0, world.guest(1, 2), world.guest(2, 1)];
    for step in steps {
        let guest = &guests[step.caller];
        if step.what >= 32 {
            toolset(&guests[0], step);
        } else if guest.domain.vcpu(0).is_none() {
            // Destroyed: it calls no more.
        } else if step.what < 13 {
            event(&guests, step);
        } else if step.what < 21 {
            memory(guest, step);
        } else if step.what < 27 {
            grant(&guests, step);
        } else {
            vcpu(guest, step);
        }
        for cpu in [CpuId(0), CpuId(1)] {
            while world.machine.pop_due_timer(cpu, 40).is_some() {}
        }
    }
    let mut all: std::vec::Vec<_> = world.machine.all_domains().collect();
    for guest in guests {
        if !all.iter().any(|domain| domain.id == guest.domain.id) {
            all.push(guest.domain);
        }
    }
    for domain in all.iter().rev() {
        world.destroy(domain);
    }
    for domain in &all {
        assert_eq!(domain.grants.usage(), (0, 0));
        assert_eq!(domain.events.usage().0, 0);
        assert!(domain.memory.lookup(Gfn::new(0)).is_none());
        assert_eq!(domain.heap.used(), 0);
    }
    drop(all);
    assert_eq!(world.free_frames(), USABLE);
}
