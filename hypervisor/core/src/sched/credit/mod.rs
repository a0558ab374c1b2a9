//! The credit scheduler: fair by weight, quick to wake (the ideas of Xen's credit2).
//!
//! Running burns credit, the faster the smaller the weight; the unit with most credit runs next.
//! When the best unit has none left, all units get a new allotment. A unit that slept keeps its
//! credit up to one allotment, so a unit that wakes preempts one that has burned more by then.
//!
//! The run queue is a list through the units themselves, so queueing never allocates: nothing but
//! [`Credit::add`] can fail.

use alloc::vec::Vec;
use core::fmt;

use oxen_types::{CpuId, CpuMask, Errno, Result};

use super::{Affinity, Decision, Resched, Share, UnitId};
use crate::fallible::{Account, Paged};

/// XEN_SCHEDULER_CREDIT2: toolstacks show it by that name.
const ABI_ID: u32 = 6;

/// An allotment of credit: what a unit of the default weight burns in as many ns.
const ALLOTMENT: i64 = 10_000_000;
/// The running time, in ns, that a unit can owe. What it ran beyond that while no other unit waited
/// for its CPU is forgiven. Far more than a slice: else a unit of small weight, which burns fast,
/// would gain by each timer that comes late.
const LONGEST_DEBT: i64 = 50_000_000;
const LONGEST_SLICE: u64 = 10_000_000;
const SHORTEST_SLICE: u64 = 500_000;
/// The time that a unit runs before one that wakes may interrupt it: else a unit that sleeps and
/// wakes all the time would leave others nothing but switches.
const RATE_LIMIT: u64 = SHORTEST_SLICE;
/// A unit that wakes must be ahead by this much to interrupt another.
const PREEMPT_MARGIN: i64 = 500_000;
const DEFAULT_WEIGHT: i64 = 256;
/// The period over which a cap is enforced, in ns.
const CAP_PERIOD: u64 = 100_000_000;
/// The most units that there can be.
const MOST_UNITS: usize = 1 << 16;

/// Where a unit stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Asleep,
    /// In the run queue, between these units.
    Queued {
        before: Option<u32>,
        after: Option<u32>,
    },
    Running(CpuId),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asleep => f.write_str("Asleep"),
            Self::Queued { .. } => f.write_str("Queued"),
            Self::Running(cpu) => write!(f, "Running({cpu:?})"),
        }
    }
}

struct Unit<T> {
    payload: T,
    share: Share,
    affinity: Affinity,
    credit: i64,
    place: Place,
    /// The unit may go on running after its CPU has rescheduled.
    runnable: bool,
    /// The unit has been charged up to this time.
    since: u64,
    /// When its CPU switched to the unit, from another unit or from idling.
    started: u64,
    /// The unit gave way: the rate limit does not hold for it.
    yields: bool,
    /// Cap: the period that `used` counts in, and the time the unit ran in that period.
    period: u64,
    used: u64,
}

/// The policy's state: all units, the run queue, and what each CPU runs.
pub struct Credit<T> {
    units: Paged<Option<Unit<T>>>,
    count: usize,
    /// The run queue's ends: units that are runnable and do not run, in the order of their coming.
    first: Option<u32>,
    last: Option<u32>,
    cpus: Vec<Option<u32>>,
    /// CPUs that were notified to reschedule and have not done so yet.
    notified: CpuMask,
}

impl<T: Clone> Unit<T> {
    /// The credit that the unit burns when it runs so many ns.
    fn cost(&self, ran: i64) -> i64 {
        ran.saturating_mul(DEFAULT_WEIGHT) / i64::from(self.share.weight.max(1))
    }

    fn burn(&mut self, now: u64) {
        let ran = now.saturating_sub(self.since);
        self.since = now;
        let cost = self.cost(i64::try_from(ran).unwrap_or(i64::MAX));
        self.credit = self.credit.saturating_sub(cost);
        let period = now / CAP_PERIOD;
        if period != self.period {
            self.period = period;
            self.used = 0;
        }
        self.used = self.used.saturating_add(ran);
    }

