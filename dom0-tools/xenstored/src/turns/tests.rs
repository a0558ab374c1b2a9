//! Tests of this module.

use super::*;

fn asking(domains: impl IntoIterator<Item = DomId>) -> BTreeSet<DomId> {
    domains.into_iter().collect()
}

/// Guests that use so many steps each time they go, for so many turns. What each got, and the
/// longest turn.
fn run(costs: &BTreeMap<DomId, usize>, turns: usize) -> (BTreeMap<DomId, u64>, u64) {
    let (mut all, mut server) = (Turns::default(), Server::new());
    let (mut got, mut longest) = (BTreeMap::new(), 0);
    for _ in 0..turns {
        let used = all.serve(
            &asking(costs.keys().copied()),
            &mut server,
            |domain, server| {
                server.spend(costs[&domain]);
                *got.entry(domain).or_default() += costs[&domain] as u64;
                true
            },
        );
        longest = longest.max(used);
    }
    (got, longest)
}

#[test]
fn work_is_shared_not_requests() {
    let (got, longest) = run(&BTreeMap::from([(1, 20), (2, 1000), (3, 20)]), 1000);
    assert!(longest < TURN + 1000);
    let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
    assert!(most - least <= 1000, "{got:?}");
}

#[test]
fn a_turn_is_as_long_for_many_as_for_one() {
    for guests in [1, 4, 100] {
        let costs = (1..=guests).map(|domain| (domain, 25)).collect();
        let (_, longest) = run(&costs, 50);
        assert!(longest < TURN + 25, "{guests}: {longest}");
    }
}

#[test]
fn who_asked_for_nothing_has_saved_nothing() {
    let (mut turns, mut server) = (Turns::default(), Server::new());
    for _ in 0..1000 {
        turns.serve(&asking([1]), &mut server, |_, server| {
            server.spend(20);
            true
        });
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        turns.serve(&asking([1, 2]), &mut server, |domain, server| {
            server.spend(20);
            order.push(domain);
            true
        });
    }
    let late = order.iter().filter(|domain| **domain == 2).count();
    assert!(late * 2 <= order.len() + 2, "{order:?}");
}

#[test]
fn a_long_request_is_followed_by_a_rest() {
    let lasted = Duration::from_millis(10);
    assert_eq!(rest(TURN, lasted), Duration::ZERO);
    assert_eq!(rest(TURN * 10, lasted), Duration::from_millis(27));
}
