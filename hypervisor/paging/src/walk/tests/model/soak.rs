//! The same, as long as a soak wants.

use super::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Walks that many times in each mode, by a seed.
pub(crate) fn run(seed: u64, walks: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let cases = case();
    for _ in 0..walks {
        let case = cases.new_tree(&mut runner).expect("a case").current();
        assert_eq!(walked(&case, PagingMode::Long), long(&case), "{case:x?}");
        assert_eq!(walked(&case, PagingMode::Pae), pae(&case), "{case:x?}");
        assert_eq!(walked(&case, PagingMode::Bits32), short(&case), "{case:x?}");
    }
}
