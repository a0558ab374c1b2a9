//! The registers as guests use them: both modes, routing, priorities, timer, save records.

use core::cell::RefCell;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::SeqCst;
use std::vec::Vec;

use guest_pv_abi::HvmHwLapic;

use super::*;
use crate::dev::message::{Delivery, Destination, Message};

const T0: Now = Now {
    ns: 0,
    guest_tsc: 0,
};

pub(super) fn config(vcpu: u32) -> LapicConfig {
    LapicConfig {
        vcpu,
        tsc_khz: 1_000_000,
        x2apic: true,
    }
}

fn mmio(lapic: &mut Lapic, offset: u32, value: u32) -> Effect {
    lapic.mmio_write(offset, 4, value, T0)
}

fn enabled(vcpu: u32) -> Lapic {
    let mut lapic = Lapic::new(config(vcpu)).unwrap();
    assert_eq!(mmio(&mut lapic, 0xf0, 0x1ff), Effect::Enabled);
    lapic
}

fn in_x2apic(vcpu: u32) -> Lapic {
    let mut lapic = enabled(vcpu);
    let base = lapic.msr_read(0x1b, T0).unwrap();
    assert_eq!(lapic.msr_write(0x1b, base | 1 << 10, T0), Ok(Effect::None));
    lapic
}

struct Domain {
    lapics: Vec<Lapic>,
    kicked: RefCell<Vec<usize>>,
    turn: AtomicUsize,
}

impl Domain {
    fn new(lapics: Vec<Lapic>) -> Self {
        Self {
            lapics,
            kicked: RefCell::default(),
            turn: AtomicUsize::new(0),
        }
    }

    fn kicks(&self) -> Vec<usize> {
        self.kicked.take()
    }

    /// Vcpu `n` writes `value` to its xAPIC ICR, for `dest`.
    fn ipi(&mut self, n: usize, dest: u32, value: u32) -> Vec<usize> {
        let effect = mmio(&mut self.lapics[n], 0x310, dest << 24);
        assert_eq!(effect, Effect::None);
        if let Effect::Ipi(ipi) = mmio(&mut self.lapics[n], 0x300, value) {
            send_ipi(self, n, &ipi);
        }
        self.kicks()
    }
}

impl Bus for Domain {
    fn lapic(&self, n: usize) -> Option<&LapicPosted> {
        self.lapics.get(n).map(|lapic| &**lapic.posted())
    }
    fn kick(&self, n: usize) {
        self.kicked.borrow_mut().push(n);
    }
    fn round_robin(&self) -> &AtomicUsize {
        &self.turn
    }
}

fn fixed(dest: Destination, vector: u8) -> Message {
    Message {
        dest,
        delivery: Delivery::Fixed,
        vector,
        level: false,
    }
}

#[test]
fn reset_state_and_identification() {
    let mut lapic = Lapic::new(config(3)).unwrap();
    assert_eq!(lapic.mmio_read(0x20, 4, T0), 6 << 24);
    assert_eq!(lapic.mmio_read(0x30, 4, T0), 0x0005_0014);
    assert_eq!(lapic.mmio_read(0xf0, 4, T0), 0xff);
    assert_eq!(lapic.mmio_read(0x320, 4, T0), 0x1_0000);
    assert_eq!(lapic.msr_read(0x1b, T0), Ok(0xfee0_0800));
    assert_eq!(
        Lapic::new(config(0)).unwrap().msr_read(0x1b, T0),
        Ok(0xfee0_0900)
    );
    assert!(Lapic::new(config(128)).is_none());
}

#[test]
fn narrow_accesses_stay_within_a_register() {
    let mut lapic = enabled(1);
    assert_eq!(lapic.mmio_read(0x23, 1, T0), 2);
    assert_eq!(lapic.mmio_read(0x22, 2, T0), 0x0200);
    assert_eq!(lapic.mmio_read(0x23, 2, T0), 0);
    let _ = lapic.mmio_write(0x370, 4, 0x0001_0044, T0);
    let _ = lapic.mmio_write(0x370, 1, 0x55, T0);
    assert_eq!(lapic.mmio_read(0x370, 4, T0), 0x0001_0055);
    let _ = lapic.mmio_write(0x374, 4, 0x66, T0);
    assert_eq!(lapic.mmio_read(0x370, 4, T0), 0x0001_0055);
}

