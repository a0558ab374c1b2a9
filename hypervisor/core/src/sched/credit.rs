//! The credit scheduler: fair by weight, quick to wake (the ideas of Xen's credit2).
//!
//! Running burns credit, the faster the smaller the weight; who has most credit runs next. When
//! the one in front has none left, everybody gets a fresh helping. What slept keeps its credit up to one
//! helping, so a unit that wakes preempts one that has burned more by then.

use alloc::vec::Vec;

use oxen_types::{CpuId, CpuMask, Errno, Result};

use super::{Affinity, Decision, Look, Scheduler, Share, UnitId};
use crate::fallible::{self, Account, Paged};

/// XEN_SCHEDULER_CREDIT2: toolstacks show it by that name.
const ABI_ID: u32 = 6;

/// A helping of credit: what a unit of the default weight burns in as many ns.
const HELPING: i64 = 10_000_000;
/// So much of its running time, in ns, a unit can owe; what it ran beyond that while nobody else wanted its
/// CPU is forgiven. Far more than a slice: else a unit of small weight, which burns fast, would gain by each
/// timer that comes late.
const LONGEST_DEBT: i64 = 50_000_000;
const LONGEST_SLICE: u64 = 10_000_000;
const SHORTEST_SLICE: u64 = 500_000;
/// A unit runs for so long before one that wakes interrupts it: else whoever sleeps and wakes all the time
/// would leave others nothing but switches.
const RATE_LIMIT: u64 = SHORTEST_SLICE;
/// A unit that wakes must be ahead by this much to interrupt another.
const PREEMPT_MARGIN: i64 = 500_000;
const DEFAULT_WEIGHT: i64 = 256;
/// A cap is kept over this period.
const CAP_PERIOD: u64 = 100_000_000;
/// Units that there can be.
const MOST_UNITS: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Asleep,
    Queued,
    Running(CpuId),
}

struct Unit<T> {
    payload: T,
    share: Share,
    affinity: Affinity,
    credit: i64,
    place: Place,
    /// It may go on running after its CPU asks again.
    runnable: bool,
    /// It has been charged up to here.
    since: u64,
    /// When its CPU took it, from another unit or from idling.
    started: u64,
    /// It gave way: the rate limit does not hold for it.
    yields: bool,
    /// Cap: the period it is in, and what it ran in that.
    period: u64,
    used: u64,
}

pub struct Credit<T> {
    units: Paged<Option<Unit<T>>>,
    count: usize,
    /// Runnable and not running, in no order: few are, at any moment.
    queue: Vec<usize>,
    cpus: Vec<Option<usize>>,
    /// CPUs that were told to look and have not yet.
    told: CpuMask,
}

impl<T: Clone> Unit<T> {
    /// The credit that it burns when it runs so many ns.
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

    /// `now`, or when it has run as long as the rate limit lets it.
    fn may_be_interrupted_at(&self, now: u64) -> u64 {
        if self.yields {
            now
        } else {
            now.max(self.started.saturating_add(RATE_LIMIT))
        }
    }

    /// Time that the cap leaves it in this period.
    fn left(&self, now: u64) -> u64 {
        let used = if now / CAP_PERIOD == self.period {
            self.used
        } else {
            0
        };
        self.allowance().saturating_sub(used)
    }
}

impl<T: Clone> Credit<T> {
    pub fn new(cpus: usize) -> Self {
        Self {
            units: Paged::new(MOST_UNITS),
            count: 0,
            queue: Vec::new(),
            cpus: (0..cpus.max(1)).map(|_| None).collect(),
            told: CpuMask::EMPTY,
        }
    }

    fn unit(&self, index: usize) -> Option<&Unit<T>> {
        self.units.get(index)?.as_ref()
    }

    fn unit_mut(&mut self, index: usize) -> Option<&mut Unit<T>> {
        self.units.get_mut(index)?.as_mut()
    }

    fn unqueue(&mut self, index: usize) {
        self.queue.retain(|&queued| queued != index);
    }

    /// CPUs that run nothing and have not been told to look.
    fn idle(&self) -> CpuMask {
        let mut idle = CpuMask::EMPTY;
        for (cpu, running) in self.cpus.iter().enumerate() {
            if running.is_none() {
                idle.add(CpuId(cpu as u32));
            }
        }
        idle.without(self.told)
    }

