//! CPU lists: `cpus="0-3,^2"`, and which virtual CPU may run where.

use crate::read::parse_number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Highest physical CPU number taken, exclusive.
const MAX_CPUS: u32 = 4096;

/// A set of physical CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuSet {
    All,
    Some(BTreeSet<u32>),
}

/// Where the virtual CPUs may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// One set for all vcpus.
    Together(CpuSet),
    /// One set for each, from the first; those beyond the list are free.
    Each(Vec<CpuSet>),
}

impl CpuSet {
    /// Parses a list such as `all`, `1`, `0-3,5`, `0-7,^2`.
    ///
    /// # Errors
    /// A `String` that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set: Option<BTreeSet<u32>> = Some(BTreeSet::new());
        for word in text.split(',').map(str::trim) {
            let (excludes, word) = match word.strip_prefix('^') {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            if word.starts_with("node") {
                return Err(format!(
                    "{word:?}: choosing CPUs by NUMA node is not supported yet, name the CPUs"
                ));
            }
            match (word, excludes) {
                ("all", false) => set = None,
                ("all", true) => return Err("\"^all\" leaves no CPU".to_owned()),
                (word, _) => {
                    let (first, last) = range(word)?;
                    // "all,^2" is every CPU there could be but 2.
                    let known = set.get_or_insert_with(|| (0..MAX_CPUS).collect());
                    for cpu in first..=last {
                        if excludes {
                            known.remove(&cpu)
                        } else {
                            known.insert(cpu)
                        };
                    }
                }
            }
        }
        match set {
            None => Ok(Self::All),
            Some(set) if set.is_empty() => Err(format!("{text:?} leaves no CPU")),
            Some(set) => Ok(Self::Some(set)),
        }
    }
}

impl CpuSet {
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(set) => set.contains(&cpu),
        }
    }
}

fn range(word: &str) -> Result<(u32, u32), String> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let cpu = |text: &str| {
        let number = parse_number(text.trim())?;
        match u32::try_from(number) {
            Ok(cpu) if cpu < MAX_CPUS => Ok(cpu),
            _ => Err(format!("there is no CPU {number}")),
        }
    };
    let (first, last) = (cpu(first)?, cpu(last)?);
    if first > last {
        return Err(format!("the range {word} runs backwards"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Vec<u32> {
        match CpuSet::parse(text) {
            Ok(CpuSet::Some(set)) => set.into_iter().collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn lists_ranges_and_exceptions() {
        assert_eq!(cpus("1"), [1]);
        assert_eq!(cpus("0-3, 5"), [0, 1, 2, 3, 5]);
        assert_eq!(cpus("0-3,^1"), [0, 2, 3]);
        assert_eq!(CpuSet::parse("all"), Ok(CpuSet::All));
        assert!(!cpus("all,^7").contains(&7));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "3-1", "^1", "5000", "1-", "node:0", "-1"] {
            assert!(CpuSet::parse(text).is_err(), "{text}");
        }
    }
}
