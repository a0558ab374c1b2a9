//! Random traffic against the fake machine, which itself asserts that accesses are aligned, vectors
//! are not bound after they were freed, and devices hold host messages only.

use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::fake::{Function, Machine};
use super::regs::*;
use oxen_types::{EcamRegion, Maddr};

use super::*;

const A: Sbdf = Sbdf::new(0, 0, 1, 0);
const B: Sbdf = Sbdf::new(0, 0, 2, 0);
const BASE: u64 = 0xfe00_0000;

/// Two functions whose BARs can be moved onto each other.
fn machine() -> Machine {
    let function = |addr| {
        Function::new(0)
            .bar(0, 0, 0x4000, addr)
            .bar(2, 0xc, 0x2000, addr + 0x4000)
            .rom(0x1000, 0)
            .with_msi(0x50, 0x18a)
            .with_msix(0x70, 3, 0x1000, 0x2002)
    };
    let mut b = function(BASE + 0x8000);
    b.set(0x74, 4, 0x1002);
    b.set(0x78, 4, 0x1800 + 2);
    let mut a = function(BASE);
    a.set(0x78, 4, 0x2000);
    a.set(COMMAND, 2, 2);
    Machine::with([(A, a), (B, b)])
}

#[derive(Clone, Debug)]
enum Op {
    Config(Sbdf, u16, u8, u32),
    Bar(Sbdf, u16, u32),
    Command(Sbdf, u16),
    Msi(Sbdf, u16),
    Msix(Sbdf, u16),
    Table(u64, u8, u64),
    Read(u64, u8),
    Reset(Sbdf),
    Exhausted(bool),
    Replug(Sbdf),
}

fn op() -> impl Strategy<Value = Op> {
    let sbdf = prop_oneof![Just(A), Just(B)];
    let place = (0u32..16).prop_map(|page| BASE as u32 + page * 0x1000);
    prop_oneof![
        4 => (sbdf.clone(), 0u16..0x100, 0u8..9, any::<u32>())
            .prop_map(|(d, r, s, v)| Op::Config(d, r, s, v)),
        2 => (sbdf.clone(), 0u16..4, place).prop_map(|(d, n, v)| Op::Bar(d, n, v)),
        2 => (sbdf.clone(), any::<u16>()).prop_map(|(d, v)| Op::Command(d, v)),
        2 => (sbdf.clone(), 0u16..0x80).prop_map(|(d, v)| Op::Msi(d, v)),
        2 => (sbdf.clone(), 0u16..4).prop_map(|(d, v)| Op::Msix(d, v << 14)),
        8 => (0u64..0x10000, prop_oneof![Just(4u8), 0u8..10], any::<u64>())
            .prop_map(|(o, s, v)| Op::Table(BASE + o, s, v)),
        // Most of the time hit the first entries.
        8 => (0u64..16, 0u64..12, any::<bool>())
            .prop_map(|(p, w, v)| Op::Table(BASE + p * 0x1000 + w * 4, 4, u64::from(v))),
        1 => (0u64..0x10000, 0u8..10).prop_map(|(o, s)| Op::Read(BASE + o, s)),
        1 => sbdf.clone().prop_map(Op::Reset),
        1 => any::<bool>().prop_map(Op::Exhausted),
        1 => sbdf.prop_map(Op::Replug),
    ]
}

fn step(v: &mut Vpci, m: &mut Machine, op: Op) {
    let mut config = |sbdf: Sbdf, reg: u16, size, value| {
        let gpa = (u64::from(sbdf.bdf) << 12) + u64::from(reg);
        assert!(v.mmio_write(gpa, size, u64::from(value), m));
    };
    match op {
        Op::Config(sbdf, reg, size, value) => config(sbdf, reg, size, value),
        Op::Bar(sbdf, n, value) => config(sbdf, BAR_0 + 4 * n, 4, value),
        Op::Command(sbdf, value) => config(sbdf, COMMAND, 2, u32::from(value)),
        Op::Msi(sbdf, value) => config(sbdf, 0x52, 2, u32::from(value)),
        Op::Msix(sbdf, value) => config(sbdf, 0x72, 2, u32::from(value)),
        Op::Table(gpa, size, value) => {
            v.mmio_write(gpa, size, value, m);
        }
        Op::Read(gpa, size) => {
            v.mmio_read(gpa, size, m);
        }
        // As a domain does it: decoding and messages off first.
        Op::Reset(sbdf) => {
            for reg in [COMMAND, 0x52, 0x72] {
                config(sbdf, reg, 2, 0);
            }
            m.functions.get_mut(&sbdf).unwrap().reset();
        }
        Op::Exhausted(exhausted) => m.exhausted = exhausted,
        Op::Replug(sbdf) => {
            v.remove(sbdf, m);
            v.add(sbdf, m);
        }
    }
}

