//! A copy of the checkout, in which faults are put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use oxen_harness::images;

use super::{Patch, git};
use crate::exec::{command, run, text};

pub(crate) struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Brings `target/NAME/tree` to the state of the checkout, changes that are not committed
    /// included.
    pub fn of_checkout(name: &str) -> Result<Self> {
        let place = images::target_dir().join(name);
        let copy = Self {
            tree: place.join("tree"),
            target: place.join("target"),
        };
        fs::create_dir_all(&copy.tree)?;
        let list = text(&mut git(&[
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ]))?;
        let wanted: Vec<&str> = list.split('\0').filter(|file| !file.is_empty()).collect();
        for file in &wanted {
            copy.bring(Path::new(file))?;
        }
        copy.drop_others(&wanted)?;
        Ok(copy)
    }

    /// Puts a patch's fault back.
    pub fn apply(&self, patch: &Patch) -> Result<()> {
        let mut apply = self.command("git");
        // The copy lies inside of the checkout, and is not that repository's.
        apply.env(
            "GIT_CEILING_DIRECTORIES",
            self.tree.parent().unwrap_or(&self.tree),
        );
        apply.args(["apply", "--recount", "-C1"]).arg(&patch.path);
        run(&mut apply).context("the patch no longer fits the code")
    }

    /// Takes a patch's fault out again.
    pub fn restore(&self, patch: &Patch) -> Result<()> {
        patch.files.iter().try_for_each(|file| self.bring(file))
    }

    /// A program that works in the copy, with a target directory of its own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = command(program, [""; 0]);
        command.current_dir(&self.tree);
        command
            .env("OXEN_ROOT", &self.tree)
            .env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Copies one file unless the copy has the same bytes. What is written is newer than what cargo
    /// compiled from the file before.
    fn bring(&self, file: &Path) -> Result<()> {
        let (from, to) = (images::root().join(file), self.tree.join(file));
        // A file that was removed, and is still in git's list.
        let Ok(bytes) = fs::read(&from) else {
            return Ok(());
        };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&to, bytes)?;
        let rights = fs::metadata(&from)?.permissions();
        fs::set_permissions(&to, rights).with_context(|| to.display().to_string())
    }

    /// Removes what the checkout no longer has.
    fn drop_others(&self, wanted: &[&str]) -> Result<()> {
        let mut directories = vec![self.tree.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path
                    .strip_prefix(&self.tree)?
                    .to_string_lossy()
                    .into_owned();
                if path.is_dir() {
                    directories.push(path);
                } else if !wanted.contains(&name.as_str()) || !images::root().join(&name).exists() {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }
}
