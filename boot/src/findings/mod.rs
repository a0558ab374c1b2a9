//! `./x test --findings`: each fault that a review found is put back, and its test must see the
//! fault.
//!
//! `tests/findings/ID.patch` puts one fault back. Lines above the diff name the finding and its
//! tests:
//!
//! ```text
//! Finding: C2
//! Title: EVTCHNOP_close never answers -EAGAIN
//! Test: oxen-core a_part_of_the_name_of_the_test
//! ```
//!
//! `tests/plants` has patches of the same form: faults that nobody made, planted to prove the
//! tests.
//!
//! The work is done in a copy of the checkout under `target/findings`, which keeps what it
//! compiled.

mod copy;
mod patch;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use crate::exec::{command, run};
pub(crate) use copy::Copy;
pub(crate) use patch::{Patch, Test, all};

/// Seconds for one run of a test program. A fault may show itself as a test that never ends.
const TEST_LIMIT: &str = "300";

/// Puts back the fault of each finding, or of those whose ID is in `ids`.
pub(crate) fn check(ids: &[String]) -> Result<()> {
    let patches: Vec<Patch> = all()?
        .into_iter()
        .filter(|patch| ids.is_empty() || patch.ids.iter().any(|id| ids.contains(id)))
        .collect();
    ensure!(
        !patches.is_empty(),
        "there is no finding of that ID in tests/findings"
    );
    let copy = Copy::of_checkout("findings")?;
    pass_without(&copy, &patches)?;
    let mut unseen = Vec::new();
    for patch in &patches {
        let began = Instant::now();
        let verdict = fail_with(&copy, patch);
        let took = began.elapsed().as_secs();
        match verdict {
            Ok(()) => eprintln!("x: {}: seen by its test ({took} s)", patch.name()),
            Err(error) => {
                eprintln!("x: {}: {error:#} ({took} s)", patch.name());
                unseen.push(patch.name());
            }
        }
    }
    if !unseen.is_empty() {
        bail!(
            "{} of {} faults were not seen: {}",
            unseen.len(),
            patches.len(),
            unseen.join(", ")
        );
    }
    eprintln!(
        "x: {} faults put back, each seen by its test",
        patches.len()
    );
    Ok(())
}

/// Without any fault the tests must pass, or their failing proves nothing.
fn pass_without(copy: &Copy, patches: &[Patch]) -> Result<()> {
    let tests: BTreeSet<&Test> = patches.iter().flat_map(|patch| &patch.tests).collect();
    let packages: BTreeSet<&str> = tests.iter().map(|test| test.package.as_str()).collect();
    for package in packages {
        eprintln!("x: compiling the tests of {package}");
        run(&mut compile(copy, package))?;
    }
    for test in tests {
        let (passed, text) = outcome(copy, test)?;
        ensure!(
            passed,
            "{} {} fails without any fault:\n{text}",
            test.package,
            test.filter
        );
        ensure!(
            ran(&text) > 0,
            "{} has no test of the name {}",
            test.package,
            test.filter
        );
    }
    Ok(())
}

fn fail_with(copy: &Copy, patch: &Patch) -> Result<()> {
    copy.apply(patch)?;
    let verdict = seen(copy, patch);
    copy.restore(patch)?;
    verdict
}

fn seen(copy: &Copy, patch: &Patch) -> Result<()> {
    for test in &patch.tests {
        run(compile(copy, &test.package).args(["--color", "never"]))?;
        let (passed, text) = outcome(copy, test)?;
        ensure!(
            !passed,
            "{} {} does not see the fault:\n{text}",
            test.package,
            test.filter
        );
    }
    Ok(())
}

fn compile(copy: &Copy, package: &str) -> Command {
    let mut cargo = copy.command("cargo");
    cargo.args(["test", "-q", "-p", package, "--tests", "--no-run"]);
    cargo
}

/// Runs one test; returns whether all went well, and what was printed.
fn outcome(copy: &Copy, test: &Test) -> Result<(bool, String)> {
    let mut limited = copy.command("timeout");
    limited.args([
        "-k",
        "5",
        TEST_LIMIT,
        "cargo",
        "test",
        "-q",
        "-p",
        &test.package,
    ]);
    limited.args(["--tests", &test.filter, "--", "--include-ignored"]);
    let output = limited.output()?;
    let both = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&both).into_owned(),
    ))
}

/// How many tests the test programs say that they passed.
fn ran(text: &str) -> u32 {
    let passed = |line: &str| -> Option<u32> {
        let (before, _) = line
            .strip_prefix("test result: ok. ")?
            .split_once(" passed")?;
        before.parse().ok()
    };
    text.lines().filter_map(passed).sum()
}

/// Whether git can be asked for the list of files.
fn git(arguments: &[&str]) -> Command {
    let mut git = command("git", arguments);
    git.current_dir(oxen_harness::images::root());
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_of_all_programs_are_counted() {
        let text = "running 3 tests\n...\ntest result: ok. 3 passed; 0 failed; 0 ignored\n\
                    test result: ok. 2 passed; 0 failed; 1 ignored\n";
        assert_eq!(ran(text), 5);
        assert_eq!(ran("test result: FAILED. 1 passed; 1 failed"), 0);
    }

    #[test]
    fn every_patch_of_the_tree_names_its_finding_and_its_test() {
        let patches = all().expect("all can be read");
        let mut ids = BTreeSet::new();
        for patch in &patches {
            assert!(
                !patch.tests.is_empty() && !patch.files.is_empty(),
                "{}",
                patch.name()
            );
            for id in &patch.ids {
                assert!(ids.insert(id), "two patches put {id} back");
            }
        }
    }

    #[test]
    fn every_finding_stands_in_the_table_of_the_documentation() {
        let path = oxen_harness::images::root().join("docs/security.md");
        let table = std::fs::read_to_string(path).expect("docs/security.md");
        let rows: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| "))
            .collect();
        for patch in patch::of("tests/findings").expect("all can be read") {
            let row = format!("{} |", patch.ids.join(", "));
            assert!(
                rows.iter().any(|line| line.starts_with(&row)),
                "no row of {row}"
            );
        }
    }
}
