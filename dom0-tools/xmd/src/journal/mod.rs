//! The journal: the knowledge that must outlive the daemon. One small file a domain, replaced as a
//! whole, so that a kill at any moment leaves the old or the new one.
//!
//! A file holds a JSON object: the fields of [`Entry`], and `version`. Files of the first version
//! have no `version`. Another version of xmd may have written more fields than this one knows: they
//! are reported, kept, and written back ([`lenient`]).

mod lenient;

use oxen_config::{DomainConfig, Uuid};
use oxen_devices::{Kind, Spec};
use oxen_domain::world::DomId;
use oxen_domain::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The version that this xmd writes. It rises when a field changes its meaning; a new field alone
/// is no new version.
const VERSION: u64 = 1;

/// The stage of a domain's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The domain may exist, perhaps in part.
    Building,
    /// The domain is complete, and remains to be started.
    Starting,
    Running,
    /// The domain has ended, and is kept for examination.
    Kept,
    /// The domain is being taken down.
    Ending,
    /// The domain is being taken down, and will be built again.
    Restarting,
}

/// A domain in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub uuid: Uuid,
    /// The configuration, with the domain's present name.
    pub config: DomainConfig,
    pub state: State,
    /// The domain's number; `None` for a moment while the domain is created.
    pub domain: Option<DomId>,
    /// Changes of devices that are under way while the domain runs. The configuration changes when
    /// one is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    /// Fields that a newer xmd has written, kept as they are.
    #[serde(skip)]
    unknown: Vec<lenient::Unknown>,
}

impl Entry {
    /// A domain that is about to be built.
    #[must_use]
    pub fn new(uuid: Uuid, config: DomainConfig) -> Self {
        Self {
            uuid,
            config,
            state: State::Building,
            domain: None,
            pending: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn from_json(bytes: &[u8]) -> serde_json::Result<(Self, Vec<String>)> {
        let mut value: Value = serde_json::from_slice(bytes)?;
        let version = value
            .as_object_mut()
            .and_then(|object| object.remove("version"));
        let version = version.and_then(|version| version.as_u64()).unwrap_or(0);
        let (mut entry, mut unknown): (Self, _) = lenient::read(value)?;
        let mut warnings = Vec::new();
        if version > VERSION {
            warnings.push(format!(
                "a newer xmd wrote its entry (version {version}, this one knows {VERSION})"
            ));
        }
        for name in unknown.iter().flat_map(lenient::Unknown::names) {
            warnings.push(format!(
                "{name} is not known to this xmd: it is kept, and has no effect"
            ));
        }
        lenient::remember(&mut unknown, &serde_json::to_value(&entry)?);
        entry.unknown = unknown;
        Ok((entry, warnings))
    }

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut value = serde_json::to_value(self)?;
        lenient::put_back(&mut value, &self.unknown);
        if let Some(object) = value.as_object_mut() {
            object.insert("version".to_owned(), VERSION.into());
        }
        serde_json::to_vec(&value)
    }
}

/// A change of a device that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pending {
    Attach(Box<Spec>),
    Detach {
        kind: Kind,
        id: u32,
    },
    /// An attach that failed in its middle and is to be undone.
    Undo {
        kind: Kind,
        id: u32,
    },
}

impl Pending {
    /// The device; `None` if the description names none.
    #[must_use]
    pub fn place(&self) -> Option<(Kind, u32)> {
        match self {
            Self::Attach(spec) => spec.id().map(|id| (spec.kind(), id)),
            Self::Detach { kind, id } | Self::Undo { kind, id } => Some((*kind, *id)),
        }
    }
}

/// The directory of the entries' files.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// Opens the directory, and makes it if it is missing.
    ///
    /// # Errors
    /// `Error` if the directory cannot be made.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .map_err(|error| Error::new(format!("cannot make {}", directory.display()), error))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// All entries, and messages about them. A file that cannot be understood is named in a
    /// message, and left alone.
    ///
    /// # Errors
    /// `Error` if the directory cannot be read.
    pub fn read(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        let fail = |error| Error::new(format!("cannot read {}", self.directory.display()), error);
        let (mut entries, mut warnings) = (Vec::new(), Vec::new());
        for file in fs::read_dir(&self.directory).map_err(fail)? {
            let path = file.map_err(fail)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| error.to_string());
            let read =
                bytes.and_then(|bytes| Entry::from_json(&bytes).map_err(|error| error.to_string()));
            match read {
                Ok((entry, told)) => {
                    let name = &entry.config.name;
                    warnings.extend(told.into_iter().map(|text| format!("{name}: {text}")));
                    entries.push(entry);
                }
                Err(cause) => warnings.push(format!(
                    "{} cannot be understood and is left alone ({cause})",
                    path.display()
                )),
            }
        }
        Ok((entries, warnings))
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// `Error` of the file system; the entry is as it was.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        let path = self.path(entry.uuid);
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&new)?;
            file.write_all(&entry.to_json()?)?;
            file.sync_data()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| {
            // A partial file is useless, and takes space.
            let _ = fs::remove_file(&new);
            Error::new(format!("cannot write {}", path.display()), error)
                .remedy("is the file system full or read-only?")
        })
    }

    /// Removes an entry, if it exists.
    ///
    /// # Errors
    /// `Error` of the file system.
    pub fn remove(&self, uuid: Uuid) -> Result<()> {
        match fs::remove_file(self.path(uuid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new("cannot remove an entry of the journal", error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, uuid: Uuid) -> PathBuf {
        self.directory.join(format!("{uuid}.json"))
    }
}

#[cfg(test)]
mod tests;
