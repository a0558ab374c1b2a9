//! The syntax: `key = value` and `key += value`, one to a line or separated by `;`, with `#`
//! comments. A value is a number, a string in either kind of quotes, or a list of values, which may
//! span lines and end with a comma.
//!
//! Unlike xl's own parser this one takes negative numbers, and uppercase letters in a key reach the
//! table of keys, so that the message about `Memory=1` is a suggestion.

mod lexer;
mod parser;

use crate::diag::{Diagnostic, Place};

pub use parser::parse;

/// Longest file taken. A configuration is a page of text; a disk image given by mistake is not.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest list in a list.
pub const MAX_DEPTH: usize = 16;
/// Most keys of a file, and most items of a list: what is done with each takes longer, the more
/// there are.
pub const MAX_COUNT: usize = 1000;
/// The name of the source of overrides, as messages show it.
pub const COMMAND_LINE: &str = "command line";

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Digits as written, decimal or `0x`, perhaps with a minus sign.
    Number(String),
    Text(String),
    List(Vec<Item>),
}

impl Value {
    /// The name of this kind of value in messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
        }
    }
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub value: Value,
    pub place: Place,
}

/// The last word on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// The file, or [`COMMAND_LINE`].
    pub source: String,
    pub key_place: Place,
    pub item: Item,
}

/// A parsed text: one setting a key, in the order of first mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    pub source: String,
    pub settings: Vec<Setting>,
}

impl File {
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

/// Stands for a byte that is no text.
const NOT_TEXT: char = char::REPLACEMENT_CHARACTER;

/// Checks size and encoding, then parses.
///
/// # Errors
/// A [`Diagnostic`] for each syntax error.
pub fn parse_bytes(source: &str, bytes: &[u8]) -> Result<File, Vec<Diagnostic>> {
    if bytes.len() > MAX_BYTES {
        let message = format!(
            "the file is larger than {} KiB: is it a configuration file?",
            MAX_BYTES >> 10
        );
        return Err(vec![Diagnostic::whole(source, message)]);
    }
    if bytes.contains(&0) {
        let message = "the file is not text: is it a configuration file?";
        return Err(vec![Diagnostic::whole(source, message)]);
    }
    // Old files have comments in ISO-8859-1. What is not UTF-8 becomes a mark, a byte each, which
    // the lexer refuses in values.
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| NOT_TEXT));
    }
    parse(source, &text)
}

/// Applies one `key=value` word of a command line. The value may be written as in a file; what does
/// not parse so is taken as a plain string, since the shell has eaten the quotes.
///
/// # Errors
/// A [`Diagnostic`] if the word is no assignment.
pub fn apply_override(file: &mut File, word: &str) -> Result<(), Diagnostic> {
    if let Ok(parsed) = parse(COMMAND_LINE, word) {
        for setting in parsed.settings {
            replace(file, setting);
        }
        return Ok(());
    }
    let Some((key, value)) = word.split_once('=') else {
        let message = format!("{word:?} is not of the form key=value");
        return Err(Diagnostic::whole(COMMAND_LINE, message));
    };
    let key = key.trim();
    if key.is_empty() || !key.chars().all(lexer::is_key_char) {
        let message = format!("{key:?} is not the name of a key (in {word:?})");
        return Err(Diagnostic::whole(COMMAND_LINE, message));
    }
    let key_place = Place { line: 1, column: 1 };
    let place = Place {
        line: 1,
        column: to_u32(key.chars().count() + 2),
    };
    let item = Item {
        value: Value::Text(value.to_owned()),
        place,
    };
    replace(
        file,
        Setting {
            key: key.to_owned(),
            source: COMMAND_LINE.to_owned(),
            key_place,
            item,
        },
    );
    Ok(())
}

/// Puts `setting` in the place of an earlier one of the same key, or at the end.
fn replace(file: &mut File, setting: Setting) {
    match file.settings.iter_mut().find(|old| old.key == setting.key) {
        Some(old) => *old = setting,
        None => file.settings.push(setting),
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
