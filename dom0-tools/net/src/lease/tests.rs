//! Tests of this module.

use super::*;

fn leases() -> (tempfile::TempDir, Leases, Subnet) {
    let directory = tempfile::tempdir().expect("a directory");
    let leases = Leases::new(&directory.path().join("nat"));
    (directory, leases, "10.87.0.1/29".parse().expect("a subnet"))
}

#[test]
fn each_has_its_own_and_keeps_it() {
    let (_directory, leases, subnet) = leases();
    assert_eq!(leases.find(Mac([2; 6])).expect("no directory yet"), None);
    let mut seen = Vec::new();
    for n in 0..5 {
        seen.push(
            leases
                .assign(Mac([n; 6]), None, subnet)
                .expect("a free one"),
        );
    }
    for (n, address) in (0..5).zip(&seen) {
        assert_eq!(
            leases.assign(Mac([n; 6]), None, subnet).expect("the same"),
            *address
        );
        assert_eq!(leases.find(Mac([n; 6])).expect("a lease"), Some(*address));
    }
    let error = leases
        .assign(Mac([9; 6]), None, subnet)
        .expect_err("full")
        .to_string();
    assert!(error.contains("given away"), "{error}");
    leases.release(Mac([3; 6])).expect("it had one");
    assert_eq!(
        leases.assign(Mac([9; 6]), None, subnet).expect("free now"),
        seen[3]
    );
}

#[test]
fn those_of_cards_that_are_no_more() {
    let (_directory, leases, subnet) = leases();
    leases.retain(&[]).expect("no directory yet");
    let one = leases.assign(Mac([1; 6]), None, subnet).expect("free");
    leases.assign(Mac([2; 6]), None, subnet).expect("free");
    leases.retain(&[Mac([1; 6])]).expect("the directory");
    let all = leases.all().expect("the directory");
    assert_eq!(all, [(one, Mac([1; 6]).to_string())]);
}

#[test]
fn wanted_ones() {
    let (_directory, leases, subnet) = leases();
    let want = Ipv4Addr::new(10, 87, 0, 6);
    let (one, other) = (Mac([1; 6]), Mac([2; 6]));
    leases.assign(one, None, subnet).expect("any");
    assert_eq!(leases.assign(one, Some(want), subnet).expect("free"), want);
    assert_eq!(leases.all().expect("the directory").len(), 1);
    assert!(leases.assign(other, Some(want), subnet).is_err());
    assert!(
        leases
            .assign(other, Some(Ipv4Addr::new(10, 87, 0, 1)), subnet)
            .is_err()
    );
    assert_eq!(leases.find(other).expect("the directory"), None);
    assert_eq!(
        leases.assign(one, Some(want), subnet).expect("its own"),
        want
    );
}

#[test]
fn many_at_once() {
    let (_directory, leases, _) = leases();
    let subnet: Subnet = "10.87.0.1/24".parse().expect("a subnet");
    let threads: Vec<_> = (0..4u8)
        .map(|thread| {
            let leases = leases.clone();
            std::thread::spawn(move || {
                (0..20u8)
                    .map(|n| {
                        leases
                            .assign(Mac([0, 0, 0, 0, thread, n]), None, subnet)
                            .expect("free")
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut all: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no panic"))
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 80);
}