    fn allowance(&self) -> u64 {
        if self.share.cap == 0 {
            u64::MAX
        } else {
            CAP_PERIOD / 100 * u64::from(self.share.cap)
        }
    }

    /// `now`, or the later time at which the unit has run as long as the rate limit protects it.
    fn may_be_interrupted_at(&self, now: u64) -> u64 {
        if self.yields {
            now
        } else {
            now.max(self.started.saturating_add(RATE_LIMIT))
        }
    }

    /// The time that the cap leaves the unit in this period.
    fn left(&self, now: u64) -> u64 {
        let used = if now / CAP_PERIOD == self.period {
            self.used
        } else {
            0
        };
        self.allowance().saturating_sub(used)
    }
}

/// Parts of the decisions.
impl<T: Clone> Credit<T> {
    fn unit(&self, index: u32) -> Option<&Unit<T>> {
        self.units.get(index as usize)?.as_ref()
    }

    fn unit_mut(&mut self, index: u32) -> Option<&mut Unit<T>> {
        self.units.get_mut(index as usize)?.as_mut()
    }

    /// The units of the run queue, the one that waits longest first.
    fn queued(&self) -> impl Iterator<Item = (u32, &Unit<T>)> {
        let mut next = self.first;
        core::iter::from_fn(move || {
            let index = next?;
            let unit = self.unit(index)?;
            next = match unit.place {
                Place::Queued { after, .. } => after,
                _ => None,
            };
            Some((index, unit))
        })
    }

    /// Puts a unit that is not queued at the end of the run queue.
    fn enqueue(&mut self, index: u32) {
        let before = self.last;
        let Some(unit) = self.unit_mut(index) else {
            return;
        };
        unit.place = Place::Queued {
            before,
            after: None,
        };
        self.set_after(before, Some(index));
        self.last = Some(index);
    }

    /// Takes a unit out of the run queue, if it is there, and leaves it asleep.
    fn unqueue(&mut self, index: u32) {
        let Some(unit) = self.unit_mut(index) else {
            return;
        };
        let Place::Queued { before, after } = unit.place else {
            return;
        };
        unit.place = Place::Asleep;
        self.set_after(before, after);
        self.set_before(after, before);
    }

    fn set_after(&mut self, index: Option<u32>, to: Option<u32>) {
        match index {
            None => self.first = to,
            Some(index) => {
                if let Some(unit) = self.unit_mut(index)
                    && let Place::Queued { after, .. } = &mut unit.place
                {
                    *after = to;
                }
            }
        }
    }

    fn set_before(&mut self, index: Option<u32>, to: Option<u32>) {
        match index {
            None => self.last = to,
            Some(index) => {
                if let Some(unit) = self.unit_mut(index)
                    && let Place::Queued { before, .. } = &mut unit.place
                {
                    *before = to;
                }
            }
        }
    }

    /// The CPUs that run nothing and have not been notified.
    fn idle(&self) -> CpuMask {
        let mut idle = CpuMask::EMPTY;
        for (cpu, running) in self.cpus.iter().enumerate() {
            if running.is_none() {
                idle.add(CpuId(cpu as u32));
            }
        }
        idle.without(self.notified)
    }

    /// An idle CPU for a unit: one that the unit prefers, else any that it may run on.
    fn place(affinity: Affinity, idle: CpuMask) -> Option<CpuId> {
        let may = affinity.hard.and(idle);
        may.and(affinity.soft).first().or(may.first())
    }

    /// Picks an idle CPU that a queued unit may run on, and counts it as notified.
    fn notify_idle(&mut self, now: u64) -> Option<CpuId> {
        let idle = self.idle();
        let cpu = self
            .queued()
            .filter(|(_, unit)| unit.left(now) > 0)
            .find_map(|(_, unit)| Self::place(unit.affinity, idle))?;
        self.notified.add(cpu);
        Some(cpu)
    }

