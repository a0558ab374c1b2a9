//! The credit scheduler: fair by weight, quick to wake (the ideas of Xen's credit2).
//!
//! Running burns credit, the faster the smaller the weight; who has most credit runs next. When
//! the one in front has none left, everybody gets a fresh helping. What slept keeps its credit up to one
//! helping, so a unit that wakes preempts one that has burned more by then.

use alloc::vec::Vec;

use oxen_types::CpuId;

use super::{Decision, Scheduler, Share, UnitId};

/// XEN_SCHEDULER_CREDIT2: toolstacks show it by that name.
const ABI_ID: u32 = 6;

/// A helping of credit: what a unit of the default weight burns in as many ns.
const HELPING: i64 = 10_000_000;
const LONGEST_SLICE: u64 = 10_000_000;
const SHORTEST_SLICE: u64 = 500_000;
/// A unit that wakes must be ahead by this much to interrupt another.
const PREEMPT_MARGIN: i64 = 500_000;
const DEFAULT_WEIGHT: i64 = 256;
/// A cap is kept over this period.
const CAP_PERIOD: u64 = 100_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Asleep,
    Queued,
    Running(CpuId),
}

struct Unit<T> {
    payload: T,
    share: Share,
    affinity: u64,
    credit: i64,
    place: Place,
    /// It may go on running after its CPU asks again.
    runnable: bool,
    since: u64,
    /// Cap: the period it is in, and what it ran in that.
    period: u64,
    used: u64,
}

pub struct Credit<T> {
    units: Vec<Option<Unit<T>>>,
    /// Runnable and not running, in no order: few are, at any moment.
    queue: Vec<usize>,
    cpus: Vec<Option<usize>>,
    /// CPUs that were told to look and have not yet.
    told: u64,
}

fn bit(cpu: usize) -> u64 {
    1u64.checked_shl(cpu as u32).unwrap_or(0)
}

