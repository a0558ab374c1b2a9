use super::*;
use std::vec;

/// Runs busy units on some CPUs for a while; what each got, in ns.
fn simulate(cpus: usize, shares: &[Share], duration: u64) -> Vec<u64> {
    simulate_late(cpus, shares, duration, |_| 0)
}

/// The same with timers that come late: by how much, for each slice.
fn simulate_late(
    cpus: usize,
    shares: &[Share],
    duration: u64,
    mut late: impl FnMut(u64) -> u64,
) -> Vec<u64> {
    let mut credit = Credit::new(cpus);
    let ids: Vec<UnitId> = shares
        .iter()
        .enumerate()
        .map(|(i, &share)| credit.add(i, share).expect("memory"))
        .collect();
    for &id in &ids {
        credit.wake(id, 0);
    }
    let mut ran = vec![0; shares.len()];
    let mut next = vec![(0u64, None::<usize>, 0u64); cpus];
    loop {
        let (cpu, &(now, was, since)) = next.iter().enumerate().min_by_key(|(_, n)| n.0).unwrap();
        if let Some(unit) = was {
            ran[unit] += now - since;
        }
        if now >= duration {
            return ran;
        }
        let decision = credit.pick(CpuId(cpu as u32), now);
        let until = decision.until.min(now + LONGEST_SLICE);
        assert!(until > now);
        let until = until + late(now);
        next[cpu] = (until, decision.next, now);
    }
}

