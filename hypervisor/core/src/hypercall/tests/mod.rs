//! Hypercalls through the dispatcher: memory, lists of calls, vcpus, and whatever a guest may
//! invent.

mod budget;
mod declared;
mod fuzz;
mod locks;
mod memory;
mod multicall;
mod progress;
mod shortage;
mod soak;
mod storm;
mod vcpus;

use guest_pv_abi as abi;
use oxen_types::Errno;

use crate::dispatch::{TABLE, answer};
use crate::testing::{World, errno};

#[test]
fn only_the_tables_numbers_exist() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    for number in 0..70u32 {
        let entry = TABLE.iter().find(|entry| entry.number == number);
        let result = guest.call(number, &[u64::MAX; 6]);
        match entry {
            None => assert_eq!(result, errno(Errno::NoSys), "number {number}"),
            Some(entry) if entry.privileged => {
                assert_eq!(result, errno(Errno::Perm), "{}", entry.name);
            }
            Some(entry) => assert!(result <= 0, "{}: {result}", entry.name),
        }
    }
    let vcpu = dom0.vcpu(0);
    let linear = crate::testing::Linear(&dom0.domain);
    let mut call = super::Call::new(&vcpu, &linear, [0; 6]);
    for number in [64, 1 << 32, u64::MAX, 1 << 32 | 17] {
        assert_eq!(answer(number, &mut call), Err(Errno::NoSys.into()));
    }
}

#[test]
fn the_version_is_told_and_features_differ_for_dom0() {
    let (world, dom0) = World::new();
    let guest = world.guest(1, 1);
    let number = abi::HYPERVISOR_XEN_VERSION;
    assert_eq!(
        guest.call(number, &[abi::XENVER_VERSION.into()]),
        4 << 16 | 17
    );
    let features = |who: &crate::testing::Guest| {
        let mut info = abi::XenFeatureInfo {
            submap_idx: 0,
            submap: 0,
        };
        assert_eq!(who.op(number, abi::XENVER_GET_FEATURES, &mut info), 0);
        info.submap
    };
    let has = |set: u32, bit: u32| set >> bit & 1 != 0;
    assert!(has(features(&dom0), abi::XENFEAT_DOM0));
    assert!(has(features(&dom0), abi::XENFEAT_DIRECT_MAPPED));
    assert!(!has(features(&guest), abi::XENFEAT_DOM0));
    assert!(has(features(&guest), abi::XENFEAT_NOT_DIRECT_MAPPED));
    assert!(
        !has(features(&guest), abi::XENFEAT_HVM_PIRQS),
        "Linux keeps native MSI"
    );
    let mut handle = [0u8; 16];
    assert_eq!(guest.op(number, abi::XENVER_GUEST_HANDLE, &mut handle), 0);
    assert_eq!(handle, [7; 16]);
    let mut line = [0u8; 1024];
    assert_eq!(
        guest.op(number, abi::XENVER_COMMANDLINE, &mut line),
        errno(Errno::Perm)
    );
    assert_eq!(dom0.op(number, abi::XENVER_COMMANDLINE, &mut line), 0);
    assert!(line.starts_with(b"a command line\0"));
}
