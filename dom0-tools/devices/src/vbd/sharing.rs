//! Shared use of an image: one guest that writes, or any number that read, or any guest whose
//! configuration says `w!`.

use super::image::Identity;
use crate::held::Held;
use oxen_config::{DiskAccess, DiskSpec};
use oxen_domain::nodes::home;
use oxen_domain::world::Store;
use oxen_domain::{Error, Result};

/// The value of the back end's node `mode`.
pub(super) fn mode(spec: &DiskSpec) -> &'static str {
    match (spec.access, spec.shared) {
        (DiskAccess::Ro, _) => "r",
        (DiskAccess::Rw, false) => "w",
        (DiskAccess::Rw, true) => "w!",
    }
}

/// Checks that no other guest's use of the image excludes this one.
///
/// # Errors
/// `Error` that names the other guest, if one writes the image or this disk would write what others
/// use.
pub(super) fn check(
    spec: &DiskSpec,
    identity: Identity,
    others: &[Held],
    store: &mut dyn Store,
) -> Result<()> {
    for other in others {
        let same = Identity::of(other.node("params").as_ref()).is_ok_and(|id| id == identity);
        if !same || compatible(mode(spec), other.node("mode")) {
            continue;
        }
        let name = store.read(&format!("{}/name", home(other.domain)))?;
        let name = name.unwrap_or_else(|| format!("domain {}", other.domain));
        let how = match other.node("mode") {
            "r" => "reads",
            _ => "writes",
        };
        let cause = format!("{name} {how} it as {}", other.name);
        return Err(Error::new(format!("cannot use {}", spec.target), cause)
            .remedy("give it read-only to all, or with w! if their file system is made for that"));
    }
    Ok(())
}

fn compatible(new: &str, old: &str) -> bool {
    match (new, old) {
        ("w!", _) => true,
        ("r", old) => old != "w",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::compatible;

    #[test]
    fn one_writer_or_many_readers_unless_asked_for() {
        assert!(compatible("r", "r"));
        assert!(!compatible("r", "w"));
        assert!(!compatible("w", "r"));
        assert!(!compatible("w", "w"));
        assert!(!compatible("w", "w!"));
        assert!(compatible("w!", "w"));
        assert!(compatible("w!", "w!"));
        assert!(compatible("r", "w!"));
    }
}