#[test]
fn software_disable_masks_and_holds() {
    let mut lapic = enabled(0);
    let _ = mmio(&mut lapic, 0x350, 0x700);
    assert_eq!(lapic.posted().post(0xf3, false), Posted::New);
    assert_eq!(mmio(&mut lapic, 0xf0, 0xff), Effect::None);
    assert_eq!(lapic.mmio_read(0x350, 4, T0), 0x1_0700);
    let _ = mmio(&mut lapic, 0x350, 0x700);
    assert_eq!(lapic.mmio_read(0x350, 4, T0), 0x1_0700);
    assert_eq!(lapic.highest_pending(), None);
    assert_eq!(lapic.posted().post(0xf4, false), Posted::Ignored);
    assert_eq!(mmio(&mut lapic, 0xf0, 0x1ff), Effect::Enabled);
    assert_eq!(mmio(&mut lapic, 0xf0, 0x1ff), Effect::None);
    assert_eq!(lapic.highest_pending(), Some(0xf3));
}

#[test]
fn priorities_nest() {
    let mut lapic = enabled(0);
    lapic.raise(0x41);
    lapic.raise(0x45);
    assert_eq!(lapic.highest_pending(), Some(0x45));
    assert!(lapic.accept(0x45));
    assert_eq!(lapic.highest_pending(), None, "same class must wait");
    lapic.raise(0x51);
    assert_eq!(lapic.highest_pending(), Some(0x51));
    assert!(lapic.accept(0x51));
    assert_eq!(lapic.mmio_read(0xa0, 4, T0), 0x50);
    assert_eq!(mmio(&mut lapic, 0xb0, 0), Effect::None);
    assert_eq!(lapic.mmio_read(0xa0, 4, T0), 0x40);
    let _ = mmio(&mut lapic, 0xb0, 0);
    assert_eq!(lapic.highest_pending(), Some(0x41));
    lapic.set_cr8(4);
    assert_eq!(lapic.highest_pending(), None);
    assert_eq!(lapic.due(), Next::HeldByPriority(4));
    assert_eq!(lapic.due().window(), Window::Priority(4));
    lapic.set_cr8(3);
    assert_eq!(lapic.highest_pending(), Some(0x41));
    assert_eq!(lapic.due(), Next::Take(0x41));
    assert!(lapic.accept(0x41));
    assert_eq!(lapic.due(), Next::Nothing, "EOI is seen");
    lapic.raise(0x43);
    lapic.set_cr8(9);
    assert_eq!(lapic.due(), Next::Nothing, "CR8 alone would not let it in");
    lapic.raise(0x85);
    assert_eq!(lapic.due(), Next::HeldByPriority(8));
    assert!(!lapic.accept(0x99));
}

#[test]
fn level_eoi_is_reported_edge_is_not() {
    let mut lapic = enabled(0);
    lapic.posted().post(0x61, true);
    assert_eq!(lapic.highest_pending(), Some(0x61));
    assert!(lapic.accept(0x61));
    assert_eq!(mmio(&mut lapic, 0xb0, 0), Effect::LevelEoi(0x61));
    lapic.posted().post(0x61, false);
    assert_eq!(lapic.highest_pending(), Some(0x61));
    assert!(lapic.accept(0x61));
    assert_eq!(mmio(&mut lapic, 0xb0, 0), Effect::None);
    assert_eq!(mmio(&mut lapic, 0xb0, 0), Effect::None, "spurious EOI");
}

#[test]
fn posting_coalesces_until_merged() {
    let mut lapic = enabled(0);
    let posted = lapic.posted().clone();
    assert!(posted.is_empty());
    assert_eq!(posted.post(0x31, false), Posted::New);
    assert_eq!(posted.post(0x31, false), Posted::Merged);
    assert!(!posted.is_empty());
    assert_eq!(lapic.highest_pending(), Some(0x31));
    assert!(posted.is_empty());
    assert_eq!(posted.post(0x31, false), Posted::New);
}

