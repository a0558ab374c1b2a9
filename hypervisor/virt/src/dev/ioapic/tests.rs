//! Scenarios of edge and level GSIs, and random traffic against a host with real wires.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::dev::message::{Delivery, Destination};

const BASE: u64 = 0xfec0_0000;
const PINS: u8 = 24;

/// A host IO-APIC: what is unmasked, with which trigger, and the wires.
struct Host {
    unmasked: [bool; 64],
    setup: [Option<(Trigger, Polarity)>; 64],
    wire: [bool; 64],
    delivered: Vec<Message>,
    refuse_gsi: Option<u32>,
    deaf: bool,
}

impl Host {
    fn new() -> Self {
        Self {
            unmasked: [false; 64],
            setup: [None; 64],
            wire: [false; 64],
            delivered: Vec::new(),
            refuse_gsi: None,
            deaf: false,
        }
    }

    fn vectors(&mut self) -> Vec<u8> {
        self.delivered.drain(..).map(|m| m.vector).collect()
    }
}

impl IoApicHost for Host {
    fn deliver(&mut self, message: &Message) -> bool {
        if !self.deaf {
            self.delivered.push(*message);
        }
        !self.deaf
    }
    fn gsi_configure(&mut self, gsi: u32, trigger: Trigger, polarity: Polarity) -> bool {
        assert!(!self.unmasked[gsi as usize], "configured while live");
        if self.refuse_gsi == Some(gsi) {
            return false;
        }
        self.setup[gsi as usize] = Some((trigger, polarity));
        true
    }
    fn gsi_mask(&mut self, gsi: u32) {
        self.unmasked[gsi as usize] = false;
    }
    fn gsi_unmask(&mut self, gsi: u32) {
        assert!(self.setup[gsi as usize].is_some(), "unmasked unconfigured");
        self.unmasked[gsi as usize] = true;
    }
}

fn new() -> (IoApics, Host) {
    let config = IoApicConfig {
        base: BASE,
        id: 3,
        version: 0x20,
        gsi_base: 0,
        pins: PINS,
    };
    let second = IoApicConfig {
        base: BASE + 0x1000,
        gsi_base: 24,
        version: 0x11,
        pins: 8,
        ..config
    };
    (IoApics::new(&[config, second]), Host::new())
}

fn set(io: &mut IoApics, host: &mut Host, index: u32, value: u32) {
    assert!(io.mmio_write(BASE, 4, index, host));
    assert!(io.mmio_write(BASE + 0x10, 4, value, host));
}

fn get(io: &mut IoApics, host: &mut Host, index: u32) -> u32 {
    assert!(io.mmio_write(BASE, 4, index, host));
    io.mmio_read(BASE + 0x10, 4).unwrap()
}

/// Level wires fire for as long as the host's entry is unmasked.
fn run_wires(io: &mut IoApics, host: &mut Host) {
    for gsi in 0..32 {
        let level = matches!(host.setup[gsi], Some((Trigger::Level, _)));
        if level && host.wire[gsi] && host.unmasked[gsi] {
            assert!(io.arrive(gsi as u32, host));
            assert!(!host.unmasked[gsi], "interrupt storm");
        }
    }
}

#[test]
fn identification() {
    let (mut io, mut host) = new();
    assert_eq!(get(&mut io, &mut host, 0), 3 << 24);
    assert_eq!(get(&mut io, &mut host, 1), 0x0017_0020);
    assert_eq!(get(&mut io, &mut host, 0x10), 0x1_0000);
    assert_eq!(get(&mut io, &mut host, 0x40), 0, "no such pin");
    assert_eq!(io.mmio_read(BASE + 0x2000, 4), None);
    assert!(!io.claims(BASE - 1));
    assert!(!io.mmio_write(0, 4, 0, &mut host));
}

#[test]
fn first_unmask_configures_and_edges_arrive() {
    let (mut io, mut host) = new();
    set(&mut io, &mut host, 0x13, 2 << 24);
    set(&mut io, &mut host, 0x12, 0x1_0931);
    assert_eq!(host.setup[1], None, "still masked");
    set(&mut io, &mut host, 0x12, 0x0931);
    assert_eq!(host.setup[1], Some((Trigger::Edge, Polarity::High)));
    assert!(host.unmasked[1]);
    io.arrive(1, &mut host);
    io.arrive(1, &mut host);
    let expected = Message {
        dest: Destination::narrow(2, true),
        delivery: Delivery::LowestPriority,
        vector: 0x31,
        level: false,
    };
    assert_eq!(host.delivered, [expected; 2]);
    set(&mut io, &mut host, 0x12, 0x1_0931);
    assert!(!host.unmasked[1]);
    assert!(!io.arrive(99, &mut host));
}

#[test]
fn level_is_masked_until_eoi_and_sampled_again() {
    let (mut io, mut host) = new();
    set(&mut io, &mut host, 0x10 + 2 * 16, 0xa041);
    assert_eq!(host.setup[16], Some((Trigger::Level, Polarity::Low)));
    host.wire[16] = true;
    run_wires(&mut io, &mut host);
    run_wires(&mut io, &mut host);
    assert_eq!(host.vectors(), [0x41]);
    assert_eq!(get(&mut io, &mut host, 0x30), 0xe041);
    io.eoi(0x42, &mut host);
    assert!(!host.unmasked[16]);
    io.eoi(0x41, &mut host);
    run_wires(&mut io, &mut host);
    assert_eq!(host.vectors(), [0x41], "still asserted: fires again");
    host.wire[16] = false;
    io.eoi(0x41, &mut host);
    run_wires(&mut io, &mut host);
    assert_eq!(host.vectors(), [0; 0]);
    assert!(host.unmasked[16]);
}

