//! domctl, sysctl and platform_op have no lock of their own: one that goes on for long holds up
//! nobody.

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, Errno};

use crate::dispatch::dispatch;
use crate::hypercall::{Call, Outcome};
use crate::testing::{Guest, Linear, PAGE, World, errno};

/// One part of a domctl by dom0's second vcpu, from a page of its own.
fn part(dom0: &Guest, op: &abi::Domctl) -> Outcome {
    dom0.write(8 * PAGE, op);
    let (vcpu, linear) = (dom0.vcpu(1), Linear(&dom0.domain));
    let mut call = Call::new(&vcpu, &linear, [8 * PAGE, 0, 0, 0, 0, 0]);
    dispatch(abi::HYPERVISOR_DOMCTL.into(), &mut call)
}

#[test]
fn a_control_call_that_goes_on_holds_up_no_other() {
    let (world, dom0) = World::new();
    let (busy, other) = (world.guest(1, 1), world.guest(2, 1));
    // A vcpu that does not leave its CPU: the pause goes on and on.
    busy.vcpu(0).set_cpu(Some(CpuId(1)));
    let pause = abi::Domctl::new(abi::XEN_DOMCTL_PAUSEDOMAIN, 1);
    for _ in 0..3 {
        assert_eq!(part(&dom0, &pause), Outcome::Again);
        let mut info = abi::DomctlGetDomainInfo::zeroed();
        for id in [0, 1, 2] {
            assert_eq!(dom0.domctl(abi::XEN_DOMCTL_GETDOMAININFO, id, &mut info), 0);
        }
        for cmd in [abi::XEN_DOMCTL_PAUSEDOMAIN, abi::XEN_DOMCTL_UNPAUSEDOMAIN] {
            let mut op = abi::Domctl::new(cmd, 2);
            assert_eq!(dom0.envelope(abi::HYPERVISOR_DOMCTL, &mut op), 0);
        }
        let mut list = abi::SysctlGetDomainInfoList {
            first_domain: 0,
            max_domains: 8,
            buffer: 20 * PAGE,
            ..Zeroable::zeroed()
        };
        assert_eq!(dom0.sysctl(abi::XEN_SYSCTL_GETDOMAININFOLIST, &mut list), 0);
        assert_eq!(list.num_domains, 3);
        let mut time = abi::PlatformOp::zeroed();
        (time.cmd, time.interface_version) = (abi::XENPF_SETTIME64, abi::XENPF_INTERFACE_VERSION);
        time.u.store(&abi::XenpfSettime64 {
            secs: 1_000_000,
            ..Zeroable::zeroed()
        });
        assert_eq!(dom0.envelope(abi::HYPERVISOR_PLATFORM_OP, &mut time), 0);
    }
    // Who may not call is refused before anything is read, let alone taken.
    for number in [
        abi::HYPERVISOR_DOMCTL,
        abi::HYPERVISOR_SYSCTL,
        abi::HYPERVISOR_PLATFORM_OP,
    ] {
        assert_eq!(other.call(number, &[u64::MAX]), errno(Errno::Perm));
    }
    busy.vcpu(0).set_cpu(None);
    assert_eq!(part(&dom0, &pause), Outcome::Done(0));
    assert_eq!(busy.domain.life().pauses, 1, "counted once");
}
