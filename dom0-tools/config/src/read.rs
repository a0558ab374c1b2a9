//! Typed access to the settings of a file: each method takes one key, reports what is wrong with
//! its value and goes on, so that one run shows every error.

use crate::diag::{Diagnostic, Place};
use crate::syntax::{File, Item, Setting, Value};
use core::ops::RangeInclusive;

pub(crate) struct Reader<'a> {
    pub(crate) file: &'a File,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A string of a file with where it stands.
pub(crate) struct Text<'a> {
    pub(crate) text: &'a str,
    source: &'a str,
    place: Place,
}

impl Text<'_> {
    pub(crate) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.source, self.place, message)
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self {
            file,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A string; a number is taken as its digits, as xl does.
    pub(crate) fn text(&mut self, key: &str) -> Option<Text<'a>> {
        let setting = self.file.get(key)?;
        match &setting.item.value {
            Value::Text(text) | Value::Number(text) => Some(Text {
                text,
                source: &setting.source,
                place: setting.item.place,
            }),
            Value::List(_) => self.wrong(setting, "a string"),
        }
    }

    /// A string put through `parse`, whose error becomes the message.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(text.text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.errors.push(text.error(format!("{key}: {message}")));
                None
            }
        }
    }

    pub(crate) fn number(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let setting = self.file.get(key)?;
        let (Value::Number(digits) | Value::Text(digits)) = &setting.item.value else {
            return self.wrong(setting, "a number");
        };
        match parse_number(digits.trim()) {
            Ok(number) if range.contains(&number) => Some(number),
            Ok(number) => {
                let message = format!(
                    "{key}: {number} is outside {} to {}",
                    range.start(),
                    range.end()
                );
                self.fail(setting, message)
            }
            Err(message) => self.fail(setting, format!("{key}: {message}")),
        }
    }

    /// A number that is not negative.
    pub(crate) fn count(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.number(key, i64::from(*range.start())..=i64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        let setting = self.file.get(key)?;
        let (Value::Number(word) | Value::Text(word)) = &setting.item.value else {
            return self.wrong(setting, "0 or 1");
        };
        match word.trim() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            word => match parse_number(word) {
                Ok(number) => Some(number != 0),
                Err(_) => self.fail(setting, format!("{key}: expected 0 or 1, found {word:?}")),
            },
        }
    }

    /// A list of strings; a single string counts as a list of one where `one_will_do`.
    pub(crate) fn texts(&mut self, key: &str, one_will_do: bool) -> Option<Vec<Text<'a>>> {
        let setting = self.file.get(key)?;
        let source = setting.source.as_str();
        let as_text = |item: &'a Item| match &item.value {
            Value::Text(text) | Value::Number(text) => Ok(Text {
                text,
                source,
                place: item.place,
            }),
            Value::List(_) => Err(Diagnostic::at(
                source,
                item.place,
                format!("{key}: expected a string, found a list"),
            )),
        };
        let items = match &setting.item.value {
            Value::List(items) => items.iter().map(as_text).collect(),
            _ if one_will_do => as_text(&setting.item).map(|text| vec![text]),
            _ => return self.wrong(setting, "a list, as in [ \"...\" ]"),
        };
        items.map_err(|error| self.errors.push(error)).ok()
    }

    /// Each string of a list put through `parse`; the good ones.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut good = Vec::new();
        for text in self.texts(key, false).unwrap_or_default() {
            match parse(text.text) {
                Ok(value) => good.push(value),
                Err(message) => self.errors.push(text.error(format!("{key}: {message}"))),
            }
        }
        good
    }

    pub(crate) fn warn(&mut self, setting: &Setting, message: impl Into<String>) {
        self.warnings
            .push(Diagnostic::at(&setting.source, setting.key_place, message));
    }

    pub(crate) fn fail<T>(&mut self, setting: &Setting, message: impl Into<String>) -> Option<T> {
        self.errors
            .push(Diagnostic::at(&setting.source, setting.item.place, message));
        None
    }

    fn wrong<T>(&mut self, setting: &Setting, wanted: &str) -> Option<T> {
        let message = format!(
            "{}: expected {wanted}, found {}",
            setting.key,
            setting.item.value.kind()
        );
        self.fail(setting, message)
    }
}

/// Decimal or 0x. A leading zero, which C reads as octal, is refused rather than guessed at.
pub(crate) fn parse_number(word: &str) -> Result<i64, String> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (body, radix) = match hex {
        Some(body) => (body, 16),
        None if digits.len() > 1 && digits.starts_with('0') => {
            return Err(format!("{word} has a leading zero: write it without"));
        }
        None => (digits, 10),
    };
    if body.is_empty() || !body.chars().all(|c| c.is_digit(radix)) {
        return Err(format!("{word:?} is not a number"));
    }
    match i64::from_str_radix(body, radix) {
        Ok(number) if negative => Ok(-number),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{word} is too large")),
    }
}