    /// An idle CPU for a unit: one where it had better run, or any that it may run on.
    fn place(affinity: Affinity, idle: CpuMask) -> Option<CpuId> {
        let may = affinity.hard.and(idle);
        may.and(affinity.soft).first().or(may.first())
    }

    /// Tells an idle CPU about something that waits and may run there.
    fn tell(&mut self, now: u64) -> Option<CpuId> {
        let idle = self.idle();
        let waiting = self.queue.iter().filter_map(|index| self.unit(*index));
        let cpu = waiting
            .filter(|unit| unit.left(now) > 0)
            .find_map(|unit| Self::place(unit.affinity, idle))?;
        self.told.add(cpu);
        Some(cpu)
    }

    /// Had it better wait for another CPU, which is idle, than run here?
    fn better_elsewhere(unit: &Unit<T>, cpu: CpuId, idle: CpuMask) -> bool {
        let preferred = unit.affinity.hard.and(unit.affinity.soft);
        !preferred.contains(cpu) && !preferred.and(idle).is_empty()
    }

    /// The queued unit with most credit that may run on `cpu` now.
    fn best(&self, cpu: CpuId, now: u64) -> Option<usize> {
        let idle = self.idle();
        let may_run = |&index: &usize| {
            self.unit(index).is_some_and(|unit| {
                unit.affinity.hard.contains(cpu)
                    && unit.left(now) > 0
                    && !Self::better_elsewhere(unit, cpu, idle)
            })
        };
        let credit = |&index: &usize| self.unit(index).map_or(i64::MIN, |unit| unit.credit);
        // Among equals the one that waits longest comes first.
        let mut best = None;
        for index in self.queue.iter().copied().filter(may_run) {
            if best.is_none_or(|b| credit(&index) > credit(&b)) {
                best = Some(index);
            }
        }
        best
    }

    /// The CPU whose unit one with `credit` may interrupt first; among equals that with least credit.
    fn weakest(&self, may: CpuMask, credit: i64, now: u64) -> Option<Look> {
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
        Some(Look { cpu, at })
    }

    /// The unit that goes on running on `cpu`, whoever waits, as it has not run for long; and until when.
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
        let stays = unit.affinity.hard.contains(cpu)
            && left > 0
            && !Self::better_elsewhere(unit, cpu, idle);
        stays.then(|| (unit.payload.clone(), until.min(now.saturating_add(left))))
    }

    fn new_helping(&mut self) {
        for unit in self.units.iter_mut().flatten() {
            let debt = unit.cost(LONGEST_DEBT);
            unit.credit = unit.credit.clamp(-debt, 0).saturating_add(HELPING);
        }
    }

    /// Takes what runs on `cpu` off it; it queues if it is still runnable.
    fn put_back(&mut self, cpu: CpuId, now: u64) {
        let Some(index) = self.cpus.get_mut(cpu.index()).and_then(Option::take) else {
            return;
        };
        let Some(unit) = self.unit_mut(index) else {
            return;
        };
        unit.burn(now);
        if unit.runnable {
            unit.place = Place::Queued;
            self.queue.push(index);
        } else {
            unit.place = Place::Asleep;
        }
    }
}

