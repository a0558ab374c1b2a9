//! domctl as the toolset calls it, and as it must not.

mod paging;
mod records;
mod settings;
mod zombies;

use core::sync::atomic::Ordering;
use std::vec;
use std::vec::Vec;

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, DomainId, Errno, Gfn};

use crate::testing::{Guest, PAGE, World, errno, pvh};
use crate::vcpu::Hold;

/// Room for lists, away from the envelope.
const LIST: u64 = 20 * PAGE;

fn create(dom0: &Guest, wish: u16, ask: &abi::DomctlCreateDomain) -> Result<u16, i64> {
    let mut op = abi::Domctl::with(abi::XEN_DOMCTL_CREATEDOMAIN, wish, ask);
    match dom0.envelope(abi::HYPERVISOR_DOMCTL, &mut op) {
        0 => Ok(op.domain),
        error => Err(error),
    }
}

fn info(dom0: &Guest, id: u16) -> Result<abi::DomctlGetDomainInfo, i64> {
    let mut op = abi::Domctl::new(abi::XEN_DOMCTL_GETDOMAININFO, id);
    match dom0.envelope(abi::HYPERVISOR_DOMCTL, &mut op) {
        0 => Ok(op.u.view()),
        error => Err(error),
    }
}

fn zeroed<T: bytemuck::Zeroable>() -> T {
    T::zeroed()
}

fn simple(dom0: &Guest, cmd: u32, id: u16) -> i64 {
    dom0.domctl(cmd, id, &mut 0u64)
}

#[test]
fn a_domain_is_made_described_and_destroyed_without_a_trace() {
    let (world, dom0) = World::new();
    let free = world.free_frames();
    let id = create(&dom0, 0, &pvh(3)).expect("a domain");
    assert_eq!(id, 1);
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_MAX_VCPUS, id, &mut 3u32), 0);
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_MAX_VCPUS, id, &mut 2u32),
        errno(Errno::Inval)
    );
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_MAX_MEM, id, &mut 400u64), 0);
    let domain = world.machine.domain(DomainId(id)).expect("listed");
    for gfn in 0..100 {
        domain.memory.populate(Gfn::new(gfn), 0).expect("RAM");
    }
    assert!(domain.memory.populate(Gfn::new(100), 0).is_err(), "400 KiB");
    let seen = info(&dom0, id).expect("info");
    assert_eq!(
        (seen.domain, seen.tot_pages, seen.max_pages),
        (id, 100, 100)
    );
    assert_eq!((seen.max_vcpu_id, seen.nr_online_vcpus), (2, 0));
    assert_eq!((seen.handle, seen.cpupool), ([3; 16], 0));
    let born = abi::XEN_DOMINF_HVM_GUEST | abi::XEN_DOMINF_HAP | abi::XEN_DOMINF_PAUSED;
    assert_eq!(seen.flags, born);
    drop(domain);
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_DESTROYDOMAIN, id), 0);
    assert_eq!(info(&dom0, id), Err(errno(Errno::Srch)));
    assert_eq!(world.frames.owned_by(DomainId(id)), 0);
    assert_eq!(world.free_frames(), free);
}

#[test]
fn wishes_that_cannot_be_met() {
    let (world, dom0) = World::new();
    let free = world.free_frames();
    let good = pvh(1);
    let bad: Vec<abi::DomctlCreateDomain> = vec![
        abi::DomctlCreateDomain { flags: 0, ..good },
        abi::DomctlCreateDomain {
            flags: good.flags | abi::XEN_DOMCTL_CDF_IOMMU,
            ..good
        },
        abi::DomctlCreateDomain {
            flags: u32::MAX,
            ..good
        },
        abi::DomctlCreateDomain {
            max_vcpus: 0,
            ..good
        },
        abi::DomctlCreateDomain {
            max_vcpus: 129,
            ..good
        },
        abi::DomctlCreateDomain {
            max_grant_frames: i32::MAX,
            ..good
        },
        abi::DomctlCreateDomain {
            max_maptrack_frames: i32::MAX,
            ..good
        },
        abi::DomctlCreateDomain {
            grant_opts: 0,
            ..good
        },
        abi::DomctlCreateDomain {
            grant_opts: 3,
            ..good
        },
        abi::DomctlCreateDomain {
            cpupool_id: 1,
            ..good
        },
        abi::DomctlCreateDomain {
            vmtrace_size: 4096,
            ..good
        },
        abi::DomctlCreateDomain {
            arch: abi::ArchDomainConfig {
                emulation_flags: abi::XEN_X86_EMU_ALL,
                misc_flags: 0,
            },
            ..good
        },
    ];
    for ask in &bad {
        assert_eq!(create(&dom0, 0, ask), Err(errno(Errno::Inval)), "{ask:?}");
    }
    assert_eq!(world.machine.domain_count(), 1);
    assert_eq!(create(&dom0, 77, &good), Ok(77));
    assert_eq!(create(&dom0, 77, &good), Err(errno(Errno::Exist)));
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_DESTROYDOMAIN, 77), 0);
    // A domain that fails half-way leaves nothing, though its vcpus and it hold each other.
    *world.platform.fails_from.lock().expect("plan") = Some(2);
    assert_eq!(create(&dom0, 0, &pvh(4)), Err(errno(Errno::NoMem)));
    assert_eq!(world.free_frames(), free);
}

