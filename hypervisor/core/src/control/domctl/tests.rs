//! domctl as the toolset calls it, and as it must not.

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
    let mut call = crate::hypercall::Call {
        vcpu: &caller,
        linear: &crate::testing::Linear(&dom0.domain),
        args: [LIST, 0, 0, 0, 0, 0],
    };
    let number = abi::HYPERVISOR_DOMCTL.into();
    use crate::hypercall::{Outcome, dispatch};
    for _ in 0..3 {
        assert_eq!(dispatch(number, &mut call), Outcome::Again);
        assert_eq!(guest.domain.life.lock().pauses, 1);
    }
    assert_eq!(
        world.platform.kicked.lock().expect("kicks").as_slice(),
        [CpuId(1)]
    );
    vcpu.set_cpu(None);
    assert_eq!(dispatch(number, &mut call), Outcome::Done(0));
    // The next pause is another one.
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_PAUSEDOMAIN, 5), 0);
    assert_eq!(guest.domain.life.lock().pauses, 2);
    assert!(!vcpu.is_runnable());
    for left in [1, 0] {
        assert_eq!(simple(&dom0, abi::XEN_DOMCTL_UNPAUSEDOMAIN, 5), 0);
        assert_eq!(guest.domain.life.lock().pauses, left);
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
    guest.domain.shutdown(abi::SHUTDOWN_CRASH);
    let shutdown = abi::XEN_DOMINF_SHUTDOWNMASK << abi::XEN_DOMINF_SHUTDOWNSHIFT;
    let crashed = abi::SHUTDOWN_CRASH << abi::XEN_DOMINF_SHUTDOWNSHIFT;
    assert_eq!(
        flags(shutdown | abi::XEN_DOMINF_SHUTDOWN),
        crashed | abi::XEN_DOMINF_SHUTDOWN
    );
    // No domain 3: the next one is told.
    assert_eq!(info(&dom0, 3).expect("the next").domain, 5);
}

fn zeroed<T: bytemuck::Zeroable>() -> T {
    T::zeroed()
}

#[test]
fn registers_travel_as_records() {
    let (world, dom0) = World::new();
    let id = create(&dom0, 0, &pvh(2)).expect("a domain");
    let mut ask = abi::DomctlHvmContext {
        size: 0,
        _pad: 0,
        buffer: 0,
    };
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT, id, &mut ask), 0);
    // Both vcpus are down: no CPU records. HEADER, LAPIC_REGS and MTRR of both, END.
    assert_eq!(ask.size, 8 + 24 + 2 * (8 + 1024) + 2 * (8 + 240) + 8);
    ask.buffer = LIST;
    ask.size -= 1;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT, id, &mut ask),
        errno(Errno::NoSpc)
    );
    ask.size += 1;
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT, id, &mut ask), 0);
    let header: [u8; 32] = dom0.read(LIST);
    let list = |kind: u16, instance: u16, body: &[u8], end: bool| {
        let mut list = header.to_vec();
        let length = body.len() as u32;
        list.extend(bytemuck::bytes_of(&abi::HvmSaveDescriptor {
            typecode: kind,
            instance,
            length,
        }));
        list.extend(body);
        if end {
            list.extend([0; 8]);
        }
        list
    };
    let set = |list: &[u8]| {
        dom0.write_all(LIST, list);
        let size = list.len() as u32;
        let mut ask = abi::DomctlHvmContext {
            size,
            _pad: 0,
            buffer: LIST,
        };
        dom0.domctl(abi::XEN_DOMCTL_SETHVMCONTEXT, id, &mut ask)
    };
    let domain = world.machine.domain(DomainId(id)).expect("listed");
    let up = |n: u32| !domain.vcpu(n).expect("vcpu").is_held(Hold::Down);
    assert_eq!(set(&list(14, 1, &[9; 240], true)), 0);
    assert!(!up(0) && !up(1));
    assert_eq!(set(&list(2, 0, &[8; 1032], true)), 0);
    assert!(up(0) && !up(1));
    assert!(
        domain
            .vcpu(0)
            .expect("vcpu")
            .initialised
            .load(Ordering::SeqCst)
    );
    // Now there is a CPU record, and it is the one that was set.
    let mut one = abi::DomctlHvmContextPartial {
        kind: 2,
        instance: 0,
        bufsz: 2000,
        buffer: LIST,
    };
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT_PARTIAL, id, &mut one),
        0
    );
    assert_eq!(one.bufsz, 1032);
    assert_eq!(dom0.read::<[u8; 1032]>(LIST), [8; 1032]);
    // Broken lists are refused before anything of them is done.
    let inval = errno(Errno::Inval);
    let no_data = errno(Errno::NoData);
    assert_eq!(set(&list(2, 9, &[0; 1032], true)), inval, "no such vcpu");
    assert_eq!(set(&list(3, 0, &[0; 8], true)), inval, "no such record");
    assert_eq!(
        set(&list(2, 0, &[0; 1000], true)),
        no_data,
        "a short record"
    );
    assert_eq!(set(&list(14, 0, &[0; 240], false)), no_data, "no end");
    assert_eq!(set(&header), no_data);
    assert_eq!(set(&[]), no_data);
    let mut long = list(14, 0, &[0; 240], true);
    long[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(set(&long), no_data, "a length that wraps");
    let mut foreign = list(14, 0, &[0; 240], true);
    foreign[8] ^= 1;
    assert_eq!(set(&foreign), inval, "another magic");
    assert_eq!(domain.life.lock().pauses, 1, "each pause was undone");
}

