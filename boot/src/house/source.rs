//! The sources of the tree.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
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

/// The files whose names end like this pattern (`*.rs`): those that git knows, or all where there
/// is no git.
///
/// # Errors
/// `io::Error` of reading a folder or a file.
pub(crate) fn files(pattern: &str) -> Result<Vec<Source>> {
    let paths = match listed(pattern) {
        Some(paths) => paths,
        None => walked(&root(), pattern.trim_start_matches('*'))?,
    };
    let mut sources = Vec::new();
    for path in paths {
        let whole = root().join(&path);
        if !whole.exists() {
            continue;
        }
        let text = fs::read_to_string(&whole).with_context(|| format!("{path} cannot be read"))?;
        sources.push(Source { path, text });
    }
    Ok(sources)
}

/// The paths that git lists; `None` without git, or outside of a checkout.
fn listed(pattern: &str) -> Option<Vec<String>> {
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
        .ok()
        .filter(|listed| listed.status.success())?;
    let names = String::from_utf8(listed.stdout).ok()?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

/// The paths below a folder whose names end so, without hidden folders and what was built.
fn walked(folder: &Path, end: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                paths.extend(walked(&path, end)?);
            }
        } else if name.ends_with(end) {
            let inner = path.strip_prefix(root()).unwrap_or(&path);
            paths.push(inner.to_string_lossy().into_owned());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_the_same_with_git_and_without() {
        let mut walked = walked(&root(), ".rs").expect("the tree");
        walked.sort();
        if let Some(mut listed) = listed("*.rs") {
            listed.retain(|path| root().join(path).exists());
            listed.sort();
            assert_eq!(listed, walked);
        }
    }
}
