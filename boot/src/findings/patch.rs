//! A file of `tests/findings` or `tests/plants`: the head that names a finding, and the diff that
//! puts its fault back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use oxen_harness::images;

/// A host test, as `cargo test` finds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    pub package: String,
    pub filter: String,
}

/// A patch that puts one fault back.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub ids: Vec<String>,
    pub tests: Vec<Test>,
    /// The package whose fuzzer must find the fault, from a line "Fuzz: PACKAGE".
    pub fuzz: Option<String>,
    /// The files that the diff changes, from the root of the checkout.
    pub files: Vec<PathBuf>,
    pub path: PathBuf,
}

impl Patch {
    /// The IDs of its findings, as one word.
    pub fn name(&self) -> String {
        self.ids.join("+")
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut patch = Self {
            ids: Vec::new(),
            tests: Vec::new(),
            fuzz: None,
            files: Vec::new(),
            path: path.to_owned(),
        };
        let mut head = true;
        for line in text.lines() {
            if let Some(ids) = line.strip_prefix("Finding: ").filter(|_| head) {
                patch.ids.extend(ids.split_whitespace().map(str::to_owned));
            } else if let Some(test) = line.strip_prefix("Test: ").filter(|_| head) {
                let (package, filter) = test
                    .trim()
                    .split_once(' ')
                    .with_context(|| format!("no package and test in the line \"{line}\""))?;
                patch.tests.push(Test {
                    package: package.to_owned(),
                    filter: filter.trim().to_owned(),
                });
            } else if let Some(package) = line.strip_prefix("Fuzz: ").filter(|_| head) {
                patch.fuzz = Some(package.trim().to_owned());
            } else if let Some(file) = line.strip_prefix("--- a/") {
                head = false;
                patch.files.push(file.trim_end().into());
            }
        }
        ensure!(!patch.ids.is_empty(), "the line \"Finding: ID\" is missing");
        ensure!(
            !patch.tests.is_empty(),
            "the line \"Test: PACKAGE NAME\" is missing"
        );
        ensure!(
            !patch.files.is_empty(),
            "there is no diff of an existing file"
        );
        Ok(patch)
    }
}

/// Faults that reviews found, and faults that are planted to prove the tests.
const DIRECTORIES: [&str; 2] = ["tests/findings", "tests/plants"];

/// All patches, in the order of their names; those of reviews come first.
pub(crate) fn all() -> Result<Vec<Patch>> {
    let mut all = Vec::new();
    for directory in DIRECTORIES {
        all.extend(of(directory)?);
    }
    Ok(all)
}

/// The patches of one directory, in the order of their names.
pub(crate) fn of(directory: &str) -> Result<Vec<Patch>> {
    let directory = images::root().join(directory);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path)?;
        Patch::parse(path, &text)
    };
    paths
        .iter()
        .map(|path| read(path).with_context(|| path.display().to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Finding: H1 C1\nTitle: tables are prepaid\nTest: oxen-mm a_pool_is_prepaid\n\
                        Test: oxen-core a_table_fails\n\ndiff --git a/x.rs b/x.rs\n--- a/x.rs\n\
                        +++ b/x.rs\n@@ -1 +1 @@\n-Test: new\n+old\n";

    #[test]
    fn the_head_and_the_files_are_read() {
        let patch = Patch::parse(Path::new("H1.patch"), TEXT).expect("well-formed");
        assert_eq!(patch.name(), "H1+C1");
        assert_eq!(patch.files, [PathBuf::from("x.rs")]);
        assert_eq!(patch.tests.len(), 2);
        assert_eq!(patch.tests[1].filter, "a_table_fails");
        assert_eq!(patch.fuzz, None);
        let fuzzed = Patch::parse(
            Path::new("x"),
            &TEXT.replace("Title", "Fuzz: oxen-core\nTitle"),
        );
        assert_eq!(
            fuzzed.expect("well-formed").fuzz.as_deref(),
            Some("oxen-core")
        );
    }

    #[test]
    fn a_patch_without_finding_test_or_diff_is_refused() {
        let refused = |text: &str| Patch::parse(Path::new("x"), text).is_err();
        assert!(refused(&TEXT.replace("Finding", "Fault")));
        assert!(refused(&TEXT.replace("Test: oxen", "Tests: oxen")));
        assert!(refused("Finding: A\nTest: p t\n"));
        assert!(refused("Finding: A\nTest: package-alone\n--- a/x\n"));
    }
}