#[test]
fn eoi_under_mask_waits_for_the_unmask() {
    let (mut io, mut host) = new();
    set(&mut io, &mut host, 0x14, 0x8041);
    host.wire[2] = true;
    run_wires(&mut io, &mut host);
    set(&mut io, &mut host, 0x14, 0x1_8041);
    io.eoi(0x41, &mut host);
    assert!(!host.unmasked[2]);
    set(&mut io, &mut host, 0x14, 0x8052);
    run_wires(&mut io, &mut host);
    assert_eq!(host.vectors(), [0x41, 0x52]);
}

#[test]
fn trigger_change_completes_by_hand() {
    let (mut io, mut host) = new();
    set(&mut io, &mut host, 0x14, 0x8041);
    host.wire[2] = true;
    run_wires(&mut io, &mut host);
    set(&mut io, &mut host, 0x14, 0x1_0041);
    set(&mut io, &mut host, 0x14, 0x1_8041);
    assert_eq!(get(&mut io, &mut host, 0x14), 0x1_8041);
    set(&mut io, &mut host, 0x14, 0x8041);
    assert!(host.unmasked[2]);
}

#[test]
fn eoi_register_exists_from_version_0x20() {
    let (mut io, mut host) = new();
    set(&mut io, &mut host, 0x14, 0x8041);
    host.wire[2] = true;
    run_wires(&mut io, &mut host);
    io.mmio_write(BASE + 0x1040, 4, 0x41, &mut host);
    assert!(!host.unmasked[2], "the other one is version 0x11");
    io.mmio_write(BASE + 0x40, 4, 0x41, &mut host);
    assert!(host.unmasked[2]);
}

#[test]
fn without_a_taker_a_level_waits_for_a_rewrite() {
    let (mut io, mut host) = new();
    set(&mut io, &mut host, 0x14, 0x8041);
    host.deaf = true;
    host.wire[2] = true;
    run_wires(&mut io, &mut host);
    assert!(!host.unmasked[2]);
    assert_eq!(get(&mut io, &mut host, 0x14), 0x8041);
    host.deaf = false;
    set(&mut io, &mut host, 0x14, 0x8041);
    run_wires(&mut io, &mut host);
    assert_eq!(host.vectors(), [0x41]);
}

#[test]
fn a_refused_gsi_stays_masked() {
    let (mut io, mut host) = new();
    host.refuse_gsi = Some(4);
    set(&mut io, &mut host, 0x18, 0x41);
    assert!(!host.unmasked[4]);
    assert_eq!(get(&mut io, &mut host, 0x18), 0x41);
}

#[test]
fn reset_masks_everything() {
    let (mut io, mut host) = new();
    for pin in 0..24 {
        set(&mut io, &mut host, 0x10 + 2 * pin, 0x8041);
    }
    io.reset(&mut host);
    assert!(host.unmasked.iter().all(|unmasked| !unmasked));
    assert_eq!(get(&mut io, &mut host, 0x10), 0x1_0000);
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, u32, u32),
    Entry(u32, u32),
    Wire(usize, bool),
    Edge(u32),
    Eoi(u8),
    Deaf(bool),
}

fn op() -> impl Strategy<Value = Op> {
    // Few vectors, so that EOIs hit.
    let entry = (0u32..4, prop_oneof![Just(0u32), any::<u32>()])
        .prop_map(|(vector, other)| (other & 0x1_f700) | (0x40 + vector));
    prop_oneof![
        1 => (0u64..0x3000, 0u32..9, any::<u32>())
            .prop_map(|(o, s, v)| Op::Write(BASE + o, s, v)),
        4 => (0x10u32..0x42, entry).prop_map(|(i, v)| Op::Entry(i, v)),
        3 => (0usize..24, any::<bool>()).prop_map(|(g, on)| Op::Wire(g, on)),
        1 => (0u32..40).prop_map(Op::Edge),
        4 => (0u8..4).prop_map(|v| Op::Eoi(0x40 + v)),
        1 => any::<bool>().prop_map(Op::Deaf),
    ]
}

proptest! {
    #[test]
    fn the_host_follows_any_traffic(ops in prop::collection::vec(op(), 1..120)) {
        let (mut io, mut host) = new();
        for op in ops {
            match op {
                Op::Write(gpa, size, value) => { io.mmio_write(gpa, size, value, &mut host); }
                Op::Entry(index, value) => set(&mut io, &mut host, index, value),
                Op::Wire(gsi, on) => host.wire[gsi] = on,
                Op::Edge(gsi) => { io.arrive(gsi, &mut host); }
                Op::Eoi(vector) => io.eoi(vector, &mut host),
                Op::Deaf(deaf) => host.deaf = deaf,
            }
            run_wires(&mut io, &mut host);
            for (gsi, pin) in io.all.iter().flat_map(IoApic::pins).enumerate() {
                pin.check();
                prop_assert_eq!(pin.gsi() as usize, gsi);
                // Live in both, or in neither.
                let live = pin.low() & (1 << 16 | 1 << 14) == 0 && host.unmasked[gsi];
                prop_assert_eq!(live, host.unmasked[gsi]);
            }
        }
    }
}