#[test]
fn scheduling_parameters() {
    let (world, dom0) = World::new();
    let id = create(&dom0, 0, &pvh(2)).expect("a domain");
    let mut op = abi::DomctlSchedulerOp {
        sched_id: abi::XEN_SCHEDULER_CREDIT2,
        cmd: abi::XEN_DOMCTL_SCHEDOP_PUTINFO,
        u: UnionBytes::holding(&abi::DomctlSchedCredit2 {
            weight: 512,
            cap: 150,
        }),
    };
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, id, &mut op), 0);
    op.u = UnionBytes::holding(&abi::DomctlSchedCredit2 {
        weight: 0,
        cap: u16::MAX,
    });
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, id, &mut op),
        0,
        "nothing changes"
    );
    op.u = UnionBytes::holding(&abi::DomctlSchedCredit2 {
        weight: 0,
        cap: 201,
    });
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, id, &mut op),
        errno(Errno::Inval)
    );
    op.cmd = abi::XEN_DOMCTL_SCHEDOP_GETINFO;
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, id, &mut op), 0);
    let got: abi::DomctlSchedCredit2 = op.u.view();
    assert_eq!((got.weight, got.cap), (512, 150));
    let unit = world
        .machine
        .domain(DomainId(id))
        .and_then(|d| d.vcpu(1))
        .expect("vcpu")
        .unit();
    let share = world.machine.sched.with(|policy| policy.share(unit));
    assert_eq!((share.weight, share.cap), (512, 75));
    op.sched_id = abi::XEN_SCHEDULER_RTDS;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SCHEDULER_OP, id, &mut op),
        errno(Errno::Inval)
    );
}

#[test]
fn affinity_moves_what_runs_elsewhere() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let map = abi::BitmapHandle {
        bitmap: LIST,
        nr_bits: 64,
        _pad: 0,
    };
    let mut ask = abi::DomctlVcpuAffinity {
        vcpu: 0,
        flags: abi::XEN_VCPUAFFINITY_HARD,
        cpumap_hard: map,
        cpumap_soft: zeroed(),
    };
    dom0.write(LIST, &0b1110u64);
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SETVCPUAFFINITY, 5, &mut ask), 0);
    assert_eq!(dom0.read::<u64>(LIST), 0b10, "of two CPUs, one is left");
    assert!(
        world
            .platform
            .rescheduled
            .lock()
            .expect("list")
            .contains(&CpuId(1))
    );
    dom0.write(LIST, &u64::MAX);
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GETVCPUAFFINITY, 5, &mut ask), 0);
    assert_eq!(dom0.read::<u64>(LIST), 0b10);
    dom0.write(LIST, &0b100u64);
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SETVCPUAFFINITY, 5, &mut ask),
        errno(Errno::Inval)
    );
    ask.vcpu = 1;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GETVCPUAFFINITY, 5, &mut ask),
        errno(Errno::Inval)
    );
    assert_eq!(guest.vcpu(0).cpu(), None);
}

