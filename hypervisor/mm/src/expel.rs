//! Making other CPUs leave a guest, for a flush of its translations.
//!
//! All of them are kicked first, and waited for together: a flush takes as long as the slowest, not
//! as all after one another. Whoever waits may not go on before each has left, for the frames that
//! the flush is about go to others next. So a CPU that is late is not given up: an NMI reaches it
//! where an interrupt does not, and the vcpu that it runs is stopped once it is out.
//!
//! Time counts only as it is seen to pass: a machine that stood still as a whole, as a virtual one
//! does that is paused, was not late.

use oxen_types::{CpuId, CpuMask, MAX_CPUS};

/// The CPUs of the machine, as a flush sees them.
pub trait Cpus {
    /// A number that changes with each entry to a guest, if the CPU is inside the one that is
    /// flushed.
    fn inside(&self, cpu: CpuId) -> Option<u64>;
    /// Makes a CPU leave its guest soon.
    fn kick(&self, cpu: CpuId);
    /// Reaches a CPU that takes no interrupts.
    fn nmi(&self, cpu: CpuId);
    /// The vcpu that the CPU runs is not to enter its guest again.
    fn stop(&self, cpu: CpuId);
    /// The time since some moment before.
    fn now_ns(&self) -> u64;
    /// One turn of a wait: answers what others ask of this CPU meanwhile.
    fn relax(&self);
}

/// The most time that counts as waited between two looks.
const LOOK_NS: u64 = 10_000_000;
const NMI_AFTER_NS: u64 = 1_000_000_000;
const STOP_AFTER_NS: u64 = 5_000_000_000;

/// Makes the CPUs of `others` that are inside leave, and returns when each has left.
pub fn expel(cpus: &impl Cpus, others: impl Iterator<Item = CpuId>) {
    let mut entries = [0; MAX_CPUS];
    let mut late = CpuMask::EMPTY;
    for cpu in others {
        if let (Some(entry), Some(place)) = (cpus.inside(cpu), entries.get_mut(cpu.index())) {
            *place = entry;
            late.add(cpu);
            cpus.kick(cpu);
        }
    }
    let still = |cpu: CpuId| cpus.inside(cpu) == entries.get(cpu.index()).copied();
    let mut patience = Patience::new();
    while let Some(cpu) = late.first() {
        if !still(cpu) {
            late.remove(cpu);
            continue;
        }
        cpus.relax();
        let remedy = patience.look(cpus.now_ns());
        if let Some(remedy) = remedy {
            late.iter()
                .filter(|cpu| still(*cpu))
                .for_each(|cpu| match remedy {
                    Remedy::Nmi => cpus.nmi(cpu),
                    Remedy::Stop => {
                        cpus.stop(cpu);
                        cpus.nmi(cpu);
                    }
                });
        }
    }
}

#[derive(Clone, Copy)]
enum Remedy {
    Nmi,
    Stop,
}

/// How long was waited.
struct Patience {
    last: Option<u64>,
    waited: u64,
    next: u64,
}

impl Patience {
    const fn new() -> Self {
        Self {
            last: None,
            waited: 0,
            next: NMI_AFTER_NS,
        }
    }

