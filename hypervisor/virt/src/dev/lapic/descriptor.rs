//! The posted-interrupt descriptor (SDM volume 3, 30.6, table 30-1): vectors that wait for a vcpu,
//! in a form that hardware with posted interrupts can take over while the guest runs.
//!
//! A sender sets its vector, then ON; who finds ON clear notifies the CPU named here. That CPU, in
//! the guest, clears ON and moves the vectors into the virtual IRR without an exit. Outside of the
//! guest the notification does nothing: the owner clears ON and merges before each entry, with
//! interrupts off, so that a later one is taken after it.
//!
//! Without such hardware the descriptor is never armed, and only a place where vectors wait.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A notification is on its way (outstanding).
const ON: u64 = 1;
/// No notifications are wanted.
const SN: u64 = 1 << 1;
const VECTOR_SHIFT: u32 = 16;
const DESTINATION_SHIFT: u32 = 32;

#[derive(Default, Debug)]
#[repr(C, align(64))]
pub struct Descriptor {
    pub(super) requests: [AtomicU32; 8],
    /// ON, SN, the notification vector, and the APIC id of the CPU to be notified.
    control: AtomicU64,
    reserved: [u64; 3],
}

impl Descriptor {
    /// Owner: from now on the hardware of the CPU with this APIC id takes requests, if it gets this
    /// vector. In xAPIC mode of the host the id has its place in the second byte.
    pub fn arm(&self, vector: u8, apic_id: u32, x2apic: bool) {
        let destination = if x2apic {
            apic_id
        } else {
            (apic_id & 0xff) << 8
        };
        let word = u64::from(vector) << VECTOR_SHIFT | u64::from(destination) << DESTINATION_SHIFT;
        self.change(|old| old & (ON | SN) | word);
    }

    /// Owner: requests wait for a merge again.
    pub fn disarm(&self) {
        if self.is_armed() {
            self.change(|old| old & (ON | SN));
        }
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        let update = |old| Some(change(old));
        // The hardware and senders change ON meanwhile.
        let _ = self
            .control
            .fetch_update(Ordering::SeqCst, Ordering::Acquire, update);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.control.load(Ordering::SeqCst) >> VECTOR_SHIFT & 0xff != 0
    }

    /// Sender, after its request is set: must it notify the CPU? Not if somebody else is about to.
    pub fn announce(&self) -> bool {
        self.control.fetch_or(ON, Ordering::SeqCst) & (ON | SN) == 0
    }

    pub(super) fn is_announced(&self) -> bool {
        self.control.load(Ordering::Acquire) & ON != 0
    }