#[test]
fn errors_show_after_esr_is_written() {
    let mut lapic = enabled(0);
    let _ = mmio(&mut lapic, 0x370, 0xfe);
    assert_eq!(mmio(&mut lapic, 0x300, 0x5), Effect::None);
    assert_eq!(lapic.highest_pending(), Some(0xfe));
    assert_eq!(lapic.mmio_read(0x280, 4, T0), 0);
    let _ = mmio(&mut lapic, 0x280, 0);
    assert_eq!(lapic.mmio_read(0x280, 4, T0), 1 << 5);
    lapic.posted().post(3, false);
    assert_eq!(lapic.mmio_read(0x500, 4, T0), 0);
    let _ = mmio(&mut lapic, 0x280, 0);
    assert_eq!(lapic.mmio_read(0x280, 4, T0), 1 << 6 | 1 << 7);
    let _ = mmio(&mut lapic, 0x280, 0);
    assert_eq!(lapic.mmio_read(0x280, 4, T0), 0);
}

#[test]
fn xapic_destinations() {
    let mut d = Domain::new((0..4).map(enabled).collect());
    assert_eq!(d.ipi(0, 4, 0x31), [2]);
    assert_eq!(d.ipi(0, 5, 0x32), [0; 0]);
    assert_eq!(d.ipi(0, 0xff, 0x33), [0, 1, 2, 3]);
    assert_eq!(d.ipi(1, 0, 0x8_0034), [0, 1, 2, 3]);
    assert_eq!(d.ipi(1, 0, 0xc_0035), [0, 2, 3]);
    for (n, lapic) in d.lapics.iter_mut().enumerate() {
        let _ = mmio(lapic, 0xd0, 0x0100_0000 << n);
    }
    assert_eq!(d.ipi(0, 0b1010, 0x836), [1, 3]);
    for (n, lapic) in d.lapics.iter_mut().enumerate() {
        let cluster = n as u32 / 2;
        let _ = mmio(lapic, 0xe0, 0x0fff_ffff);
        let _ = mmio(lapic, 0xd0, cluster << 28 | 0x0100_0000 << (n % 2));
    }
    assert_eq!(d.ipi(0, 0x13, 0x837), [2, 3]);
    assert_eq!(d.ipi(0, 0x02, 0x838), [1]);
}

#[test]
fn self_shorthand_needs_no_bus() {
    let mut lapic = enabled(0);
    assert_eq!(mmio(&mut lapic, 0x300, 0x4_00ab), Effect::None);
    assert_eq!(lapic.highest_pending(), Some(0xab));
    assert_eq!(lapic.mmio_read(0x300, 4, T0), 0x4_00ab);
}

#[test]
fn lowest_priority_takes_turns_and_respects_priority() {
    let mut d = Domain::new((0..3).map(enabled).collect());
    for lapic in &mut d.lapics {
        let _ = mmio(lapic, 0xd0, 0xff00_0000);
    }
    assert_eq!(d.ipi(0, 0xff, 0x941), [1]);
    assert_eq!(d.ipi(0, 0xff, 0x942), [2]);
    assert_eq!(d.ipi(0, 0xff, 0x943), [0]);
    d.lapics[1].set_cr8(15);
    d.lapics[2].set_cr8(15);
    assert_eq!(d.ipi(0, 0xff, 0x944), [0]);
}

#[test]
fn init_and_sipi_reach_a_disabled_apic() {
    let mut d = Domain::new(std::vec![enabled(0), Lapic::new(config(1)).unwrap()]);
    assert_eq!(d.ipi(0, 2, 0x31), [0; 0], "fixed needs an enabled target");
    assert_eq!(d.ipi(0, 2, 0xc500), [1]);
    assert_eq!(d.ipi(0, 2, 0x8500), [0; 0], "de-assert is no INIT");
    assert_eq!(d.ipi(0, 2, 0x699), [1]);
    assert_eq!(d.ipi(0, 2, 0x677), [0; 0]);
    let events = d.lapics[1].posted().take_events();
    assert_eq!(
        (events.init, events.startup, events.nmi),
        (true, Some(0x99), false)
    );
    assert_eq!(d.lapics[1].posted().take_events(), Events::default());
    d.lapics[1].posted().post_startup(9);
    d.lapics[1].posted().post_init();
    assert_eq!(d.lapics[1].posted().take_events().startup, None);
    assert_eq!(d.ipi(0, 2, 0x400), [1]);
    assert!(d.lapics[1].posted().take_events().nmi);
}

