//! The small languages inside strings: disks and network interfaces.

pub mod disk;
pub mod vdev;
pub mod vif;
pub mod vlan;

/// Splits `key=value` at the first `=`; a word alone has no value.
pub(crate) fn pair(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((key, value)) => (key.trim(), Some(value.trim())),
        None => (word.trim(), None),
    }
}
