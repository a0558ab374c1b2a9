//! The instructions that a machine executes, counted from outside by a plugin of QEMU's
//! (boot/bench/counter.c): the same for any hypervisor.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oxen_harness::images;

use crate::exec::{command, run};

/// Totals since the machine's start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    /// Entries to guests, of which each ends in an exit.
    pub(super) entries: f64,
    pub(super) instructions: f64,
}

/// The plugin, ready for one machine.
pub(super) struct Counter {
    plugin: PathBuf,
    marks: PathBuf,
    /// Which code ran is written down too, and kept.
    profile: bool,
}

impl Counter {
    /// Compiles it.
    pub(super) fn new(machine: &str, profile: bool) -> Result<Self> {
        let directory = images::target_dir().join("bench");
        fs::create_dir_all(&directory)?;
        let source = images::root().join("boot/bench/counter.c");
        let plugin = directory.join(format!("{machine}.so"));
        run(command("cc", ["-O2", "-shared", "-fPIC", "-o"])
            .arg(&plugin)
            .arg(&source))?;
        let marks = plugin.with_extension("marks");
        if profile {
            eprintln!("x: the profile goes to {}", marks.display());
        }
        Ok(Self {
            plugin,
            marks,
            profile,
        })
    }

    /// For QEMU's command line.
    pub(super) fn arguments(&self) -> [OsString; 2] {
        let mut plugin = self.plugin.clone().into_os_string();
        plugin.push(",out=");
        plugin.push(&self.marks);
        if self.profile {
            plugin.push(",profile=on");
        }
        ["-plugin".into(), plugin]
    }

    pub(super) fn marks(&self) -> Result<Vec<Mark>> {
        let text = fs::read_to_string(&self.marks)
            .with_context(|| format!("the counter wrote no {}", self.marks.display()))?;
        parse(&text)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let remove = |file: &Path| drop(fs::remove_file(file));
        remove(&self.plugin);
        if !self.profile {
            remove(&self.marks);
        }
    }
}

/// Lines "MARK entries instructions"; others are a profile's.
fn parse(text: &str) -> Result<Vec<Mark>> {
    let marks = text.lines().filter_map(|line| line.strip_prefix("MARK "));
    marks
        .map(|line| {
            let (entries, instructions) = line.split_once(' ').context("a mark without counts")?;
            Ok(Mark {
                entries: entries.parse()?,
                instructions: instructions.parse()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_a_profile() {
        let found = parse("MARK 5 700\n400078 12 3\nMARK 9 900\n").expect("well-formed");
        let of = |entries, instructions| Mark {
            entries,
            instructions,
        };
        assert_eq!(found, [of(5.0, 700.0), of(9.0, 900.0)]);
        assert!(parse("MARK 5\n").is_err());
    }
}