    /// The remedy that is due at `now`: the NMI once, then the stop again and again.
    fn look(&mut self, now: u64) -> Option<Remedy> {
        let last = self.last.replace(now).unwrap_or(now);
        self.waited += now.saturating_sub(last).min(LOOK_NS);
        if self.waited < self.next {
            return None;
        }
        if self.next == NMI_AFTER_NS {
            self.next = STOP_AFTER_NS;
            return Some(Remedy::Nmi);
        }
        self.next += STOP_AFTER_NS;
        Some(Remedy::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::{Cell, RefCell};
    use std::vec::Vec;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Did {
        Kick(u32),
        Nmi(u32),
        Stop(u32),
    }

    /// CPUs that are inside until some time after they were kicked, or until an NMI.
    struct Fake {
        /// For each CPU: the entry that it is in, and the turns of the wait until it is out.
        inside: RefCell<Vec<(Option<u64>, u64)>>,
        needs_nmi: Option<u32>,
        stuck: Option<u64>,
        turn_ns: u64,
        /// The whole machine stands still in the first turn.
        pause_ns: u64,
        now: Cell<u64>,
        done: RefCell<Vec<Did>>,
    }

    impl Fake {
        fn new(inside: &[(Option<u64>, u64)]) -> Self {
            Self {
                inside: RefCell::new(inside.to_vec()),
                needs_nmi: None,
                stuck: None,
                turn_ns: 1000,
                pause_ns: 0,
                now: Cell::new(0),
                done: RefCell::default(),
            }
        }

        fn run(&self) -> Vec<Did> {
            let count = self.inside.borrow().len() as u32;
            expel(self, (0..count).map(CpuId));
            assert!(self.inside.borrow().iter().all(|(_, turns)| *turns == 0));
            self.done.borrow().clone()
        }
    }

    impl Cpus for Fake {
        fn inside(&self, cpu: CpuId) -> Option<u64> {
            self.inside.borrow()[cpu.index()].0
        }
        fn kick(&self, cpu: CpuId) {
            assert_eq!(self.now.get(), 0, "all are kicked before any is waited for");
            self.done.borrow_mut().push(Did::Kick(cpu.0));
        }
        fn nmi(&self, cpu: CpuId) {
            self.done.borrow_mut().push(Did::Nmi(cpu.0));
            if self.needs_nmi == Some(cpu.0) {
                self.inside.borrow_mut()[cpu.index()] = (None, 0);
            }
        }
        fn stop(&self, cpu: CpuId) {
            self.done.borrow_mut().push(Did::Stop(cpu.0));
            if self.stuck.is_some() {
                self.inside.borrow_mut()[cpu.index()] = (None, 0);
            }
        }
        fn now_ns(&self) -> u64 {
            self.now.get()
        }
        fn relax(&self) {
            let pause = if self.now.get() == self.turn_ns {
                self.pause_ns
            } else {
                0
            };
            self.now.set(self.now.get() + self.turn_ns + pause);
            for (entry, turns) in self.inside.borrow_mut().iter_mut() {
                match *turns {
                    0 => {}
                    // It leaves, and enters again at once: it has seen the new generation then.
                    1 => (*entry, *turns) = (entry.map(|entry| entry + 1), 0),
                    _ => *turns -= 1,
                }
            }
        }
    }

    #[test]
    fn all_are_kicked_before_any_is_waited_for() {
        let fake = Fake::new(&[(Some(7), 50), (None, 0), (Some(9), 50), (Some(2), 50)]);
        let done = fake.run();
        assert_eq!(done, [Did::Kick(0), Did::Kick(2), Did::Kick(3)]);
        let turns = fake.now.get() / fake.turn_ns;
        assert_eq!(turns, 50, "they leave at the same time");
    }

    #[test]
    fn a_late_cpu_gets_an_nmi() {
        let mut fake = Fake::new(&[(Some(7), 50), (Some(9), u64::MAX)]);
        (fake.needs_nmi, fake.turn_ns) = (Some(1), 1_000_000);
        assert_eq!(fake.run(), [Did::Kick(0), Did::Kick(1), Did::Nmi(1)]);
        assert!(fake.now.get() < 2_000_000_000);
    }

    #[test]
    fn the_vcpu_of_a_cpu_that_is_later_still_is_stopped() {
        let mut fake = Fake::new(&[(Some(9), u64::MAX)]);
        (fake.stuck, fake.turn_ns) = (Some(9), 1_000_000);
        let expected = [Did::Kick(0), Did::Nmi(0), Did::Stop(0), Did::Nmi(0)];
        assert_eq!(fake.run(), expected);
    }

    #[test]
    fn a_machine_that_was_paused_was_not_late() {
        let mut fake = Fake::new(&[(Some(9), 40)]);
        fake.pause_ns = 3_600_000_000_000;
        assert_eq!(fake.run(), [Did::Kick(0)]);
        assert!(fake.now.get() > fake.pause_ns);
    }
}