    /// Owner, before it takes the requests itself.
    pub(super) fn settle(&self) {
        if self.is_announced() {
            self.control.fetch_and(!ON, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::lapic::tests::config;
    use crate::dev::lapic::{Lapic, LapicImage, Now, Posted};
    use core::mem::offset_of;

    const T0: Now = Now {
        ns: 0,
        guest_tsc: 0,
    };

    fn lapic() -> Lapic {
        let mut lapic = Lapic::new(config(1)).unwrap();
        let _ = lapic.mmio_write(0xf0, 4, 0x1ff, T0);
        let base = lapic.msr_read(0x1b, T0).unwrap();
        let _ = lapic.msr_write(0x1b, base | 1 << 10, T0).unwrap();
        assert!(lapic.suits_hardware());
        lapic
    }

    /// The work of a CPU in the guest at a notification (30.6): clears ON, then moves the requests
    /// to the virtual IRR.
    fn process(lapic: &Lapic, image: &mut LapicImage) {
        let descriptor = lapic.posted().descriptor();
        descriptor.control.fetch_and(!ON, Ordering::SeqCst);
        for (irr, request) in image.irr.iter_mut().zip(&descriptor.requests) {
            *irr |= request.swap(0, Ordering::SeqCst);
        }
    }

    fn bit(sets: &[u32; 8], vector: u8) -> bool {
        sets[usize::from(vector / 32)] >> (vector % 32) & 1 != 0
    }

    #[test]
    fn it_is_laid_out_as_in_the_manual() {
        assert_eq!(size_of::<Descriptor>(), 64);
        assert_eq!(align_of::<Descriptor>(), 64);
        assert_eq!(offset_of!(Descriptor, control), 32);
        let d = Descriptor::default();
        d.arm(0xf4, 0x1_0203, true);
        assert_eq!(d.control.load(Ordering::Relaxed), 0x0001_0203_00f4_0000);
        d.arm(0xf4, 3, false);
        assert_eq!(d.control.load(Ordering::Relaxed), 0x0000_0300_00f4_0000);
        assert!(d.announce());
        d.disarm();
        assert_eq!(d.control.load(Ordering::Relaxed), ON);
    }

    #[test]
    fn one_notification_is_enough_until_somebody_looks() {
        let mut lapic = lapic();
        let posted = lapic.posted().clone();
        posted.descriptor().arm(0xf4, 2, true);
        let mut image = lapic.image();
        assert_eq!(posted.post(0x41, false), Posted::New);
        assert!(posted.hardware_takes_all());
        assert!(posted.descriptor().announce());
        assert_eq!(posted.post(0x82, false), Posted::New);
        assert!(!posted.descriptor().announce());
        process(&lapic, &mut image);
        assert!(bit(&image.irr, 0x41) && bit(&image.irr, 0x82));
        assert!(posted.is_empty());
        // The next one is news again.
        assert_eq!(posted.post(0x41, false), Posted::New);
        assert!(posted.descriptor().announce());
        // This time the CPU was outside of the guest: the owner merges, and nothing is taken twice.
        assert!(lapic.has_news());
        lapic.take(&image);
        let image = lapic.image();
        assert!(bit(&image.irr, 0x41) && !lapic.has_news());
        assert!(posted.is_empty() && !posted.descriptor().is_announced());
    }

    #[test]
    fn a_notification_without_a_request_does_not_silence_the_next() {
        let mut lapic = lapic();
        let posted = lapic.posted().clone();
        posted.descriptor().arm(0xf4, 2, true);
        assert_eq!(posted.post(0x41, false), Posted::New);
        // The owner merges between the sender's two steps.
        assert!(bit(&lapic.image().irr, 0x41));
        assert!(posted.descriptor().announce());
        assert!(lapic.has_news());
        let _ = lapic.image();
        assert!(posted.descriptor().announce());
    }

    #[test]
    fn what_the_hardware_cannot_take_asks_for_an_exit() {
        let mut lapic = lapic();
        let posted = lapic.posted().clone();
        assert!(!posted.hardware_takes_all(), "it is not armed");
        posted.descriptor().arm(0xf4, 2, true);
        assert!(posted.hardware_takes_all());
        // Level-triggered vectors change TMR; so does the first edge after one.
        for level in [true, false] {
            assert_eq!(posted.post(0x51, level), Posted::New);
            assert!(!posted.hardware_takes_all());
            let mut image = LapicImage::default();
            process(&lapic, &mut image);
            assert_eq!(image.irr, [0; 8]);
            assert_eq!(bit(&lapic.image().tmr, 0x51), level);
            assert!(posted.hardware_takes_all());
        }
        assert!(posted.post_nmi() && !posted.hardware_takes_all());
        let _ = posted.take_events();
        assert_eq!(posted.post(3, false), Posted::New);
        assert!(!posted.hardware_takes_all());
        let _ = lapic.image();
        posted.descriptor().disarm();
        assert!(!posted.hardware_takes_all());
    }

    /// A sender on another thread, while the owner's CPU is in and out of the guest: nothing is
    /// lost, although notifications are sent only where one is due.
    #[test]
    fn nothing_is_lost_in_a_race() {
        use core::sync::atomic::AtomicBool;
        const ROUNDS: u32 = if cfg!(miri) { 20 } else { 2_000 };
        let mut lapic = lapic();
        let posted = lapic.posted().clone();
        posted.descriptor().arm(0xf4, 2, true);
        let pending = AtomicBool::new(false);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    assert_eq!(posted.post(0x40 + (round % 64) as u8, false), Posted::New);
                    if posted.descriptor().announce() {
                        pending.store(true, Ordering::SeqCst);
                    }
                    while taken.load(Ordering::SeqCst) != round + 1 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut image = lapic.image();
            let mut count = 0;
            for turn in 0u32.. {
                if turn % 3 == 0 {
                    // An exit and an entry: the interrupt stays pending, and news are merged.
                    lapic.take(&image);
                    if lapic.has_news() {
                        image = lapic.image();
                    }
                } else if pending.swap(false, Ordering::SeqCst) {
                    process(&lapic, &mut image);
                }
                let came: u32 = image.irr.iter().map(|word| word.count_ones()).sum();
                if came != 0 {
                    image.irr = [0; 8];
                    count += came;
                    taken.store(count, Ordering::SeqCst);
                }
                if count == ROUNDS {
                    break;
                }
            }
        });
    }
}
