//! The same, as long as a soak wants.

use super::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs `steps` steps of one machine, by a seed.
pub(crate) fn run(seed: u64, steps: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let mut machine = Machine::new([32, 64, 256][seed as usize % 3]);
    let operations = op();
    for step in 0..steps {
        // What a CPU may still know doubles with each change: a flush now and then.
        if step % 400 == 0 {
            for vcpu in 0..VCPUS {
                machine.forget(vcpu);
                machine.activate(vcpu);
            }
        }
        let op = operations.new_tree(&mut runner).expect("a step").current();
        machine.step(op);
    }
    machine.follow_p2m();
    machine.check();
}
