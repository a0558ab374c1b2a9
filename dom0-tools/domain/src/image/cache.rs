//! The kernel that was unpacked last: unpacking takes most of the time of a guest's creation, and
//! guests that are restarted or created in numbers have the same one.

use super::{Kernel, parse, read_file};
use crate::{Error, Result};
use core::time::Duration;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How long a kernel is kept that nobody requests again.
const KEEP: Duration = Duration::from_secs(60);

/// Holds at most one kernel.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    version: Version,
    kernel: Arc<Kernel>,
    used: Instant,
}

/// The metadata by which a changed file is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for Version {
    fn from(meta: &Metadata) -> Self {
        let changed = (meta.ctime(), meta.ctime_nsec());
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            changed,
        }
    }
}

impl Cache {
    /// The kernel in a file, unpacked.
    ///
    /// # Errors
    /// `Error` if the file is missing or is no kernel.
    pub fn kernel(&self, path: &Path) -> Result<Arc<Kernel>> {
        let version = std::fs::metadata(path)
            .ok()
            .map(|meta| Version::from(&meta));
        if let Some(kept) = self.lock().as_mut()
            && kept.path == path
            && Some(kept.version) == version
        {
            kept.used = Instant::now();
            return Ok(Arc::clone(&kept.kernel));
        }
        // The old kernel goes first: both at once would take a lot of memory.
        self.drop_kernel();
        let bytes = read_file(path, "kernel")?;
        let kernel = parse(&bytes);
        let kernel = kernel.map_err(|error| Error {
            what: format!("{}: {}", path.display(), error.what),
            ..error
        })?;
        let kernel = Arc::new(kernel);
        if let Some(version) = version {
            let kept = Kept {
                path: path.to_owned(),
                version,
                kernel: Arc::clone(&kernel),
                used: Instant::now(),
            };
            *self.lock() = Some(kept);
        }
        Ok(kernel)
    }

    /// Drops a kernel that was not requested for some time. The daemon calls this regularly.
    pub fn drop_unused(&self) {
        if self
            .lock()
            .as_ref()
            .is_some_and(|kept| kept.used.elapsed() > KEEP)
        {
            self.drop_kernel();
        }
    }

    fn drop_kernel(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{elf64, sample_kernel};

    #[test]
    fn a_kernel_is_read_again_only_when_its_file_has_changed() {
        let path = std::env::temp_dir().join(format!("oxen-kernel-{}", std::process::id()));
        std::fs::write(&path, sample_kernel()).expect("a scratch file");
        let cache = Cache::default();
        let first = cache.kernel(&path).expect("a kernel");
        assert!(Arc::ptr_eq(&first, &cache.kernel(&path).expect("the same")));
        cache.drop_unused();
        assert!(Arc::ptr_eq(
            &first,
            &cache.kernel(&path).expect("still the same")
        ));
        std::fs::write(&path, elf64(&[0x90; 100])).expect("a scratch file");
        assert_ne!(first, cache.kernel(&path).expect("another"));
        std::fs::remove_file(&path).expect("a scratch file");
        assert!(cache.kernel(&path).is_err());
    }
}
