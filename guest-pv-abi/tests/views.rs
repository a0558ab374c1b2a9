//! Structures as bytes and back: unions, envelopes, rings.

use guest_pv_abi::{
    BLKIF_RING_SLOTS, DOMCTL_INTERFACE_VERSION, Domctl, DomctlMaxMem, DomctlSchedCredit,
    DomctlSchedulerOp, E820Entry, NETIF_RX_RING_SLOTS, NETIF_TX_RING_SLOTS, SysctlReadConsole,
    UnionBytes, XEN_DOMCTL_MAX_MEM, XEN_DOMCTL_SCHEDULER_OP, XEN_SCHEDULER_CREDIT, ring_slots,
};

#[test]
fn an_envelope_carries_its_argument() {
    let call = Domctl::with(
        XEN_DOMCTL_MAX_MEM,
        7,
        &DomctlMaxMem {
            max_memkb: 0x1122_3344_5566,
        },
    );
    let bytes = bytemuck::bytes_of(&call);
    assert_eq!(bytes[..4], 11u32.to_le_bytes());
    assert_eq!(bytes[4..8], DOMCTL_INTERFACE_VERSION.to_le_bytes());
    assert_eq!(bytes[8..16], [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..24], 0x1122_3344_5566u64.to_le_bytes());
    assert!(bytes[24..].iter().all(|byte| *byte == 0));
    let back: Domctl = bytemuck::pod_read_unaligned(bytes);
    assert_eq!(back.u.view::<DomctlMaxMem>().max_memkb, 0x1122_3344_5566);
}

#[test]
fn unions_nest() {
    let credit = DomctlSchedCredit {
        weight: 512,
        cap: 50,
    };
    let op = DomctlSchedulerOp {
        sched_id: XEN_SCHEDULER_CREDIT,
        cmd: 0,
        u: UnionBytes::holding(&credit),
    };
    let call = Domctl::with(XEN_DOMCTL_SCHEDULER_OP, 1, &op);
    assert_eq!(
        call.u
            .view::<DomctlSchedulerOp>()
            .u
            .view::<DomctlSchedCredit>(),
        credit
    );
}

#[test]
fn storing_a_member_keeps_the_bytes_beyond_it() {
    let mut union = [0xff; 16];
    union.store(&DomctlSchedCredit { weight: 1, cap: 2 });
    assert_eq!(union[..4], [1, 0, 2, 0]);
    assert_eq!(union[4..], [0xff; 12]);
}

#[test]
fn any_bytes_are_a_valid_argument() {
    let wild = [0xa5; 128].view::<SysctlReadConsole>();
    assert_eq!((wild.clear, wild.count), (0xa5, 0xa5a5_a5a5));
}

#[test]
fn memory_map_entries_are_packed() {
    let map = [
        E820Entry {
            addr: 0,
            size: 0xa0000,
            kind: 1,
        },
        E820Entry {
            addr: 1 << 20,
            size: 1 << 30,
            kind: 1,
        },
    ];
    let bytes = bytemuck::bytes_of(&map);
    assert_eq!(bytes.len(), 40);
    assert_eq!(bytes[20..28], (1u64 << 20).to_le_bytes());
}

#[test]
fn rings_have_a_power_of_two_of_slots() {
    assert_eq!(
        (BLKIF_RING_SLOTS, NETIF_TX_RING_SLOTS, NETIF_RX_RING_SLOTS),
        (32, 256, 256)
    );
    assert_eq!(ring_slots(16 * 4096, 112), 512);
    assert_eq!(ring_slots(64, 8), 0);
    assert_eq!(ring_slots(4096, 0), 0);
    assert_eq!(ring_slots(0, 8), 0);
}
