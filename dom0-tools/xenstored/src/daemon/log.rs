//! The log: standard error, which may be turned to a file.

use std::fs::File;
use std::time::Instant;

use xenstored::error::StoreError;
use xenstored::journal::Saved;
use xenstored::notices::{Limiter, Notice};
use xenstored::wire::{Header, Kind};

/// Messages that were logged already, so that none is repeated.
#[derive(Default)]
pub(super) struct Told {
    large: bool,
    guests: Limiter,
}

impl Told {
    /// How the journal fares, once for each change.
    pub(super) fn journal(&mut self, saved: Saved) {
        match saved {
            Saved::Written | Saved::Stale => {}
            Saved::Again => {
                self.large = false;
                eprintln!("xenstored: the journal is written again");
            }
            Saved::Large(error) if !self.large => {
                self.large = true;
                eprintln!("xenstored: the journal cannot be made smaller, so it grows: {error}");
            }
            Saved::Large(_) => {}
            Saved::Failed(error) => eprintln!(
                "xenstored: the journal cannot be written: {error}. The store goes on; a restart \
                 before there is room again would lose what changes from now on"
            ),
        }
    }

    /// Guests at their limits.
    pub(super) fn notices(&mut self, notices: &[Notice]) {
        let now = Instant::now();
        for notice in notices {
            if let Some(line) = self.guests.pass(notice, now) {
                eprintln!("xenstored: {line}");
            }
        }
    }
}

pub(super) fn request(who: &str, header: Header, payload: &[u8]) {
    let kind = Kind::from_number(header.kind)
        .map_or_else(|| header.kind.to_string(), |k| format!("{k:?}"));
    eprintln!(
        "xenstored: {who} {kind} tx {} {}",
        header.tx_id,
        payload.escape_ascii()
    );
}

/// Turns standard error to a file, behind what is in it.
pub(super) fn to_file(name: &str) -> Result<(), StoreError> {
    let file = File::options().append(true).create(true).open(name);
    let turned = file.and_then(|file| Ok(rustix::stdio::dup2_stderr(&file)?));
    turned.map_err(|error| {
        eprintln!(
            "xenstored: cannot log to {}: {error}",
            name.escape_default()
        );
        StoreError::Io
    })
}