#[test]
fn policy_is_read_and_set_until_the_guest_starts() {
    let (world, dom0) = World::new();
    let id = create(&dom0, 0, &pvh(1)).expect("a domain");
    let mut ask = abi::DomctlCpuPolicy {
        nr_leaves: 1,
        nr_msrs: 0,
        leaves: LIST,
        msrs: 0,
        ..zeroed()
    };
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GET_CPU_POLICY, id, &mut ask),
        errno(Errno::NoBufs)
    );
    ask.nr_leaves = 2;
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GET_CPU_POLICY, id, &mut ask), 0);
    let mut leaves: [abi::CpuidLeaf; 2] = dom0.read(LIST);
    assert_eq!((ask.nr_leaves, leaves[1].a), (2, 0x0080_0f12));
    leaves[1].a = 0x0080_0f13;
    dom0.write(LIST, &leaves);
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SET_CPU_POLICY, id, &mut ask), 0);
    let domain = world.machine.domain(DomainId(id)).expect("listed");
    assert_eq!(
        super::leaf(&domain, 1).map(|leaf| leaf.a),
        Some(0x0080_0f13)
    );
    dom0.write(LIST, &[0xffu8; 48]);
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SET_CPU_POLICY, id, &mut ask),
        errno(Errno::Inval)
    );
    assert_eq!(ask.err_leaf, u32::MAX);
    ask.nr_leaves = u32::MAX;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SET_CPU_POLICY, id, &mut ask),
        errno(Errno::TooBig)
    );
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_UNPAUSEDOMAIN, id), 0);
    ask.nr_leaves = 0;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SET_CPU_POLICY, id, &mut ask),
        errno(Errno::Exist)
    );
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
        .shared_info
        .word(2048)
        .store(0, Ordering::SeqCst);
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SUBSCRIBE, 5, &mut { port.0 }),
        0
    );
    guest.domain.shutdown(abi::SHUTDOWN_SUSPEND);
    assert!(dom0.domain.events.is_pending(&dom0.domain, local));
    assert!(!guest.vcpu(0).is_runnable());
    assert_eq!(simple(&dom0, abi::XEN_DOMCTL_RESUMEDOMAIN, 5), 0);
    assert!(guest.vcpu(0).is_runnable());
    assert_eq!(guest.domain.life.lock().shutdown, None);
}

#[test]
fn small_settings() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SETDOMAINHANDLE, 5, &mut [5u8; 16]),
        0
    );
    assert_eq!(info(&dom0, 5).expect("info").handle, [5; 16]);
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SETTIMEOFFSET, 5, &mut 60i64), 0);
    assert_eq!(
        guest.domain.shared_info.word(3076).load(Ordering::SeqCst),
        60
    );
    assert_eq!(
        dom0.domctl(
            abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE,
            5,
            &mut (3u64 << 20)
        ),
        0
    );
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, 5, &mut 1u64),
        errno(Errno::Inval)
    );
    let mut size = 0u64;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, 5, &mut size),
        0
    );
    assert_eq!(size, 3 << 20);
    let nmi = &mut abi::DomctlSendTrigger {
        trigger: abi::XEN_DOMCTL_SENDTRIGGER_NMI,
        vcpu: 0,
    };
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SENDTRIGGER, 5, nmi), 0);
    assert_eq!(
        guest.with_arch(0, |vcpu| vcpu.nmis.load(Ordering::SeqCst)),
        1
    );
    let mut width = 0u32;
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GET_ADDRESS_SIZE, 5, &mut width),
        0
    );
    assert_eq!(width, 64);
    let mut tsc = abi::DomctlTscInfo {
        tsc_mode: 1,
        ..zeroed()
    };
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_SETTSCINFO, 5, &mut tsc),
        errno(Errno::OpNotSupp)
    );
    tsc.tsc_mode = 0;
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_SETTSCINFO, 5, &mut tsc), 0);
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GETTSCINFO, 5, &mut tsc), 0);
    assert_eq!(tsc.gtsc_khz, 2_000_000);
    // Rights: nobody but dom0 has any, and dom0 loses none.
    let mut irq = abi::DomctlIrqPermission {
        pirq: 1,
        allow_access: 1,
        pad: [0; 3],
    };
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_IRQ_PERMISSION, 5, &mut irq),
        errno(Errno::Perm)
    );
    assert_eq!(dom0.domctl(abi::XEN_DOMCTL_IRQ_PERMISSION, 0, &mut irq), 0);
    dom0.write(LIST, &[0u64, 1, 5000]);
    let mut types = abi::DomctlGetPageFrameInfo3 {
        num: 3,
        array: LIST,
    };
    assert_eq!(
        dom0.domctl(abi::XEN_DOMCTL_GETPAGEFRAMEINFO3, 5, &mut types),
        0
    );
    let absent = u64::from(abi::XEN_DOMCTL_PFINFO_XTAB);
    assert_eq!(dom0.read::<[u64; 3]>(LIST), [0, 0, absent]);
}

