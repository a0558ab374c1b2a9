//! sysctl, platform_op and physdev_op as dom0 and its toolset call them.

use core::sync::atomic::Ordering;
use std::vec;

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{DomainId, Errno};

use crate::seams::PowerAction;
use crate::testing::{PAGE, World, config, errno};

/// Room for lists, away from the envelope.
const LIST: u64 = 20 * PAGE;

#[test]
fn the_log_is_read_on_and_cleared() {
    let (world, dom0) = World::new();
    *world.platform.log.lock().expect("log") = vec![b'x'; 10_000];
    let mut ask = abi::SysctlReadConsole {
        incremental: 1,
        buffer: LIST,
        count: 9_000,
        ..Zeroable::zeroed()
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_READCONSOLE, &mut ask), 0);
    assert_eq!((ask.count, ask.index), (9_000, 9_000));
    assert_eq!(dom0.read::<[u8; 9_000]>(LIST), [b'x'; 9_000]);
    ask.clear = 1;
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_READCONSOLE, &mut ask), 0);
    assert_eq!((ask.count, ask.index), (1_000, 10_000));
    assert!(world.platform.log.lock().expect("log").is_empty());
    ask.count = 1;
    ask.buffer = 1 << 45;
    world.platform.log.lock().expect("log").push(1);
    ask.incremental = 0;
    assert_eq!(
        dom0.sysctl(abi::XEN_SYSCTL_READCONSOLE, &mut ask),
        errno(Errno::Fault)
    );
    dom0.write(LIST, b"qd");
    let mut keys = abi::SysctlDebugKeys {
        keys: LIST,
        nr_keys: 2,
        _pad: 0,
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_DEBUG_KEYS, &mut keys), 0);
    assert_eq!(world.platform.keys.lock().expect("keys").as_slice(), b"qd");
    keys.nr_keys = u32::MAX;
    assert_eq!(
        dom0.sysctl(abi::XEN_SYSCTL_DEBUG_KEYS, &mut keys),
        errno(Errno::TooBig)
    );
}

#[test]
fn all_domains_are_listed_in_parts() {
    let (world, dom0) = World::new();
    for id in 1..=80 {
        world.domain(id * 2, config(false, 1));
    }
    let mut ask = abi::SysctlGetDomainInfoList {
        first_domain: 1,
        max_domains: 100,
        buffer: LIST,
        ..Zeroable::zeroed()
    };
    let mut op = abi::Sysctl::with(abi::XEN_SYSCTL_GETDOMAININFOLIST, &ask);
    dom0.write(PAGE, &op);
    let (result, parts) = dom0.call_on(0, abi::HYPERVISOR_SYSCTL, &[PAGE]);
    op = dom0.read(PAGE);
    ask = op.u.view();
    assert_eq!((result, parts, ask.num_domains), (0, 3, 80));
    for i in 0..80u64 {
        let info: abi::DomctlGetDomainInfo = dom0.read(LIST + i * 112);
        assert_eq!(u64::from(info.domain), 2 + i * 2);
    }
    // A shorter list ends earlier.
    ask.max_domains = 33;
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_GETDOMAININFOLIST, &mut ask), 0);
    assert_eq!(ask.num_domains, 33);
}

