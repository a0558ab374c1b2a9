//! The cache of shadows as the CPUs of two vcpus would use it, against what their TLBs may hold:
//! random edits of a guest's tables, by whoever is allowed to write them, accesses, flushes, and a
//! pool that runs out.
//!
//! An access that succeeds does so by entries each of which was true at some moment since the
//! vcpu's last flush, accessed and dirty bits included: a CPU's caches of tables know no more of
//! one another. An access that faults does so by the tables as they are. The hypervisor changes the
//! guest's memory at moments of its choice: whenever a vcpu could enter, no shadow leads to memory
//! that the guest has not got.

use proptest::prelude::*;

use machine::Machine;
use ops::{ADDRESSES, Control, Op, Remap, frame_of, op};

mod history;
mod machine;
mod memory;
mod ops;
mod protocol;
pub(crate) mod soak;

/// Frames of the guest's memory; the first are its tables.
const FRAMES: u64 = 64;
const TABLES: u64 = 24;
/// Where the tables of each level begin, from the root down, and where they end.
const LEVELS: [u64; 5] = [0, 4, 8, 14, TABLES];
/// From here on, a frame's number in an operation stands for some table of the next level.
const NEXT: u64 = FRAMES + 2;
/// From here on nothing is there, then it may not be written, then not executed.
const ABSENT: u64 = 48;
const READ_ONLY: u64 = 52;
const NO_FETCH: u64 = 58;
/// A page of 2 MiB.
const LARGE_FIRST: u64 = 512;
const LARGE_END: u64 = 1024;
const LARGE: u64 = 1 << 7;
const VCPUS: usize = 2;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]
    #[test]
    fn cached_shadows_keep_to_a_tlbs_rules(
        pages in prop::sample::select(std::vec![32usize, 64, 256]),
        list in prop::collection::vec(op(), 1..400),
    ) {
        let mut machine = Machine::new(pages);
        for op in list {
            machine.step(op);
        }
        machine.follow_p2m();
        machine.check();
    }
}

/// The events that the property is about do happen.
#[test]
fn tables_are_protected_evicted_and_forgotten() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let list = prop::collection::vec(op(), if cfg!(miri) { 300 } else { 3000 });
    let mut machine = Machine::new(64);
    for op in list.new_tree(&mut runner).unwrap().current() {
        machine.step(op);
    }
    let counts = machine.cache.counts();
    let all = [
        counts.made,
        counts.protected,
        counts.loosened,
        counts.dropped,
        counts.evicted,
        counts.changed,
        counts.resets,
    ];
    assert!(
        cfg!(miri) || all.iter().all(|count| *count > 3),
        "{counts:?}"
    );
}
