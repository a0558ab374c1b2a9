//! Errors and warnings about a file, each with its place.

use core::fmt::{self, Write};
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
        write!(f, "{}:", Printable(&self.source))?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {}", Printable(&self.message))
    }
}

/// A text whose control characters are written as escapes. A message quotes the user's file, and
/// must not move a terminal's cursor.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_the_file_are_written_as_escapes() {
        let place = Place { line: 2, column: 1 };
        let told = Diagnostic::at("a\u{1b}.cfg", place, "rate=1\u{8}Mb/s is wrong");
        assert_eq!(
            told.to_string(),
            "a\\u{1b}.cfg:2:1: rate=1\\u{8}Mb/s is wrong"
        );
    }
}