    /// Whether the unit prefers another CPU, which is idle, to this one.
    fn prefers_another(unit: &Unit<T>, cpu: CpuId, idle: CpuMask) -> bool {
        let preferred = unit.affinity.hard.and(unit.affinity.soft);
        !preferred.contains(cpu) && !preferred.and(idle).is_empty()
    }

    /// The queued unit with most credit that may run on `cpu` now; among equals the one that waits
    /// longest.
    fn best(&self, cpu: CpuId, now: u64) -> Option<(u32, &Unit<T>)> {
        let idle = self.idle();
        let may_run = |unit: &Unit<T>| {
            unit.affinity.hard.contains(cpu)
                && unit.left(now) > 0
                && !Self::prefers_another(unit, cpu, idle)
        };
        let mut best: Option<(u32, &Unit<T>)> = None;
        for (index, unit) in self.queued().filter(|(_, unit)| may_run(unit)) {
            if best.is_none_or(|(_, best)| unit.credit > best.credit) {
                best = Some((index, unit));
            }
        }
        best
    }

    /// The CPU whose unit a waking unit with `credit` may interrupt first; among equals the CPU
    /// whose unit has least credit.
    fn weakest(&self, may: CpuMask, credit: i64, now: u64) -> Option<Resched> {
        let candidate = |cpu: CpuId| {
            let unit = self.unit(*self.cpus.get(cpu.index())?.as_ref()?)?;
            let ran = i64::try_from(now.saturating_sub(unit.since)).unwrap_or(i64::MAX);
            let left = unit.credit.saturating_sub(unit.cost(ran));
            let ahead = credit > left.saturating_add(PREEMPT_MARGIN);
            ahead.then(|| (unit.may_be_interrupted_at(now), left, cpu))
        };
        let cpus = (0..self.cpus.len() as u32).map(CpuId);
        let (at, _, cpu) = cpus
            .filter(|cpu| may.contains(*cpu))
            .filter_map(candidate)
            .min()?;
        Some(Resched { cpu, at })
    }

    /// The unit that goes on running on `cpu`, whatever waits, because the rate limit protects it;
    /// and until when.
    fn keeps_its_cpu(&mut self, cpu: CpuId, now: u64) -> Option<(T, u64)> {
        let index = *self.cpus.get(cpu.index())?.as_ref()?;
        let idle = self.idle();
        let unit = self.unit_mut(index)?;
        let until = unit.may_be_interrupted_at(now);
        if !unit.runnable || until <= now {
            return None;
        }
        unit.burn(now);
        let left = unit.left(now);
        let stays =
            unit.affinity.hard.contains(cpu) && left > 0 && !Self::prefers_another(unit, cpu, idle);
        stays.then(|| (unit.payload.clone(), until.min(now.saturating_add(left))))
    }

    /// Gives every unit a new allotment. Debt stays, up to a limit; unspent credit is lost.
    fn reset_credit(&mut self) {
        for unit in self.units.iter_mut().flatten() {
            let debt = unit.cost(LONGEST_DEBT);
            unit.credit = unit.credit.clamp(-debt, 0).saturating_add(ALLOTMENT);
        }
    }

    /// Takes the running unit off `cpu`, and queues it if it is still runnable.
    fn put_back(&mut self, cpu: CpuId, now: u64) {
        let Some(index) = self.cpus.get_mut(cpu.index()).and_then(Option::take) else {
            return;
        };
        let Some(unit) = self.unit_mut(index) else {
            return;
        };
        unit.burn(now);
        unit.place = Place::Asleep;
        if unit.runnable {
            self.enqueue(index);
        }
    }
}