fn look(cpu: u32, at: u64) -> Option<Resched> {
    let cpu = CpuId(cpu);
    Some(Resched { cpu, at })
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

/// Up to 20 ms late, which is forty of the shortest slices.
#[test]
fn time_follows_weight_when_timers_are_late() {
    let weights = [16, 16, 32, 32, 32, 32, 64, 64];
    let shares: Vec<Share> = weights.iter().flat_map(|w| [weight(*w); 2]).collect();
    let mut state = 1u64;
    let late = |now: u64| {
        state = (state ^ now)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
        state % 20_000_000
    };
    let duration = 60_000_000_000;
    let ran = simulate_late(2, &shares, duration, late);
    let all: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    for (time, share) in ran.iter().zip(&shares) {
        let fair = 2 * duration * u64::from(share.weight) / all;
        assert!(time.abs_diff(fair) < fair / 10, "{time} of {fair}: {ran:?}");
    }
}

/// A unit that ran alone while others shared a CPU owes no more than its limit when it meets
/// them.
#[test]
fn a_debt_has_an_end() {
    let mut credit = Credit::new(2);
    let units: Vec<UnitId> = (0..3)
        .map(|i| credit.add(i, Share::default()).expect("memory"))
        .collect();
    credit.set_affinity(units[0], hard(&[0]), 0);
    for unit in [1, 2] {
        credit.set_affinity(units[unit], hard(&[1]), 0);
    }
    for unit in &units {
        credit.wake(*unit, 0);
    }
    let mut now = 0;
    while now < 10_000_000_000 {
        credit.pick(CpuId(0), now);
        now = credit.pick(CpuId(1), now).until;
    }
    credit.set_affinity(units[0], hard(&[1]), now);
    credit.pick(CpuId(0), now);
    let start = now;
    loop {
        let decision = credit.pick(CpuId(1), now);
        if decision.next == Some(0) {
            break;
        }
        now = decision.until;
        let limit = 3 * LONGEST_DEBT as u64;
        assert!(now - start < limit, "it waits for {} ns", now - start);
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
    let units: Vec<UnitId> = (0..3)
        .map(|i| credit.add(i, Share::default()).expect("memory"))
        .collect();
    assert_eq!(credit.wake(units[0], 0), look(0, 0));
    assert_eq!(credit.pick(CpuId(0), 0).next, Some(0));
    assert_eq!(credit.wake(units[1], 1_000_000), look(1, 1_000_000));
    assert_eq!(credit.pick(CpuId(1), 1_000_000).next, Some(1));
    assert_eq!(credit.wake(units[2], 5_000_000), look(0, 5_000_000));
    assert_eq!(credit.pick(CpuId(0), 5_000_000).next, Some(2));
}

#[test]
fn what_sleeps_is_not_picked_and_never_runs_twice() {
    let mut credit = Credit::new(2);
    let unit = credit.add((), Share::default()).expect("memory");
    credit.wake(unit, 0);
    assert!(credit.pick(CpuId(0), 0).next.is_some());
    credit.wake(unit, 10);
    assert!(credit.pick(CpuId(1), 10).next.is_none());
    credit.sleep(unit);
    assert!(credit.pick(CpuId(0), 20).next.is_none());
    credit.wake(unit, 30);
    assert!(credit.pick(CpuId(1), 30).next.is_some());
}

fn only(cpus: &[u32]) -> CpuMask {
    let mut mask = CpuMask::EMPTY;
    cpus.iter().for_each(|cpu| mask.add(CpuId(*cpu)));
    mask
}

fn hard(cpus: &[u32]) -> Affinity {
    Affinity {
        hard: only(cpus),
        ..Affinity::ANY
    }
}

#[test]
fn a_unit_that_must_move_finds_an_idle_cpu_beyond_the_64th() {
    let mut credit = Credit::new(100);
    let unit = credit.add((), Share::default()).expect("memory");
    assert_eq!(credit.wake(unit, 0), look(0, 0));
    assert!(credit.pick(CpuId(0), 0).next.is_some());
    assert_eq!(
        credit.set_affinity(unit, hard(&[99]), 1),
        Some(CpuId(0)),
        "the CPU that runs it must look"
    );
    let decision = credit.pick(CpuId(0), 2);
    assert!(decision.next.is_none());
    assert_eq!(
        decision.resched,
        Some(CpuId(99)),
        "the idle CPU is notified"
    );
    assert!(credit.pick(CpuId(99), 3).next.is_some());
    // While it waits, too.
    credit.sleep(unit);
    assert!(credit.pick(CpuId(99), 4).next.is_none());
    assert_eq!(credit.wake(unit, 5), look(99, 5));
    assert_eq!(credit.set_affinity(unit, hard(&[70]), 6), Some(CpuId(70)));
    assert!(credit.pick(CpuId(99), 7).next.is_none());
    assert!(credit.pick(CpuId(70), 7).next.is_some());
}

#[test]
fn what_is_pushed_off_its_cpu_goes_to_an_idle_one() {
    let mut credit = Credit::new(2);
    let (free, pinned) = (
        credit.add(0, Share::default()).expect("memory"),
        credit.add(1, Share::default()).expect("memory"),
    );
    credit.wake(free, 0);
    assert_eq!(credit.pick(CpuId(0), 0).next, Some(0));
    credit.set_affinity(pinned, hard(&[0]), 0);
    assert_eq!(credit.wake(pinned, 5_000_000), look(0, 5_000_000));
    let decision = credit.pick(CpuId(0), 5_000_000);
    assert_eq!((decision.next, decision.resched), (Some(1), Some(CpuId(1))));
    assert_eq!(credit.pick(CpuId(1), 5_000_000).next, Some(0));
}

#[test]
fn a_soft_affinity_is_a_wish() {
    let mut credit = Credit::new(3);
    let soft = Affinity {
        soft: only(&[2]),
        ..Affinity::ANY
    };
    let units: Vec<UnitId> = (0..2)
        .map(|i| credit.add(i, Share::default()).expect("memory"))
        .collect();
    for unit in &units {
        credit.set_affinity(*unit, soft, 0);
    }
    assert_eq!(credit.wake(units[0], 0), look(2, 0));
    assert_eq!(credit.pick(CpuId(2), 0).next, Some(0));
    assert_eq!(credit.wake(units[1], 1), look(0, 1), "it need not wait");
    assert_eq!(credit.pick(CpuId(0), 1).next, Some(1));
    // The CPU that it would rather have is free again: it goes there.
    credit.sleep(units[0]);
    assert!(credit.pick(CpuId(2), 2).next.is_none());
    let decision = credit.pick(CpuId(0), 3);
    assert_eq!((decision.next, decision.resched), (None, Some(CpuId(2))));
    assert_eq!(credit.pick(CpuId(2), 4).next, Some(1));
}

/// A victim that has burned more than whoever wakes, every 20 us, on the only CPU.
#[test]
fn who_sleeps_and_wakes_all_the_time_interrupts_no_oftener_than_the_rate_limit() {
    let mut credit = Credit::new(1);
    let victim = credit.add('v', Share::default()).expect("memory");
    let waker = credit.add('w', Share::default()).expect("memory");
    let cpu = CpuId(0);
    credit.wake(victim, 0);
    assert_eq!(credit.pick(cpu, 0).next, Some('v'));
    let start = 2_000_000u64;
    let (mut now, mut interrupted, mut looks) = (start, 0u64, 0u64);
    let mut due = u64::MAX;
    for _ in 0..2000 {
        now += 20_000;
        let asked = credit.wake(waker, now);
        let at = asked.map_or(u64::MAX, |look| look.at);
        assert!(at >= now);
        due = due.min(at);
        if due <= now {
            (due, looks) = (u64::MAX, looks + 1);
            if credit.pick(cpu, now).next == Some('w') {
                interrupted += 1;
                now += 2_000;
                credit.sleep(waker);
                assert_eq!(credit.pick(cpu, now).next, Some('v'));
            }
        }
        credit.sleep(waker);
    }
    let most = (now - start) / credit.rate_limit() + 1;
    assert!(
        interrupted > 0 && interrupted <= most,
        "{interrupted} of {most}"
    );
    assert!(looks <= most, "{looks} looks");
}

#[test]
fn a_unit_that_has_just_begun_is_interrupted_when_the_limit_is_over() {
    let mut credit = Credit::new(1);
    let victim = credit.add('v', Share::default()).expect("memory");
    let other = credit.add('o', Share::default()).expect("memory");
    let cpu = CpuId(0);
    credit.wake(victim, 0);
    assert_eq!(credit.pick(cpu, 0).next, Some('v'));
    // It has burned a lot, rested, and begins again.
    credit.sleep(victim);
    assert!(credit.pick(cpu, 9_000_000).next.is_none());
    credit.wake(victim, 10_000_000);
    assert_eq!(credit.pick(cpu, 10_000_000).next, Some('v'));
    assert_eq!(credit.wake(other, 10_100_000), look(0, 10_500_000));
    // Asked for another reason meanwhile, it goes on, until then.
    let decision = credit.pick(cpu, 10_200_000);
    assert_eq!((decision.next, decision.until), (Some('v'), 10_500_000));
    assert_eq!(credit.pick(cpu, 10_499_999).next, Some('v'));
    assert_eq!(credit.pick(cpu, 10_500_000).next, Some('o'));
    // Who yields, blocks or may not stay is not kept.
    credit.give_way(cpu, 10_500_100);
    assert_eq!(credit.pick(cpu, 10_500_100).next, Some('v'));
    credit.sleep(victim);
    assert_eq!(credit.pick(cpu, 10_500_200).next, Some('o'));
    credit.wake(victim, 10_500_300);
    credit.set_affinity(other, hard(&[1]), 10_500_300);
    assert_eq!(credit.pick(cpu, 10_500_400).next, Some('v'));
}

#[test]
fn a_cap_ends_a_run_within_the_rate_limit() {
    let mut credit = Credit::new(1);
    let capped = credit
        .add(
            'c',
            Share {
                weight: 256,
                cap: 1,
            },
        )
        .expect("memory");
    let cpu = CpuId(0);
    credit.wake(capped, 0);
    let decision = credit.pick(cpu, 0);
    assert_eq!((decision.next, decision.until), (Some('c'), 1_000_000));
    credit.sleep(capped);
    assert!(credit.pick(cpu, 800_000).next.is_none());
    credit.wake(capped, 900_000);
    assert_eq!(credit.pick(cpu, 900_000).until, 1_100_000);
    assert_eq!(credit.pick(cpu, 1_000_000).until, 1_100_000);
    assert!(credit.pick(cpu, 1_100_000).next.is_none());
}

#[test]
fn who_wakes_takes_the_cpu_that_can_be_interrupted_first() {
    let mut credit = Credit::new(2);
    let units: Vec<UnitId> = (0..3)
        .map(|i| credit.add(i, Share::default()).expect("memory"))
        .collect();
    for cpu in [0, 1] {
        credit.wake(units[cpu], 0);
        assert_eq!(credit.pick(CpuId(cpu as u32), 0).next, Some(cpu));
    }
    // Unit 0 has burned more, but has just begun again.
    credit.give_way(CpuId(0), 8_000_000);
    credit.sleep(units[0]);
    assert!(credit.pick(CpuId(0), 8_000_000).next.is_none());
    credit.set_share(units[1], weight(512));
    credit.wake(units[0], 8_000_000);
    assert_eq!(credit.pick(CpuId(0), 8_000_000).next, Some(0));
    assert_eq!(credit.wake(units[2], 8_100_000), look(1, 8_100_000));
}

/// The run queue is a list through the units: an order of any length costs no memory.
#[test]
fn the_run_queue_keeps_the_order_of_coming_whatever_leaves_it() {
    let mut credit = Credit::new(1);
    let ids: Vec<UnitId> = (0..1000)
        .map(|i| credit.add(i, weight(256)).expect("memory"))
        .collect();
    let mut model: Vec<usize> = Vec::new();
    let order = |credit: &Credit<usize>| -> Vec<usize> {
        credit.queued().map(|(_, unit)| unit.payload).collect()
    };
    let mut seed = 1u64;
    for _ in 0..4 {
        for (n, &id) in ids.iter().enumerate() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let queued = model.iter().position(|&queued| queued == n);
            match (seed >> 33) % 3 {
                0 => {
                    credit.sleep(id);
                    queued.map(|at| model.remove(at));
                }
                _ => {
                    credit.wake(id, 0);
                    if queued.is_none() {
                        model.push(n);
                    }
                }
            }
        }
        assert_eq!(order(&credit), model);
    }
    for id in ids {
        credit.remove(id);
    }
    assert!(order(&credit).is_empty() && (credit.first, credit.last) == (None, None));
    assert!(credit.pick(CpuId(0), 1).next.is_none());
}
