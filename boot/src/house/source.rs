//! The sources that git knows.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use oxen_harness::images::root;

/// One Rust file of the tree.
pub(crate) struct Source {
    /// Its path from the root of the tree.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The crate that the file belongs to, by its folder: `hypervisor/core`, `boot`.
    pub(crate) fn room(&self) -> String {
        let parts: Vec<&str> = self.path.split('/').collect();
        match parts.as_slice() {
            [
                outer @ ("hypervisor" | "dom0-tools" | "tests"),
                inner,
                _,
                ..,
            ] => {
                format!("{outer}/{inner}")
            }
            [outer, ..] => (*outer).to_owned(),
            [] => String::new(),
        }
    }

    /// Whether the whole file is of tests or of their doubles.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| {
            matches!(
                part,
                "tests" | "tests.rs" | "testing" | "testing.rs" | "fake.rs" | "fuzz.rs"
            ) || part.ends_with("_tests.rs")
        })
    }
}

/// All Rust files that git knows and that are there.
///
/// # Errors
/// Of `git ls-files` and of reading.
pub(crate) fn all() -> Result<Vec<Source>> {
    files("*.rs")
}

/// The files that git knows by this pattern.
///
/// # Errors
/// Of `git ls-files` and of reading.
pub(crate) fn files(pattern: &str) -> Result<Vec<Source>> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            pattern,
        ])
        .current_dir(root())
        .output()
        .context("git cannot be run")?;
    ensure!(listed.status.success(), "git ls-files failed");
    let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let mut sources = Vec::new();
    for path in names.split('\0').filter(|name| !name.is_empty()) {
        let whole = root().join(path);
        if !whole.exists() {
            continue;
        }
        sources.push(Source {
            path: path.to_owned(),
            text: fs::read_to_string(&whole).with_context(|| format!("{path} cannot be read"))?,
        });
    }
    Ok(sources)
}