#[test]
fn the_machine_is_described() {
    let (world, dom0) = World::new();
    let mut info: abi::SysctlPhysInfo = Zeroable::zeroed();
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_PHYSINFO, &mut info), 0);
    assert_eq!((info.nr_cpus, info.max_cpu_id, info.nr_nodes), (2, 1, 1));
    assert_eq!(info.free_pages, world.free_frames());
    let pvh =
        abi::XEN_SYSCTL_PHYSCAP_HVM | abi::XEN_SYSCTL_PHYSCAP_HAP | abi::XEN_SYSCTL_PHYSCAP_SHADOW;
    assert_eq!(info.capabilities & pvh, pvh);
    let mut heap = abi::SysctlAvailHeap {
        node: -1,
        ..Zeroable::zeroed()
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_AVAILHEAP, &mut heap), 0);
    assert_eq!(heap.avail_bytes, world.free_frames() * PAGE);
    heap.max_bitwidth = 13;
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_AVAILHEAP, &mut heap), 0);
    assert_eq!(heap.avail_bytes, 2 * PAGE);
    let mut idle = abi::SysctlGetCpuInfo {
        max_cpus: 100,
        info: LIST,
        ..Zeroable::zeroed()
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_GETCPUINFO, &mut idle), 0);
    assert_eq!(
        (idle.nr_cpus, dom0.read::<[u64; 2]>(LIST)),
        (2, [1_000, 1_001])
    );
    let mut topology = abi::SysctlCpuTopoInfo {
        num_cpus: 9,
        _pad: 0,
        cputopo: LIST,
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_CPUTOPOINFO, &mut topology), 0);
    assert_eq!(topology.num_cpus, 2);
    assert_eq!(dom0.read::<[u32; 6]>(LIST), [0, 0, 0, 1, 0, 0]);
    let mut nodes = abi::SysctlNumaInfo {
        num_nodes: 4,
        _pad: 0,
        meminfo: LIST,
        distance: LIST + 64,
    };
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_NUMAINFO, &mut nodes), 0);
    assert_eq!((nodes.num_nodes, dom0.read::<u32>(LIST + 64)), (1, 10));
    let mut id = 0u32;
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_SCHED_ID, &mut id), 0);
    assert_eq!(id, abi::XEN_SCHEDULER_CREDIT2);
}

#[test]
fn there_is_one_pool() {
    let (world, dom0) = World::new();
    let _guest = world.guest(3, 1);
    let mut pool = abi::SysctlCpupoolOp {
        op: abi::XEN_SYSCTL_CPUPOOL_OP_INFO,
        cpumap: abi::BitmapHandle {
            bitmap: LIST,
            nr_bits: 100,
            _pad: 0,
        },
        ..Zeroable::zeroed()
    };
    dom0.write(LIST, &u128::MAX);
    assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_CPUPOOL_OP, &mut pool), 0);
    assert_eq!((pool.cpupool_id, pool.n_dom, pool.sched_id), (0, 2, 6));
    // 13 bytes belong to 100 bits.
    assert_eq!(dom0.read::<u128>(LIST), u128::MAX << 104 | 3);
    pool.cpupool_id = 1;
    assert_eq!(
        dom0.sysctl(abi::XEN_SYSCTL_CPUPOOL_OP, &mut pool),
        errno(Errno::NoEnt)
    );
}

#[test]
fn versions_and_callers_are_checked() {
    let (world, dom0) = World::new();
    let guest = world.guest(3, 1);
    let mut op = abi::Sysctl::new(abi::XEN_SYSCTL_PHYSINFO);
    assert_eq!(
        guest.envelope(abi::HYPERVISOR_SYSCTL, &mut op),
        errno(Errno::Perm)
    );
    op.interface_version = 0x16;
    assert_eq!(
        dom0.envelope(abi::HYPERVISOR_SYSCTL, &mut op),
        errno(Errno::Acces)
    );
    let mut op = abi::Sysctl::new(abi::XEN_SYSCTL_TBUF_OP);
    assert_eq!(
        dom0.envelope(abi::HYPERVISOR_SYSCTL, &mut op),
        errno(Errno::NoSys)
    );
    let mut op = abi::PlatformOp::with(abi::XENPF_SETTIME64, &0u64);
    op.interface_version = 1;
    assert_eq!(
        dom0.envelope(abi::HYPERVISOR_PLATFORM_OP, &mut op),
        errno(Errno::Acces)
    );
}