#[test]
fn only_the_toolstack_may_and_only_of_this_version() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let mut op = abi::Domctl::new(abi::XEN_DOMCTL_GETDOMAININFO, 5);
    assert_eq!(
        guest.envelope(abi::HYPERVISOR_DOMCTL, &mut op),
        errno(Errno::Perm)
    );
    op.interface_version += 1;
    assert_eq!(
        dom0.envelope(abi::HYPERVISOR_DOMCTL, &mut op),
        errno(Errno::Acces)
    );
    assert_eq!(
        dom0.call(abi::HYPERVISOR_DOMCTL, &[1 << 50]),
        errno(Errno::Fault)
    );
    let mut op = abi::Domctl::new(9999, 5);
    assert_eq!(
        dom0.envelope(abi::HYPERVISOR_DOMCTL, &mut op),
        errno(Errno::NoSys)
    );
    // What would make the caller wait for itself, or take dom0 away.
    for cmd in [
        abi::XEN_DOMCTL_DESTROYDOMAIN,
        abi::XEN_DOMCTL_PAUSEDOMAIN,
        abi::XEN_DOMCTL_UNPAUSEDOMAIN,
        abi::XEN_DOMCTL_RESUMEDOMAIN,
        abi::XEN_DOMCTL_GETHVMCONTEXT,
        abi::XEN_DOMCTL_SETHVMCONTEXT,
    ] {
        assert_eq!(simple(&dom0, cmd, 0), errno(Errno::Inval), "domctl {cmd}");
    }
}

#[test]
fn a_pause_counts_once_and_waits_until_the_guest_stands_still() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 2);
    let vcpu = guest.vcpu(1);
    vcpu.set_cpu(Some(CpuId(1)));
    dom0.write(LIST, &abi::Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, 5));
    let caller = dom0.vcpu(0);
    let linear = crate::testing::Linear(&dom0.domain);
    let mut call = crate::hypercall::Call::new(&caller, &linear, [LIST, 0, 0, 0, 0, 0]);
    let number = abi::HYPERVISOR_DOMCTL.into();
    use crate::dispatch::dispatch;
    use crate::hypercall::Outcome;
    for _ in 0..3 {
        assert_eq!(dispatch(number, &mut call), Outcome::Again);
        assert_eq!(guest.domain.life().pauses, 1);
    }
    assert_eq!(
        world.platform.kicked.lock().expect("kicks").as_slice(),
        [CpuId(1)]
    );
    vcpu.set_cpu(None);
    assert_eq!(dispatch(number, &mut call), Outcome::Done(0));
    // The next pause is another one.
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_PAUSEDOMAIN, 5), 0);
    assert_eq!(guest.domain.life().pauses, 2);
    assert!(!vcpu.is_runnable());
    for left in [1, 0] {
        assert_eq!(simple(&dom0, abi::XEN_DOMCTL_UNPAUSEDOMAIN, 5), 0);
        assert_eq!(guest.domain.life().pauses, left);
    }
    assert!(vcpu.is_runnable());
    assert_eq!(
        simple(&dom0, abi::XEN_DOMCTL_UNPAUSEDOMAIN, 5),
        errno(Errno::Inval)
    );
}

