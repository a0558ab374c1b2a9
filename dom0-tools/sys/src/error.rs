//! A failure as a tool prints it: one line with what failed, why, and what may help.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A failure for a user. Its fields travel over xmd's socket under these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The thing that was attempted: "cannot create demo".
    pub what: String,
    /// Why it failed.
    pub cause: String,
    /// The remedy that the user can try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Error {
    /// A failure without a remedy.
    pub fn new(what: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self {
            what: what.into(),
            cause: cause.to_string(),
            remedy: None,
        }
    }

    /// Adds, or replaces, the remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error {}

/// The result of an operation whose failure a user sees.
pub type Result<T, E = Error> = core::result::Result<T, E>;