#[test]
fn a_domain_without_nested_paging() {
    let (_world, dom0) = World::new();
    let flags = abi::XEN_DOMCTL_CDF_HVM;
    let id = create(&dom0, 0, &abi::DomctlCreateDomain { flags, ..pvh(1) }).expect("a domain");
    let seen = info(&dom0, id).expect("info");
    assert_eq!(seen.flags & abi::XEN_DOMINF_HAP, 0);
}

fn shadow_op(dom0: &Guest, id: u16, op: u32, mode: u32, pages: u64) -> (i64, abi::DomctlShadowOp) {
    let mut ask = abi::DomctlShadowOp {
        op,
        mode,
        mb: 0,
        _pad: 0,
        dirty_bitmap: if pages > 0 { LIST } else { 0 },
        pages,
        stats: abi::DomctlShadowOpStats {
            fault_count: 0,
            dirty_count: 0,
        },
    };
    let result = dom0.domctl(abi::XEN_DOMCTL_SHADOW_OP, id, &mut ask);
    (result, ask)
}

#[test]
fn the_log_of_writes_is_switched_read_and_cleaned() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let shadow = |op, mode, pages| shadow_op(&dom0, 5, op, mode, pages);
    let (peek, clean) = (
        abi::XEN_DOMCTL_SHADOW_OP_PEEK,
        abi::XEN_DOMCTL_SHADOW_OP_CLEAN,
    );
    let bitmap = || dom0.read::<u64>(LIST);
    // Off: everything is clean.
    guest.write(7 * PAGE, &1u64);
    assert_eq!((shadow(peek, 0, 64).0, bitmap()), (0, 0));
    assert_eq!(shadow(abi::XEN_DOMCTL_SHADOW_OP_OFF, 0, 0).0, 0);
    let enable = abi::XEN_DOMCTL_SHADOW_OP_ENABLE;
    assert_eq!(shadow(enable, 0, 0).0, errno(Errno::Inval));
    let log_dirty = abi::XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY;
    assert_eq!(shadow(enable, log_dirty, 0).0, 0);
    let enable = abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
    assert_eq!(shadow(enable, 0, 0).0, errno(Errno::Inval), "it is on");

    guest.write(3 * PAGE + 4090, &[1u64; 2]);
    assert!(guest.domain.memory.log_write(Gfn::new(9)));
    for op in [peek, clean] {
        let (result, answer) = shadow(op, 0, 64);
        assert_eq!((result, bitmap()), (0, 1 << 3 | 1 << 4 | 1 << 9));
        let stats = (answer.stats.fault_count, answer.stats.dirty_count);
        assert_eq!((stats, answer.pages), ((1, 3), 64));
    }
    let (result, answer) = shadow(clean, abi::XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, 64);
    assert_eq!((result, bitmap(), answer.stats.fault_count), (0, 0, 0));
    // Bits past the last page stay as they are in the log, and are not told.
    guest.write(9 * PAGE, &1u64);
    guest.write(11 * PAGE, &1u64);
    dom0.write(LIST, &u64::MAX);
    assert_eq!(shadow(clean, 0, 10).0, 0);
    assert_eq!(bitmap(), u64::MAX << 16 | 1 << 9);
    // More pages than one call looks at; and counters alone.
    dom0.write(LIST, &0u64);
    assert_eq!(shadow(peek, 0, 32_769).0, 0);
    assert_eq!(bitmap(), 1 << 11);
    let (result, answer) = shadow(peek, 0, 0);
    assert_eq!((result, answer.stats.dirty_count), (0, 0));
    // What cannot be.
    assert_eq!(shadow(peek, 2, 64).0, errno(Errno::Inval));
    assert_eq!(shadow(77, 0, 0).0, errno(Errno::Inval));
    assert_eq!(
        shadow(abi::XEN_DOMCTL_SHADOW_OP_ENABLE_TEST, 0, 0).0,
        errno(Errno::Inval)
    );
    assert_eq!(shadow_op(&dom0, 0, enable, 0, 0).0, errno(Errno::Inval));
    assert_eq!(shadow(abi::XEN_DOMCTL_SHADOW_OP_OFF, 0, 0).0, 0);
    assert!(!guest.domain.memory.logs_writes());
}

#[test]
fn event_words_clocks_and_grants_are_logged() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let enable = abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
    assert_eq!(shadow_op(&dom0, 5, enable, 0, 0).0, 0);
    let written = || {
        let frames = world.frames;
        frames.written(guest.domain.shared_info.mfn(), true)
    };
    written();
    assert!(!written());
    crate::evtchn::raise_virq(&guest.domain, 0, abi::VIRQ_TIMER);
    guest.domain.update_wall_clock();
    assert!(written());
}