#[test]
fn a_teardown_goes_on_where_it_stands() {
    let (world, dom0) = World::new();
    let free = world.free_frames();
    let guest = world.guest(5, 2);
    guest.domain.memory.set_max_frames(1000);
    for gfn in 100..900 {
        guest.domain.memory.populate(Gfn::new(gfn), 0).expect("RAM");
    }
    // A vcpu that still runs delays the end; nothing is taken from under it.
    guest.vcpu(0).set_cpu(Some(CpuId(1)));
    assert!(!guest.domain.destroy_step(512));
    assert_eq!(guest.domain.memory.ram_frames(), 832);
    assert_ne!(
        info(&dom0, 5).expect("still there").flags & abi::XEN_DOMINF_DYING,
        0
    );
    guest.vcpu(0).set_cpu(None);
    dom0.write(LIST, &abi::Domctl::new(abi::XEN_DOMCTL_DESTROYDOMAIN, 5));
    let (result, parts) = dom0.call_on(0, abi::HYPERVISOR_DOMCTL, &[LIST]);
    assert_eq!(result, 0);
    assert!(parts > 1, "{parts} part for 832 pages");
    drop(guest);
    assert_eq!(world.free_frames(), free);
}

#[test]
fn states_that_info_shows() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 2);
    guest.vcpu(0).hold(Hold::Blocked);
    guest.vcpu(1).hold(Hold::Blocked);
    let flags = |mask: u32| info(&dom0, 5).expect("info").flags & mask;
    let all = abi::XEN_DOMINF_BLOCKED | abi::XEN_DOMINF_RUNNING | abi::XEN_DOMINF_PAUSED;
    assert_eq!(flags(all), abi::XEN_DOMINF_BLOCKED);
    guest.vcpu(1).release(Hold::Blocked);
    guest.vcpu(1).set_cpu(Some(CpuId(1)));
    assert_eq!(flags(all), abi::XEN_DOMINF_RUNNING);
    guest.vcpu(1).set_cpu(None);
    let mut ask = abi::DomctlGetVcpuInfo {
        vcpu: 0,
        ..zeroed()
    };
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GETVCPUINFO, 5, &mut ask), 0);
    assert_eq!((ask.online, ask.blocked, ask.running), (1, 1, 0));
    ask.vcpu = 2;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GETVCPUINFO, 5, &mut ask),
        errno(Errno::Inval)
    );
    guest.shut_down(abi::SHUTDOWN_CRASH);
    let shutdown = abi::XEN_DOMINF_SHUTDOWNMASK << abi::XEN_DOMINF_SHUTDOWNSHIFT;
    let crashed = abi::SHUTDOWN_CRASH << abi::XEN_DOMINF_SHUTDOWNSHIFT;
    assert_eq!(
        flags(shutdown | abi::XEN_DOMINF_SHUTDOWN),
        crashed | abi::XEN_DOMINF_SHUTDOWN
    );
    // No domain 3: the next one is told.
    assert_eq!(info(&dom0, 3).expect("the next").domain, 5);
}

#[test]
fn a_suspended_guest_tells_its_subscriber_and_resumes() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let port = crate::evtchn::alloc_unbound(&guest.domain, DomainId(0)).expect("port");
    let mut bind = abi::EvtchnBindInterdomain {
        remote_dom: 5,
        remote_port: port.0,
        ..zeroed()
    };
    let bound = dom0.op(
        abi::HYPERVISOR_EVENT_CHANNEL_OP,
        abi::EVTCHNOP_BIND_INTERDOMAIN,
        &mut bind,
    );
    assert_eq!(bound, 0);
    let local = oxen_types::Port(bind.local_port);
    dom0.domain
        .shared_info()
        .word(2048)
        .store(0, Ordering::SeqCst);
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SUBSCRIBE, 5, &mut { port.0 }),
        0
    );
    guest.shut_down(abi::SHUTDOWN_SUSPEND);
    assert!(dom0.domain.events.is_pending(&dom0.domain, local));
    assert!(!guest.vcpu(0).is_runnable());
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_RESUMEDOMAIN, 5), 0);
    assert!(guest.vcpu(0).is_runnable());
    assert_eq!(guest.domain.life().shutdown, None);
}