/// The functions that the scheduler calls, under its lock. Times are ns since boot.
impl<T: Clone> Credit<T> {
    /// A policy for so many CPUs, without units. Allocates: only while the machine boots.
    pub fn new(cpus: usize) -> Self {
        Self {
            units: Paged::new(MOST_UNITS),
            count: 0,
            first: None,
            last: None,
            cpus: (0..cpus.max(1)).map(|_| None).collect(),
            notified: CpuMask::EMPTY,
        }
    }

    /// The policy's number in the public headers, XEN_SCHEDULER_*.
    pub fn abi_id(&self) -> u32 {
        ABI_ID
    }

    /// Adds a unit that sleeps.
    ///
    /// # Errors
    /// `NoMem` if there is no memory for one more, or no number.
    pub fn add(&mut self, payload: T, share: Share) -> Result<UnitId> {
        let unit = Unit {
            payload,
            share,
            affinity: Affinity::ANY,
            credit: ALLOTMENT,
            place: Place::Asleep,
            runnable: false,
            since: 0,
            started: 0,
            yields: false,
            period: 0,
            used: 0,
        };
        let free = self.units.iter().find(|(_, place)| place.is_none());
        let index = free.map_or(self.count, |(index, _)| index);
        self.units.ensure(index, &Account::machine(), || None)?;
        *self.units.get_mut(index).ok_or(Errno::NoMem)? = Some(unit);
        self.count += 1;
        Ok(UnitId(index))
    }

    /// Forgets a unit.
    pub fn remove(&mut self, UnitId(index): UnitId) {
        self.unqueue(index as u32);
        for running in &mut self.cpus {
            if *running == Some(index as u32) {
                *running = None;
            }
        }
        if let Some(slot) = self.units.get_mut(index)
            && slot.take().is_some()
        {
            self.count -= 1;
        }
    }

    /// The time, in ns, that a unit runs before one that wakes may interrupt it.
    pub fn rate_limit(&self) -> u64 {
        RATE_LIMIT
    }

    /// Makes a unit runnable. Returns the CPU that should reschedule, if one should: an idle one,
    /// or one that runs less urgent work.
    pub fn wake(&mut self, UnitId(index): UnitId, now: u64) -> Option<Resched> {
        let index = index as u32;
        let unit = self.unit_mut(index)?;
        unit.runnable = true;
        if unit.place != Place::Asleep {
            return None;
        }
        let (credit, affinity) = (unit.credit, unit.affinity);
        self.enqueue(index);
        let resched = match Self::place(affinity, self.idle()) {
            Some(cpu) => Resched { cpu, at: now },
            None => self.weakest(affinity.hard, credit, now)?,
        };
        if resched.at <= now {
            self.notified.add(resched.cpu);
        }
        Some(resched)
    }

    /// Makes a unit no longer runnable. It may still run on a CPU, which reschedules soon.
    pub fn sleep(&mut self, UnitId(index): UnitId) {
        if let Some(unit) = self.unit_mut(index as u32) {
            unit.runnable = false;
            self.unqueue(index as u32);
        }
    }

    /// The unit that runs on `cpu` falls just behind the best of those that wait.
    pub fn give_way(&mut self, cpu: CpuId, now: u64) {
        let Some(best) = self.best(cpu, now).map(|(_, unit)| unit.credit) else {
            return;
        };
        if let Some(index) = self.cpus.get(cpu.index()).copied().flatten()
            && let Some(unit) = self.unit_mut(index)
        {
            unit.burn(now);
            unit.credit = unit.credit.min(best.saturating_sub(1));
            unit.yields = true;
        }
    }

