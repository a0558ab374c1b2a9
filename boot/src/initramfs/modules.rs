//! Chooses kernel modules with all that they need, and writes the indexes that modprobe reads.
//!
//! The package has no modules.dep (depmod makes it at installation), so dependencies and aliases
//! are read from each module's `.modinfo`, as depmod does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::{Object, ObjectSection};

use super::cpio::Archive;
use crate::exec::{command, output};

/// All modules of a kernel, by name with underscores.
pub(crate) struct Modules {
    version: String,
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// The contents of a module's `.modinfo`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    needs: Vec<String>,
    /// Loaded before, if there (soft dependencies may be built in).
    before: Vec<String>,
    aliases: Vec<String>,
}

impl Modules {
    pub(crate) fn new(version: &str, root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(root, &mut files)?;
        let builtin = fs::read_to_string(root.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin
            .lines()
            .map(|line| name_of(Path::new(line)))
            .collect();
        Ok(Self {
            version: version.to_owned(),
            root: root.to_owned(),
            files,
            builtin,
        })
    }

    /// Adds the modules named, with all that they need, and their indexes.
    pub(crate) fn add(&self, wanted: &[&str], archive: &mut Archive) -> Result<()> {
        let mut chosen = BTreeMap::new();
        for name in wanted {
            let name = name.replace('-', "_");
            if !self.builtin.contains(&name) {
                self.choose(&name, &mut chosen)
                    .with_context(|| format!("wanted for the initramfs: {name}"))?;
            }
        }
        let base = format!("lib/modules/{}", self.version);
        let (mut dependencies, mut aliases, mut soft) =
            (String::new(), String::new(), String::new());
        for (name, (data, info)) in &chosen {
            let path = self.path_inside(name)?;
            archive.file(&format!("{base}/{path}"), false, data)?;
            let mut closure = Vec::new();
            closure_of(name, &chosen, &mut closure);
            let needs: Result<Vec<_>> = closure.iter().map(|need| self.path_inside(need)).collect();
            dependencies += format!("{path}: {}", needs?.join(" ")).trim_end();
            dependencies.push('\n');
            for alias in &info.aliases {
                aliases += &format!("alias {alias} {name}\n");
            }
            if !info.before.is_empty() {
                soft += &format!("softdep {name} pre: {}\n", info.before.join(" "));
            }
        }
        let builtin = fs::read(self.root.join("modules.builtin")).unwrap_or_default();
        archive.file(
            &format!("{base}/modules.dep"),
            false,
            dependencies.as_bytes(),
        )?;
        archive.file(&format!("{base}/modules.alias"), false, aliases.as_bytes())?;
        archive.file(&format!("{base}/modules.softdep"), false, soft.as_bytes())?;
        archive.file(&format!("{base}/modules.builtin"), false, &builtin)?;
        archive.file(&format!("{base}/modules.symbols"), false, b"")
    }

    fn choose(&self, name: &str, chosen: &mut BTreeMap<String, (Vec<u8>, Info)>) -> Result<()> {
        if chosen.contains_key(name) || self.builtin.contains(name) {
            return Ok(());
        }
        let path = self
            .files
            .get(name)
            .with_context(|| format!("this kernel has no module {name}"))?;
        let data = load(path)?;
        let info = read_info(&data).with_context(|| format!("cannot read {}", path.display()))?;
        let (needs, before) = (info.needs.clone(), info.before.clone());
        chosen.insert(name.to_owned(), (data, info));
        for need in needs {
            self.choose(&need, chosen)
                .with_context(|| format!("needed by {name}"))?;
        }
        for maybe in before {
            // May name an alias (crypto-crc32c) or something built in.
            if self.files.contains_key(&maybe) {
                self.choose(&maybe, chosen)?;
            }
        }
        Ok(())
    }

    /// kernel/.../NAME.ko, uncompressed.
    fn path_inside(&self, name: &str) -> Result<String> {
        let path = self
            .files
            .get(name)
            .with_context(|| format!("no module {name}"))?;
        let path = path
            .strip_prefix(&self.root)?
            .to_string_lossy()
            .into_owned();
        Ok(path
            .trim_end_matches(".xz")
            .trim_end_matches(".zst")
            .to_owned())
    }
}

/// The modules that have to be loaded before `name`, nearest first, as in modules.dep.
fn closure_of(name: &str, chosen: &BTreeMap<String, (Vec<u8>, Info)>, into: &mut Vec<String>) {
    for need in chosen.get(name).map_or(&[][..], |(_, info)| &info.needs) {
        // A need of several comes last of all of them.
        into.retain(|have| have != need);
        if chosen.contains_key(need) {
            into.push(need.clone());
        }
        closure_of(need, chosen, into);
    }
}

fn collect(directory: &Path, into: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?
    {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, into)?;
        } else if path.to_string_lossy().contains(".ko") {
            into.insert(name_of(&path), path);
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split(".ko")
        .next()
        .unwrap_or_default()
        .replace('-', "_")
}

fn load(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => output(command("xz", ["-dc"]).arg(path)),
        Some("zst") => output(command("zstd", ["-dcq"]).arg(path)),
        _ => fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read_info(module: &[u8]) -> Result<Info> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    Ok(parse_info(section.data()?))
}

fn parse_info(section: &[u8]) -> Info {
    let mut info = Info::default();
    let names = |list: &str| -> Vec<String> {
        list.split([',', ' '])
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect()
    };
    for field in section.split(|byte| *byte == 0) {
        let field = String::from_utf8_lossy(field);
        match field.split_once('=') {
            Some(("depends", list)) => info.needs = names(list),
            Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
            Some(("softdep", list)) => {
                let before = list.split("post:").next().unwrap_or_default();
                info.before
                    .extend(names(before.trim_start().trim_start_matches("pre:")));
            }
            _ => {}
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_information_is_read() {
        let section = b"alias=fs-ext4\0depends=jbd2,mbcache\0softdep=pre: crypto-crc32c post: x\0license=GPL\0";
        let info = parse_info(section);
        assert_eq!(info.needs, ["jbd2", "mbcache"]);
        assert_eq!(info.before, ["crypto_crc32c"]);
        assert_eq!(info.aliases, ["fs-ext4"]);
    }

    #[test]
    fn a_shared_need_is_loaded_first() {
        // modprobe loads the line from its end: c before b before a's own.
        let module = |needs: &[&str]| {
            let needs = needs.iter().map(|need| (*need).to_owned()).collect();
            (
                Vec::new(),
                Info {
                    needs,
                    ..Info::default()
                },
            )
        };
        let chosen = BTreeMap::from([
            ("a".to_owned(), module(&["c", "b"])),
            ("b".to_owned(), module(&["c"])),
            ("c".to_owned(), module(&[])),
        ]);
        let mut closure = Vec::new();
        closure_of("a", &chosen, &mut closure);
        assert_eq!(closure, ["b", "c"]);
    }
}