impl<T: Clone> Unit<T> {
    fn burn(&mut self, now: u64) {
        let ran = now.saturating_sub(self.since);
        self.since = now;
        let weight = i64::from(self.share.weight.max(1));
        let cost = i64::try_from(ran)
            .unwrap_or(i64::MAX)
            .saturating_mul(DEFAULT_WEIGHT)
            / weight;
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
            units: Vec::new(),
            queue: Vec::new(),
            cpus: (0..cpus.max(1)).map(|_| None).collect(),
            told: 0,
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

    /// The queued unit with most credit that may run on `cpu` now.
    fn best(&self, cpu: usize, now: u64) -> Option<usize> {
        let may_run = |&index: &usize| {
            self.unit(index)
                .is_some_and(|unit| unit.affinity & bit(cpu) != 0 && unit.left(now) > 0)
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

    fn new_helping(&mut self) {
        for unit in self.units.iter_mut().flatten() {
            unit.credit = unit.credit.clamp(-HELPING, 0).saturating_add(HELPING);
        }
    }

    /// Takes what runs on `cpu` off it; it queues if it is still runnable.
    fn put_back(&mut self, cpu: usize, now: u64) {
        let Some(index) = self.cpus.get_mut(cpu).and_then(Option::take) else {
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

    fn add(&mut self, payload: T, share: Share) -> UnitId {
        let unit = Unit {
            payload,
            share,
            affinity: u64::MAX,
            credit: HELPING,
            place: Place::Asleep,
            runnable: false,
            since: 0,
            period: 0,
            used: 0,
        };
        let free = self.units.iter().position(Option::is_none);
        let index = free.unwrap_or(self.units.len());
        match self.units.get_mut(index) {
            Some(slot) => *slot = Some(unit),
            None => self.units.push(Some(unit)),
        }
        UnitId(index)
    }

    fn remove(&mut self, unit: UnitId) {
        self.unqueue(unit.0);
        for running in &mut self.cpus {
            if *running == Some(unit.0) {
                *running = None;
            }
        }
        if let Some(slot) = self.units.get_mut(unit.0) {
            *slot = None;
        }
    }

    fn wake(&mut self, UnitId(index): UnitId, now: u64) -> Option<CpuId> {
        let told = self.told;
        let unit = self.unit_mut(index)?;
        unit.runnable = true;
        if unit.place != Place::Asleep {
            return None;
        }
        unit.place = Place::Queued;
        let (credit, affinity) = (unit.credit, unit.affinity);
        self.queue.push(index);
        let may = |cpu: &usize| affinity & bit(*cpu) != 0;
        let idle = |cpu: &usize| {
            self.cpus.get(*cpu).is_some_and(|running| running.is_none()) && told & bit(*cpu) == 0
        };
        let cpu = if let Some(cpu) = (0..self.cpus.len()).filter(may).find(idle) {
            cpu
        } else {
            let least = |cpu: usize| {
                let unit = self.unit(*self.cpus.get(cpu)?.as_ref()?)?;
                let mut credit = unit.credit;
                let weight = i64::from(unit.share.weight.max(1));
                let ran = i64::try_from(now.saturating_sub(unit.since)).unwrap_or(i64::MAX);
                credit = credit.saturating_sub(ran.saturating_mul(DEFAULT_WEIGHT) / weight);
                Some((credit, cpu))
            };
            let (running, cpu) = (0..self.cpus.len()).filter(may).filter_map(least).min()?;
            if credit <= running.saturating_add(PREEMPT_MARGIN) {
                return None;
            }
            cpu
        };
        self.told |= bit(cpu);
        Some(CpuId(cpu as u32))
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
            .best(cpu.index(), now)
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
        }
    }

    fn pick(&mut self, cpu: CpuId, now: u64) -> Decision<T> {
        let cpu = cpu.index();
        self.told &= !bit(cpu);
        self.put_back(cpu, now);
        let Some(mut index) = self.best(cpu, now) else {
            // A capped unit gets its next allowance with the next period.
            let until = if self.queue.is_empty() {
                u64::MAX
            } else {
                (now / CAP_PERIOD + 1) * CAP_PERIOD
            };
            return Decision { next: None, until };
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
        if let Some(running) = self.cpus.get_mut(cpu) {
            *running = Some(index);
        }
        let Some(unit) = self.unit_mut(index) else {
            return Decision {
                next: None,
                until: u64::MAX,
            };
        };
        unit.place = Place::Running(CpuId(cpu as u32));
        unit.since = now;
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

    fn set_affinity(&mut self, unit: UnitId, hard: u64) {
        if let Some(unit) = self.unit_mut(unit.0) {
            unit.affinity = hard;
        }
    }

    fn affinity(&self, unit: UnitId) -> u64 {
        self.unit(unit.0).map_or(u64::MAX, |unit| unit.affinity)
    }

    fn dump(&self, out: &mut dyn core::fmt::Write) {
        for (index, unit) in self.units.iter().enumerate() {
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
mod tests {
    use super::*;
    use std::vec;

    /// Runs busy units on some CPUs for a while; what each got, in ns.
    fn simulate(cpus: usize, shares: &[Share], duration: u64) -> Vec<u64> {
        let mut credit = Credit::new(cpus);
        let ids: Vec<UnitId> = shares
            .iter()
            .enumerate()
            .map(|(i, &share)| credit.add(i, share))
            .collect();
        for &id in &ids {
            credit.wake(id, 0);
        }
        let mut ran = vec![0; shares.len()];
        let mut next = vec![(0u64, None::<usize>, 0u64); cpus];
        loop {
            let (cpu, &(now, was, since)) =
                next.iter().enumerate().min_by_key(|(_, n)| n.0).unwrap();
            if let Some(unit) = was {
                ran[unit] += now - since;
            }
            if now >= duration {
                return ran;
            }
            let decision = credit.pick(CpuId(cpu as u32), now);
            let until = decision.until.min(now + LONGEST_SLICE);
            assert!(until > now);
            next[cpu] = (until, decision.next, now);
        }
    }

    fn weight(weight: u16) -> Share {
        Share { weight, cap: 0 }
    }

    #[test]
    fn equal_weights_share_equally() {
        let ran = simulate(2, &[weight(256); 16], 4_000_000_000);
        let fair = 2 * 4_000_000_000 / 16;
        for time in ran {
            assert!(time.abs_diff(fair) < fair / 20, "{time} of {fair}");
        }
    }

    #[test]
    fn time_follows_weight() {
        let ran = simulate(1, &[weight(128), weight(256), weight(512)], 7_000_000_000);
        for (time, fair) in ran
            .iter()
            .zip([1_000_000_000u64, 2_000_000_000, 4_000_000_000])
        {
            assert!(time.abs_diff(fair) < fair / 20, "{time} of {fair}");
        }
    }

    #[test]
    fn a_cap_holds_on_an_idle_machine() {
        let ran = simulate(
            2,
            &[Share {
                weight: 256,
                cap: 25,
            }],
            2_000_000_000,
        );
        assert!(ran[0].abs_diff(500_000_000) < 25_000_000, "{}", ran[0]);
    }

    #[test]
    fn waking_prefers_an_idle_cpu_then_the_one_that_burned_most() {
        let mut credit = Credit::new(2);
        let units: Vec<UnitId> = (0..3).map(|i| credit.add(i, Share::default())).collect();
        assert_eq!(credit.wake(units[0], 0), Some(CpuId(0)));
        assert_eq!(credit.pick(CpuId(0), 0).next, Some(0));
        assert_eq!(credit.wake(units[1], 1_000_000), Some(CpuId(1)));
        assert_eq!(credit.pick(CpuId(1), 1_000_000).next, Some(1));
        assert_eq!(credit.wake(units[2], 5_000_000), Some(CpuId(0)));
        assert_eq!(credit.pick(CpuId(0), 5_000_000).next, Some(2));
    }

    #[test]
    fn what_sleeps_is_not_picked_and_never_runs_twice() {
        let mut credit = Credit::new(2);
        let unit = credit.add((), Share::default());
        credit.wake(unit, 0);
        assert!(credit.pick(CpuId(0), 0).next.is_some());
        credit.wake(unit, 10);
        assert!(credit.pick(CpuId(1), 10).next.is_none());
        credit.sleep(unit, 20);
        assert!(credit.pick(CpuId(0), 20).next.is_none());
        credit.wake(unit, 30);
        assert!(credit.pick(CpuId(1), 30).next.is_some());
    }
}