    /// Decides what `cpu` runs from now on, and charges what ran there until now.
    pub fn pick(&mut self, cpu: CpuId, now: u64) -> Decision<T> {
        self.notified.remove(cpu);
        if let Some((payload, until)) = self.keeps_its_cpu(cpu, now) {
            return Decision {
                next: Some(payload),
                until,
                resched: self.notify_idle(now),
            };
        }
        let before = self.cpus.get(cpu.index()).copied().flatten();
        self.put_back(cpu, now);
        let mut best = self
            .best(cpu, now)
            .map(|(index, unit)| (index, unit.credit));
        if best.is_some_and(|(_, credit)| credit <= 0) {
            self.reset_credit();
            best = self
                .best(cpu, now)
                .map(|(index, unit)| (index, unit.credit));
        }
        let (next, until) = match best {
            Some((index, _)) => self.switch_to(index, before, cpu, now),
            // A capped unit gets its next allowance with the next period.
            None if self.first.is_some() => (None, (now / CAP_PERIOD + 1) * CAP_PERIOD),
            None => (None, u64::MAX),
        };
        let resched = self.notify_idle(now);
        Decision {
            next,
            until,
            resched,
        }
    }

    /// Runs a queued unit on `cpu`, where `before` ran; returns it and the end of its slice.
    fn switch_to(
        &mut self,
        index: u32,
        before: Option<u32>,
        cpu: CpuId,
        now: u64,
    ) -> (Option<T>, u64) {
        self.unqueue(index);
        let rival = self.best(cpu, now).map(|(_, unit)| unit.credit);
        if let Some(running) = self.cpus.get_mut(cpu.index()) {
            *running = Some(index);
        }
        let Some(unit) = self.unit_mut(index) else {
            return (None, u64::MAX);
        };
        unit.place = Place::Running(cpu);
        unit.since = now;
        unit.yields = false;
        if before != Some(index) {
            unit.started = now;
        }
        // Alone, a unit runs for the longest slice; else until it has burned its lead.
        let slice = match rival {
            None => LONGEST_SLICE,
            Some(rival) => {
                let ahead = u64::try_from(unit.credit.saturating_sub(rival)).unwrap_or(0);
                let weight = u64::from(unit.share.weight.max(1));
                (ahead.saturating_mul(weight) / DEFAULT_WEIGHT as u64)
                    .clamp(SHORTEST_SLICE, LONGEST_SLICE)
            }
        };
        let slice = slice.min(unit.left(now)).max(1);
        (Some(unit.payload.clone()), now.saturating_add(slice))
    }

    /// Sets a unit's weight and cap.
    pub fn set_share(&mut self, unit: UnitId, share: Share) {
        if let Some(unit) = self.unit_mut(unit.0 as u32) {
            unit.share = share;
        }
    }

    /// A unit's weight and cap.
    pub fn share(&self, UnitId(index): UnitId) -> Share {
        self.unit(index as u32)
            .map_or(Share::default(), |unit| unit.share)
    }

    /// Restricts a unit to `affinity.hard` from now on. Returns the CPU that should reschedule, if
    /// one should: the CPU runs the unit and may not, or it idles and the unit waits.
    pub fn set_affinity(
        &mut self,
        UnitId(index): UnitId,
        affinity: Affinity,
        now: u64,
    ) -> Option<CpuId> {
        let unit = self.unit_mut(index as u32)?;
        unit.affinity = affinity;
        match unit.place {
            Place::Asleep => None,
            Place::Queued { .. } => self.notify_idle(now),
            Place::Running(cpu) => {
                let unit = self.unit(index as u32)?;
                let leaves =
                    !affinity.hard.contains(cpu) || Self::prefers_another(unit, cpu, self.idle());
                leaves.then_some(cpu)
            }
        }
    }

    /// The CPUs on which a unit runs.
    pub fn affinity(&self, UnitId(index): UnitId) -> Affinity {
        self.unit(index as u32)
            .map_or(Affinity::ANY, |unit| unit.affinity)
    }

    /// Writes the units that do not sleep, for the `r` debug key.
    pub fn dump(&self, out: &mut dyn fmt::Write) {
        for (index, unit) in self.units.iter() {
            if let Some(unit) = unit
                && unit.place != Place::Asleep
            {
                let _ = writeln!(
                    out,
                    "  unit {index} {:?} credit {} {:?}",
                    unit.place, unit.credit, unit.share
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