fn check(v: &mut Vpci, m: &mut Machine) {
    m.check_messages();
    for page in &m.mapped {
        assert!(!v.claims(page << 12), "page {page:x} is mapped and trapped");
    }
    let mut decoded: Vec<u64> = Vec::new();
    for sbdf in [A, B] {
        let function = m.at(sbdf);
        if function.get(COMMAND, 2) & 2 != 0 {
            let low = u64::from(function.get(0x10, 4) & !0xf);
            let high = u64::from(function.get(0x1c, 4)) << 32;
            let wide = high | u64::from(function.get(0x18, 4) & !0xf);
            let rom = function.get(ROM, 4);
            decoded.extend((low >> 12)..(low >> 12) + 4);
            decoded.extend((wide >> 12)..(wide >> 12) + 2);
            if rom & 1 != 0 {
                decoded.push(u64::from(rom >> 12));
            }
        }
    }
    for page in &m.mapped {
        assert!(
            decoded.contains(page),
            "page {page:x} is mapped, nobody decodes it"
        );
    }
    for page in decoded {
        let gpa = page << 12;
        let place = (BASE..BASE + 0x20000).contains(&gpa);
        assert!(
            !place || m.mapped.contains(&page) || v.claims(gpa),
            "page {page:x} is lost"
        );
    }
    let enabled = [A, B]
        .iter()
        .any(|sbdf| m.at(*sbdf).get(0x52, 2) & 1 != 0 || m.at(*sbdf).get(0x72, 2) & 0x8000 != 0);
    assert!(enabled || m.vectors.is_empty(), "vectors leaked");
}

proptest! {
    #[test]
    fn any_traffic_keeps_the_promises(ops in prop::collection::vec(op(), 1..100)) {
        let mut m = machine();
        let mut v = Vpci::new(&[EcamRegion { base: Maddr::new(0), segment: 0, first_bus: 0, last_bus: 0 }]);
        for sbdf in scan(0, 0..=0, &mut m) {
            v.add(sbdf, &mut m);
        }
        for op in ops {
            step(&mut v, &mut m, op);
            // Two devices that answer at the same table would not even work without us.
            if let (Some(a), Some(b)) = (m.at(A).table(), m.at(B).table())
                && a.abs_diff(b) < 0x1000
            {
                break;
            }
            check(&mut v, &mut m);
        }
    }

    #[test]
    fn any_configuration_space_is_adopted_in_bounded_work(
        header_type in prop_oneof![0u8..3, any::<u8>()],
        head in any::<u8>(),
        legacy in prop::collection::vec((0x10u16..0x100, any::<u8>()), 0..200),
        caps in prop::collection::vec(
            (0x10u16..0x40, prop_oneof![Just(5u16), Just(0x11), Just(0x14)], 0u32..64), 0..12),
        extended in prop::collection::vec((0x40u16..0x400, any::<u16>(), 0u32..0x400), 0..40),
        accesses in prop::collection::vec((0u16..0x1000, 1u8..9, any::<u32>(), any::<bool>()), 0..60),
    ) {
        let mut function = Function::new(header_type);
        for (reg, value) in legacy {
            function.set(reg, 1, u32::from(value));
            function.allow(reg, 1, u32::from(value.rotate_left(3)));
        }
        for (at, id, next) in caps {
            function.set(at * 4, 2, u32::from(id) | next << 10);
        }
        for (at, id, next) in extended {
            function.set(at * 4, 4, u32::from(id) | 1 << 16 | next << 22);
        }
        function.set(STATUS, 2, STATUS_CAP_LIST);
        function.set(CAP_HEAD, 1, u32::from(head));
        let mut m = Machine::with([(A, function)]);
        let mut v = Vpci::new(&[EcamRegion { base: Maddr::new(0), segment: 0, first_bus: 0, last_bus: 255 }]);
        v.add(A, &mut m);
        prop_assert!(m.accesses < 2000, "{} accesses", m.accesses);
        for (reg, size, value, is_write) in accesses {
            let gpa = (u64::from(A.bdf) << 12) + u64::from(reg);
            if is_write {
                prop_assert!(v.mmio_write(gpa, size, u64::from(value), &mut m));
            } else {
                prop_assert!(v.mmio_read(gpa, size, &mut m).is_some());
            }
        }
        v.remove(A, &mut m);
        prop_assert!(m.vectors.is_empty() && m.mapped.is_empty());
    }
}