#[test]
fn x2apic_ids_and_icr() {
    let mut d = Domain::new((0..20).map(in_x2apic).collect());
    assert_eq!(d.lapics[9].msr_read(0x802, T0), Ok(18));
    assert_eq!(d.lapics[9].msr_read(0x80d, T0), Ok(1 << 16 | 1 << 2));
    let send = |d: &mut Domain, value: u64| {
        let effect = d.lapics[0].msr_write(0x830, value, T0).unwrap();
        if let Effect::Ipi(ipi) = effect {
            send_ipi(d, 0, &ipi);
        }
        d.kicks()
    };
    assert_eq!(send(&mut d, 18 << 32 | 0x31), [9]);
    assert_eq!(send(&mut d, 0x0001_0005 << 32 | 0x832), [8, 9]);
    assert_eq!(send(&mut d, 0xffff_ffff << 32 | 0x33).len(), 20);
    assert_eq!(send(&mut d, 0xff << 32 | 0x34), [0; 0]);
    assert_eq!(d.lapics[0].msr_read(0x830, T0), Ok(0xff << 32 | 0x34));
    assert_eq!(d.lapics[0].msr_write(0x83f, 0x77, T0), Ok(Effect::None));
    assert_eq!(d.lapics[0].highest_pending(), Some(0x77));
    assert!(deliver(&d, &fixed(Destination::narrow(18, false), 0x55)));
    assert_eq!(d.kicks(), [9]);
    assert!(!deliver(&d, &fixed(Destination::narrow(17, false), 0x55)));
}

#[test]
fn x2apic_faults() {
    let mut lapic = enabled(0);
    assert_eq!(lapic.msr_read(0x802, T0), Err(GpFault), "not in xAPIC mode");
    assert_eq!(lapic.mmio_offset(0xfee0_0ff0), Some(0xff0));
    let mut lapic = in_x2apic(0);
    assert_eq!(lapic.mmio_offset(0xfee0_0020), None);
    for msr in [
        0x800, 0x809, 0x80b, 0x80c, 0x80e, 0x82f, 0x831, 0x83f, 0x840, 0x8ff,
    ] {
        assert_eq!(lapic.msr_read(msr, T0), Err(GpFault), "{msr:x}");
    }
    for msr in [
        0x802, 0x803, 0x80a, 0x80d, 0x810, 0x820, 0x82f, 0x831, 0x839, 0x8ff,
    ] {
        assert_eq!(lapic.msr_write(msr, 0, T0), Err(GpFault), "{msr:x}");
    }
    for (msr, value) in [
        (0x808, 0x100),
        (0x80b, 1),
        (0x80f, 0x1000),
        (0x828, 1),
        (0x830, 1 << 20),
        (0x832, 1 << 20),
        (0x838, 1 << 32),
        (0x83e, 4),
        (0x83f, 0x100),
    ] {
        assert_eq!(lapic.msr_write(msr, value, T0), Err(GpFault), "{msr:x}");
    }
    assert_eq!(lapic.msr_write(0x80b, 0, T0), Ok(Effect::None));
}

#[test]
fn apic_base_transitions() {
    let mut lapic = enabled(0);
    let mut base = |value| lapic.msr_write(0x1b, value, T0).is_ok();
    assert!(!base(0xfee0_0500), "x2APIC without enable");
    assert!(!base(0xfed0_0900), "moving the page");
    assert!(!base(0xfee0_0901), "reserved bit");
    assert!(base(0xfee0_0d00));
    assert!(!base(0xfee0_0900), "x2APIC back to xAPIC");
    assert!(base(0xfee0_0000));
    assert!(!base(0xfee0_0c00), "disabled to x2APIC");
    assert!(base(0xfee0_0800));
    assert_eq!(lapic.msr_read(0x1b, T0), Ok(0xfee0_0900));
    assert_eq!(lapic.mmio_read(0xf0, 4, T0), 0xff, "all state was lost");
    let mut old = Lapic::new(LapicConfig {
        x2apic: false,
        ..config(0)
    })
    .unwrap();
    assert_eq!(old.msr_write(0x1b, 0xfee0_0d00, T0), Err(GpFault));
}

