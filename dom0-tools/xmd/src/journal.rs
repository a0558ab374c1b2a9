//! What must outlive the daemon: one small file a domain, replaced as a whole, so that a kill at any
//! moment leaves the old or the new one.

use oxen_config::{DomainConfig, Uuid};
use oxen_devices::{Kind, Spec};
use oxen_domain::ports::DomId;
use oxen_domain::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How far a domain's life has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may exist, but not all of it.
    Building,
    /// Complete; it remains to be let run.
    Starting,
    Running,
    /// It has ended, and is kept for someone to look at.
    Kept,
    /// It is being taken down.
    Ending,
    /// It is being taken down, to be built again.
    Restarting,
}

/// A domain in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub uuid: Uuid,
    /// With its present name.
    pub config: DomainConfig,
    pub state: State,
    /// Unknown for a moment while it is created.
    pub domain: Option<DomId>,
    /// What is being done to its devices while it runs. The configuration changes when it is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
}

/// Something that is being done to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pending {
    Attach(Box<Spec>),
    Detach { kind: Kind, id: u32 },
}

impl Pending {
    /// Which device; none if the description names none.
    #[must_use]
    pub fn place(&self) -> Option<(Kind, u32)> {
        match self {
            Self::Attach(spec) => spec.id().map(|id| (spec.kind(), id)),
            Self::Detach { kind, id } => Some((*kind, *id)),
        }
    }
}

/// The directory of those files.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// Opens the directory, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .map_err(|error| Error::new(format!("cannot make {}", directory.display()), error))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// All entries. Files that cannot be understood are reported by name, and left alone.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn read(&self) -> Result<(Vec<Entry>, Vec<String>)> {
        let fail = |error| Error::new(format!("cannot read {}", self.directory.display()), error);
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        for file in fs::read_dir(&self.directory).map_err(fail)? {
            let path = file.map_err(fail)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            {
                Some(entry) => entries.push(entry),
                None => bad.push(path.display().to_string()),
            }
        }
        Ok((entries, bad))
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        let path = self.path(entry.uuid);
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec(entry)?)?;
            file.sync_data()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| {
            Error::new(format!("cannot write {}", path.display()), error)
                .remedy("is the file system full or read-only?")
        })
    }

    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// The file system refuses.
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
