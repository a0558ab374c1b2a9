//! From a message to the vcpus that it is for.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::shared::{LapicPosted, Posted};
use crate::dev::message::{Delivery, Message};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shorthand {
    /// The message's destination counts.
    None,
    Itself,
    All,
    Others,
}

/// The IPI that a write of the ICR requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpiRequest {
    pub message: Message,
    pub shorthand: Shorthand,
}

/// The domain's interrupt bus: all of its local APICs, numbered like its vcpus.
pub trait Bus {
    /// The `n`th vcpu's APIC; `None` ends the walk.
    fn lapic(&self, n: usize) -> Option<&LapicPosted>;
    /// Something new waits for vcpu `n`: wake it if it blocks, kick it out of the guest if it runs.
    fn kick(&self, n: usize);
    /// Where the last lowest-priority message went (any value will do at the start).
    fn round_robin(&self) -> &AtomicUsize;
}

/// Sends what an ICR write of vcpu `source` asked for.
pub fn send_ipi<B: Bus + ?Sized>(bus: &B, source: usize, ipi: &IpiRequest) -> bool {
    let message = &ipi.message;
    dispatch(bus, message, |n, lapic| {
        let info = lapic.info();
        info.hw_enabled
            && match ipi.shorthand {
                Shorthand::None => info.matches(message.dest),
                Shorthand::Itself => n == source,
                Shorthand::All => true,
                Shorthand::Others => n != source,
            }
    })
}

/// Sends what an IO-APIC pin or a device signalled. Returns whether any APIC took it.
pub fn deliver<B: Bus + ?Sized>(bus: &B, message: &Message) -> bool {
    dispatch(bus, message, |_, lapic| lapic.info().matches(message.dest))
}

fn dispatch<B: Bus + ?Sized>(
    bus: &B,
    message: &Message,
    selects: impl Fn(usize, &LapicPosted) -> bool,
) -> bool {
    if message.delivery == Delivery::LowestPriority {
        return arbitrate(bus, selects)
            .is_some_and(|n| post(bus, n, |lapic| fixed(lapic, message)));
    }
    let mut taken = false;
    for n in 0.. {
        let Some(lapic) = bus.lapic(n) else { break };
        if !selects(n, lapic) {
            continue;
        }
        taken |= post(bus, n, |lapic| match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => fixed(lapic, message),
            Delivery::Nmi => flagged(lapic.post_nmi()),
            Delivery::Init => flagged(lapic.post_init()),
            Delivery::Startup => flagged(lapic.post_startup(message.vector)),
            // There is no SMM, and no PIC that could answer an ExtINT.
            Delivery::Smi | Delivery::ExtInt => Posted::Ignored,
        });
    }
    taken
}

fn fixed(lapic: &LapicPosted, message: &Message) -> Posted {
    lapic.post(message.vector, message.level)
}

fn flagged(new: bool) -> Posted {
    if new { Posted::New } else { Posted::Merged }
}

fn post<B: Bus + ?Sized>(bus: &B, n: usize, act: impl Fn(&LapicPosted) -> Posted) -> bool {
    let posted = bus.lapic(n).map_or(Posted::Ignored, act);
    if posted == Posted::New {
        bus.kick(n);
    }
    posted != Posted::Ignored
}

/// The enabled addressee with the lowest processor priority; among equals they take turns.
fn arbitrate<B: Bus + ?Sized>(
    bus: &B,
    selects: impl Fn(usize, &LapicPosted) -> bool,
) -> Option<usize> {
    let last = bus.round_robin().load(Ordering::Relaxed);
    let mut best: Option<(u8, bool, usize)> = None;
    for n in 0.. {
        let Some(lapic) = bus.lapic(n) else { break };
        if !lapic.info().enabled || !selects(n, lapic) {
            continue;
        }
        // Those after the last winner come before those up to it.
        let rank = (lapic.info().priority, n <= last, n);
        if best.is_none_or(|best| rank < best) {
            best = Some(rank);
        }
    }
    let (_, _, n) = best?;
    bus.round_robin().store(n, Ordering::Relaxed);
    Some(n)
}