#[test]
fn the_timer_raises_its_vector() {
    let at = |ns| Now { ns, guest_tsc: ns };
    let mut lapic = enabled(0);
    let _ = mmio(&mut lapic, 0x3e0, 0xb);
    let _ = mmio(&mut lapic, 0x320, 0xec);
    let _ = lapic.mmio_write(0x380, 4, 100, at(5000));
    assert_eq!(lapic.timer_deadline(), Some(6000));
    lapic.timer_fired(at(5999));
    assert_eq!(lapic.highest_pending(), None);
    lapic.timer_fired(at(6000));
    assert_eq!(lapic.highest_pending(), Some(0xec));
    assert_eq!(lapic.timer_deadline(), None);

    let _ = lapic.mmio_write(0x320, 4, 0x4_00ed, at(7000));
    assert_eq!(lapic.msr_write(0x6e0, 9000, at(7000)), Ok(Effect::None));
    assert_eq!(lapic.msr_read(0x6e0, at(7000)), Ok(9000));
    assert_eq!(lapic.timer_deadline(), Some(9000));
    let _ = lapic.mmio_write(0x320, 4, 0x5_00ed, at(7000));
    assert_eq!(lapic.timer_deadline(), None, "masked");
    let _ = lapic.mmio_write(0x320, 4, 0x4_00ed, at(9500));
    assert_eq!(lapic.timer_deadline(), None, "lost under the mask");
    assert_eq!(lapic.msr_write(0x6e0, 1, at(9600)), Ok(Effect::None));
    assert_eq!(lapic.highest_pending(), Some(0xed));
}

#[test]
fn init_keeps_the_mode_and_drops_the_rest() {
    let mut lapic = in_x2apic(2);
    lapic.posted().post(0x99, false);
    lapic.raise(0x98);
    lapic.init();
    assert!(lapic.x2apic_mode());
    assert!(lapic.posted().is_empty());
    assert_eq!(lapic.msr_write(0x80f, 0x1ff, T0), Ok(Effect::Enabled));
    assert_eq!(lapic.highest_pending(), None);
}

#[test]
fn saved_and_restored() {
    let mut old = in_x2apic(1);
    old.raise(0x41);
    assert!(old.accept(0x41));
    old.posted().post(0x91, true);
    old.set_cr8(2);
    let _ = old.msr_write(0x83e, 3, T0);
    let _ = old.msr_write(0x832, 0x4_00ec, T0);
    let _ = old.msr_write(0x6e0, 5000, T0);
    let (hidden, page) = old.save(T0);
    assert_eq!(hidden.apic_base_msr, 0xfee0_0c00);
    assert_eq!((hidden.disabled, hidden.timer_divisor), (0, 16));
    assert_eq!(hidden.tdt_msr, 5000);
    assert_eq!(page.data[0xd0..0xd4], (1u32 << 2).to_le_bytes());

    let mut new = Lapic::new(config(1)).unwrap();
    new.restore(&hidden, &page, T0).unwrap();
    assert_eq!(new.save(T0), (hidden, page));
    assert_eq!(new.timer_deadline(), Some(5000));
    assert_eq!(new.highest_pending(), Some(0x91));
    assert!(new.accept(0x91));
    assert_eq!(new.msr_write(0x80b, 0, T0), Ok(Effect::LevelEoi(0x91)));
    assert!(new.posted().info().enabled);

    let bad = HvmHwLapic {
        apic_base_msr: 0xfee0_0400,
        ..hidden
    };
    assert_eq!(new.restore(&bad, &page, T0), Err(RestoreError));
}

/// Every post that was news must be found by a merge that starts after it.
#[test]
fn nothing_posted_from_other_threads_is_lost() {
    const ROUNDS: u32 = 2000;
    let mut lapic = enabled(0);
    let posted = lapic.posted().clone();
    let (kicks, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let taken = std::thread::scope(|scope| {
        for sender in 0..2u8 {
            let (posted, kicks, done) = (&posted, &kicks, &done);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    // Adjacent vectors: both senders hit the same words.
                    if posted.post(0x40 + sender, sender == 1) == Posted::New {
                        kicks.fetch_add(1, SeqCst);
                    }
                    std::thread::yield_now();
                }
                done.fetch_add(1, SeqCst);
            });
        }
        let mut taken = 0;
        loop {
            // Read first: what was posted before it is then found below.
            let last = done.load(SeqCst) == 2;
            match lapic.highest_pending() {
                Some(vector) => {
                    assert!(lapic.accept(vector));
                    let effect = mmio(&mut lapic, 0xb0, 0);
                    assert_eq!(effect == Effect::LevelEoi(vector), vector == 0x41);
                    taken += 1;
                }
                None if last => break taken,
                None => std::thread::yield_now(),
            }
        }
    });
    assert!(posted.is_empty());
    let kicks = kicks.into_inner();
    assert!(taken >= 2 && kicks >= taken, "{taken} taken, {kicks} kicks");
}