#[test]
fn dom0_sets_everybodys_clock() {
    let (world, dom0) = World::new();
    let guest = world.guest(3, 1);
    let set = abi::XenpfSettime64 {
        secs: 1_000,
        nsecs: 7,
        mbz: 0,
        system_time: 3_000_000_000,
    };
    let mut op = abi::PlatformOp::with(abi::XENPF_SETTIME64, &set);
    assert_eq!(dom0.envelope(abi::HYPERVISOR_PLATFORM_OP, &mut op), 0);
    for domain in [&dom0.domain, &guest.domain] {
        let word = |at: usize| domain.shared_info().word(at).load(Ordering::SeqCst);
        assert_eq!((word(3076), word(3080), word(3072) % 2), (997, 7, 0));
    }
    let set = abi::XenpfSettime64 { mbz: 1, ..set };
    let mut op = abi::PlatformOp::with(abi::XENPF_SETTIME64, &set);
    assert_eq!(
        dom0.envelope(abi::HYPERVISOR_PLATFORM_OP, &mut op),
        errno(Errno::Inval)
    );
}

#[test]
fn what_dom0_asks_of_the_platform() {
    let (world, dom0) = World::new();
    let ask = |cmd: u32, argument: [u8; 64]| {
        let mut op = abi::PlatformOp::with(cmd, &argument);
        (dom0.envelope(abi::HYPERVISOR_PLATFORM_OP, &mut op), op.u)
    };
    let (done, u) = ask(abi::XENPF_GET_CPU_VERSION, [0; 64]);
    let version: abi::XenpfPcpuVersion = u.view();
    assert_eq!((done, &version.vendor_id), (0, b"AuthenticAMD"));
    assert_eq!(
        (version.family, version.model, version.stepping),
        (0x17, 1, 2)
    );
    assert_eq!(ask(abi::XENPF_GET_CPUINFO, [0; 64]).0, errno(Errno::NoDev));
    let (done, u) = ask(abi::XENPF_GET_CPUINFO, [9; 64]);
    let info: abi::XenpfPcpuinfo = u.view();
    assert_eq!(
        (done, info.flags, info.max_present),
        (0, abi::XEN_PCPU_FLAGS_INVALID, 1)
    );
    assert_eq!(
        ask(abi::XENPF_FIRMWARE_INFO, [4; 64]).0,
        errno(Errno::NoEnt)
    );
    assert_eq!(
        ask(abi::XENPF_GET_DOM0_CONSOLE, [0; 64]).0,
        errno(Errno::NoSys)
    );
    assert_eq!(
        ask(abi::XENPF_ENTER_ACPI_SLEEP, [3; 64]).0,
        errno(Errno::OpNotSupp)
    );
    let mut s5 = [0; 64];
    s5[4] = 5;
    assert_eq!(ask(abi::XENPF_ENTER_ACPI_SLEEP, s5).0, 0);
    let power = *world.platform.power.lock().expect("power");
    assert_eq!(power, Some(PowerAction::PowerOff));
}

#[test]
fn devices_are_dom0s_business() {
    let (world, dom0) = World::new();
    let guest = world.guest(3, 1);
    let number = abi::HYPERVISOR_PHYSDEV_OP;
    let mut device = abi::PhysdevPciDeviceAdd::zeroed();
    assert_eq!(
        dom0.op(number, abi::PHYSDEVOP_PCI_DEVICE_ADD, &mut device),
        0
    );
    assert_eq!(
        guest.op(number, abi::PHYSDEVOP_PCI_DEVICE_ADD, &mut device),
        errno(Errno::NoSys)
    );
    assert_eq!(
        dom0.op(number, abi::PHYSDEVOP_MANAGE_PCI_ADD, &mut device),
        errno(Errno::NoSys)
    );
    let bad = [abi::PHYSDEVOP_PCI_DEVICE_ADD.into(), 1 << 45];
    assert_eq!(dom0.call(number, &bad), errno(Errno::Fault));
    assert_eq!(world.machine.domain(DomainId(3)).map(|d| d.id.0), Some(3));
}
