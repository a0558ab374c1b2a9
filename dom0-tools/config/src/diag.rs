//! Errors and warnings about a file, each with its place.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A place in a source text; both numbers start at 1. Columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file, or the words "command line".
    pub source: String,
    /// Unknown for what concerns the file as a whole (a key that is missing).
    pub place: Option<Place>,
    pub message: String,
}

impl Diagnostic {
    pub(crate) fn at(source: &str, place: Place, message: impl Into<String>) -> Self {
        Self {
            source: source.to_owned(),
            place: Some(place),
            message: message.into(),
        }
    }

    pub(crate) fn whole(source: &str, message: impl Into<String>) -> Self {
        Self {
            source: source.to_owned(),
            place: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(
                f,
                "{}:{}:{}: {}",
                self.source, place.line, place.column, self.message
            ),
            None => write!(f, "{}: {}", self.source, self.message),
        }
    }
}

impl core::error::Error for Diagnostic {}
