//! Records that travel: registers and CPUID leaves.

use super::*;

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
    assert!(domain.vcpu(0).expect("vcpu").is_initialised());
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
    assert_eq!(domain.life().pauses, 1, "each pause was undone");
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
        crate::control::domctl::leaf(&domain, 1).map(|leaf| leaf.a),
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
