//! Scheduling, affinity and single settings.

use super::*;

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
        guest.domain.shared_info().word(3076).load(Ordering::SeqCst),
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
fn a_higher_limit_of_memory_takes_page_tables_along() {
    let (world, dom0) = World::new();
    let guest = world.guest(5, 1);
    let memory = &guest.domain.memory;
    let set = |mib: u64| dom0.domctl(abi::XEN_DOMCTL_MAX_MEM, 5, &mut (mib << 10));
    // A table for each 2 MiB, one above these, and some for what is no RAM.
    assert_eq!(set(7), 0);
    assert_eq!((memory.max_frames(), memory.pool()), (7 << 8, 4 + 1 + 64));
    // A lower limit leaves the pool, and so does one that a larger pool suffices for.
    assert_eq!(set(1), 0);
    assert_eq!((memory.max_frames(), memory.pool()), (1 << 8, 69));
    while !memory.set_pool(1000).expect("memory") {}
    // As good as no limit: what the machine has is what counts.
    assert_eq!(set(1 << 40), 0);
    assert_eq!((memory.max_frames(), memory.pool()), (1 << 48, 1000));
}
