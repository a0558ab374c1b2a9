//! Random register traffic, posts and clock readings; the invariants must hold after each step.

use proptest::prelude::*;

use super::tests::config;
use bytemuck::Zeroable;
use guest_pv_abi::{HvmHwLapic, HvmHwLapicRegs};

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Mmio(u32, u32, u32),
    MmioRead(u32, u32),
    Msr(u32, u64),
    MsrRead(u32),
    Post(u8, bool),
    Cr8(u8),
    Inject,
    Fire,
    Events(u8),
    SaveRestore,
}

fn op() -> impl Strategy<Value = Op> {
    let reg = prop_oneof![0u32..0x40, Just(0x30), Just(0x38), Just(0x32), Just(0xf)];
    let offset = prop_oneof![4 => reg.clone().prop_map(|r| r << 4), 1 => any::<u32>()];
    let size = prop_oneof![6 => Just(4u32), 1 => 0u32..9];
    let value = prop_oneof![any::<u32>(), Just(0x1ff), 0u32..0x1000, 0u32..0x80000];
    let msr = prop_oneof![
        4 => reg.prop_map(|r| 0x800 + r),
        1 => Just(0x1bu32),
        1 => Just(0x6e0),
        1 => any::<u32>()
    ];
    let wide = prop_oneof![
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
        (0u64..4).prop_map(|mode| 0xfee0_0000 | mode << 10)
    ];
    prop_oneof![
        4 => (offset.clone(), size.clone(), value).prop_map(|(o, s, v)| Op::Mmio(o, s, v)),
        1 => (offset, size).prop_map(|(o, s)| Op::MmioRead(o, s)),
        4 => (msr.clone(), wide).prop_map(|(m, v)| Op::Msr(m, v)),
        1 => msr.prop_map(Op::MsrRead),
        2 => any::<(u8, bool)>().prop_map(|(v, l)| Op::Post(v, l)),
        1 => any::<u8>().prop_map(Op::Cr8),
        3 => Just(Op::Inject),
        1 => Just(Op::Fire),
        1 => any::<u8>().prop_map(Op::Events),
        1 => Just(Op::SaveRestore),
    ]
}

fn step(lapic: &mut Lapic, op: Op, now: Now) {
    match op {
        Op::Mmio(offset, size, value) => {
            let _ = lapic.mmio_write(offset, size, value, now);
        }
        Op::MmioRead(offset, size) => {
            let value = lapic.mmio_read(offset, size, now);
            assert!(size == 4 || u64::from(value) < 1 << (8 * size.min(2)));
        }
        Op::Msr(msr, value) => {
            let _ = lapic.msr_write(msr, value, now);
        }
        Op::MsrRead(msr) => {
            let _ = lapic.msr_read(msr, now);
        }
        Op::Post(vector, level) => {
            let posted = lapic.posted().post(vector, level);
            assert_eq!(posted == Posted::Ignored, !lapic.enabled());
        }
        Op::Cr8(class) => {
            lapic.set_cr8(class);
            assert_eq!(lapic.cr8(), class & 0xf);
        }
        Op::Inject => {
            let before = lapic.isr.highest();
            if let Some(vector) = lapic.highest_pending() {
                assert!(lapic.enabled());
                assert!(before.is_none_or(|before| vector >> 4 > before >> 4));
                assert!(vector >> 4 > lapic.cr8());
                assert!(lapic.accept(vector));
                assert_eq!(lapic.isr.highest(), Some(vector));
                assert_ne!(lapic.highest_pending(), Some(vector));
            }
        }
        Op::Fire => {
            lapic.timer_fired(now);
            assert!(lapic.timer_deadline().is_none_or(|at| at > now.ns));
        }
        Op::Events(page) => {
            lapic.posted().post_startup(page);
            lapic.posted().post_init();
            let events = lapic.posted().take_events();
            assert!(events.init && events.startup.is_none());
            lapic.init();
        }
        Op::SaveRestore => {
            let (hidden, page) = lapic.save(now);
            let mut copy = Lapic::new(lapic.config).unwrap();
            copy.restore(&hidden, &page, now).unwrap();
            assert_eq!(
                (copy.irr, copy.isr, copy.tmr),
                (lapic.irr, lapic.isr, lapic.tmr)
            );
            assert_eq!(
                (copy.svr, copy.lvt, copy.base),
                (lapic.svr, lapic.lvt, lapic.base)
            );
            assert_eq!(copy.posted.info(), lapic.posted.info());
        }
    }
}

fn check(lapic: &Lapic) {
    for set in [&lapic.irr, &lapic.isr, &lapic.tmr] {
        assert_eq!(set.0[0] & 0xffff, 0, "vectors below 16");
    }
    if lapic.svr & SVR_ENABLE == 0 {
        assert!(lapic.lvt.iter().all(|lvt| lvt & LVT_MASKED != 0));
        assert_eq!(lapic.timer_deadline(), None);
    }
    for (lvt, writable) in lapic.lvt.iter().zip(LVT_WRITABLE) {
        assert_eq!(lvt & !writable, 0);
    }
    let info = lapic.posted().info();
    assert_eq!(info.enabled, lapic.enabled());
    assert_eq!(info.x2apic, lapic.x2apic_mode());
    assert_eq!(info.priority, lapic.ppr());
    assert_eq!(u32::from(info.id), lapic.apic_id());
    let mode = lapic.base & (BASE_ENABLE | BASE_X2APIC);
    assert_ne!(mode, BASE_X2APIC);
    assert_eq!(lapic.base & BASE_ADDRESS, XAPIC_BASE);
}

proptest! {
    #[test]
    fn invariants_survive_any_traffic(
        vcpu in 0u32..=MAX_VCPU,
        ops in prop::collection::vec((op(), prop_oneof![9 => 0u64..1_000_000, 1 => any::<u64>()]), 1..80),
    ) {
        let mut lapic = Lapic::new(config(vcpu)).unwrap();
        let _ = lapic.mmio_write(0xf0, 4, 0x1ff, Now::default());
        let mut now = Now::default();
        for (op, passed) in ops {
            now.ns = now.ns.saturating_add(passed);
            now.guest_tsc = now.guest_tsc.wrapping_add(passed);
            step(&mut lapic, op, now);
            check(&lapic);
        }
    }

    #[test]
    fn any_record_restores_to_a_sane_state_or_is_refused(
        base in any::<u64>(),
        tdt_msr in any::<u64>(),
        page in prop::collection::vec(any::<u8>(), 1024),
    ) {
        let mut lapic = Lapic::new(config(1)).unwrap();
        let hidden = HvmHwLapic { apic_base_msr: base, tdt_msr, ..HvmHwLapic::zeroed() };
        let page = HvmHwLapicRegs { data: page.try_into().unwrap() };
        let _ = lapic.restore(&hidden, &page, Now::default());
        check(&lapic);
    }
}