impl<T: Clone + Send> Scheduler<T> for Credit<T> {
    fn name(&self) -> &'static str {
        "credit2"
    }

    fn abi_id(&self) -> u32 {
        ABI_ID
    }

    fn add(&mut self, payload: T, share: Share) -> Result<UnitId> {
        let unit = Unit {
            payload,
            share,
            affinity: Affinity::ANY,
            credit: HELPING,
            place: Place::Asleep,
            runnable: false,
            since: 0,
            started: 0,
            yields: false,
            period: 0,
            used: 0,
        };
        // Each unit may be queued.
        fallible::reserve(&mut self.queue, self.count + 1)?;
        let free = self.units.iter().find(|(_, place)| place.is_none());
        let index = free.map_or(self.count, |(index, _)| index);
        self.units.ensure(index, &Account::machine(), || None)?;
        *self.units.get_mut(index).ok_or(Errno::NoMem)? = Some(unit);
        self.count += 1;
        Ok(UnitId(index))
    }

    fn remove(&mut self, unit: UnitId) {
        self.unqueue(unit.0);
        for running in &mut self.cpus {
            if *running == Some(unit.0) {
                *running = None;
            }
        }
        if let Some(slot) = self.units.get_mut(unit.0)
            && slot.take().is_some()
        {
            self.count -= 1;
        }
    }

    fn rate_limit(&self) -> u64 {
        RATE_LIMIT
    }

    fn wake(&mut self, UnitId(index): UnitId, now: u64) -> Option<Look> {
        let unit = self.unit_mut(index)?;
        unit.runnable = true;
        if unit.place != Place::Asleep {
            return None;
        }
        unit.place = Place::Queued;
        let (credit, affinity) = (unit.credit, unit.affinity);
        self.queue.push(index);
        let look = match Self::place(affinity, self.idle()) {
            Some(cpu) => Look { cpu, at: now },
            None => self.weakest(affinity.hard, credit, now)?,
        };
        if look.at <= now {
            self.told.add(look.cpu);
        }
        Some(look)
    }

    fn sleep(&mut self, UnitId(index): UnitId, _now: u64) {
        let Some(unit) = self.unit_mut(index) else {
            return;
        };
        unit.runnable = false;
        if unit.place == Place::Queued {
            unit.place = Place::Asleep;
            self.unqueue(index);
        }
    }

    fn give_way(&mut self, cpu: CpuId, now: u64) {
        // It goes just behind the best of those that wait.
        let Some(best) = self
            .best(cpu, now)
            .and_then(|index| self.unit(index))
            .map(|unit| unit.credit)
        else {
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

    fn pick(&mut self, cpu: CpuId, now: u64) -> Decision<T> {
        self.told.remove(cpu);
        if let Some((payload, until)) = self.keeps_its_cpu(cpu, now) {
            return Decision {
                next: Some(payload),
                until,
                tell: self.tell(now),
            };
        }
        let before = self.cpus.get(cpu.index()).copied().flatten();
        self.put_back(cpu, now);
        let Some(mut index) = self.best(cpu, now) else {
            // A capped unit gets its next allowance with the next period.
            let until = if self.queue.is_empty() {
                u64::MAX
            } else {
                (now / CAP_PERIOD + 1) * CAP_PERIOD
            };
            let tell = self.tell(now);
            return Decision {
                next: None,
                until,
                tell,
            };
        };
        if self.unit(index).is_some_and(|unit| unit.credit <= 0) {
            self.new_helping();
            index = self.best(cpu, now).unwrap_or(index);
        }
        self.unqueue(index);
        let rival = self
            .best(cpu, now)
            .and_then(|index| self.unit(index))
            .map(|unit| unit.credit);
        if let Some(running) = self.cpus.get_mut(cpu.index()) {
            *running = Some(index);
        }
        let tell = self.tell(now);
        let Some(unit) = self.unit_mut(index) else {
            return Decision {
                next: None,
                until: u64::MAX,
                tell,
            };
        };
        unit.place = Place::Running(cpu);
        unit.since = now;
        unit.yields = false;
        if before != Some(index) {
            unit.started = now;
        }
        // Alone, it runs as long as it likes; else until it has burned what it is ahead by.
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
        Decision {
            next: Some(unit.payload.clone()),
            until: now.saturating_add(slice),
            tell,
        }
    }

    fn set_share(&mut self, unit: UnitId, share: Share) {
        if let Some(unit) = self.unit_mut(unit.0) {
            unit.share = share;
        }
    }

    fn share(&self, unit: UnitId) -> Share {
        self.unit(unit.0)
            .map_or(Share::default(), |unit| unit.share)
    }

    fn set_affinity(
        &mut self,
        UnitId(index): UnitId,
        affinity: Affinity,
        now: u64,
    ) -> Option<CpuId> {
        let unit = self.unit_mut(index)?;
        unit.affinity = affinity;
        match unit.place {
            Place::Asleep => None,
            Place::Queued => self.tell(now),
            Place::Running(cpu) => {
                let unit = self.unit(index)?;
                let leaves =
                    !affinity.hard.contains(cpu) || Self::better_elsewhere(unit, cpu, self.idle());
                leaves.then_some(cpu)
            }
        }
    }

    fn affinity(&self, unit: UnitId) -> Affinity {
        self.unit(unit.0)
            .map_or(Affinity::ANY, |unit| unit.affinity)
    }

    fn dump(&self, out: &mut dyn core::fmt::Write) {
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
