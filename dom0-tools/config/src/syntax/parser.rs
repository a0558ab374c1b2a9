//! Tokens to settings.

use super::lexer::{Lexer, Token};
use super::{File, Item, MAX_COUNT, MAX_DEPTH, Setting, Value, replace};
use crate::diag::{Diagnostic, Place};

/// More errors than these help nobody.
const MAX_ERRORS: usize = 20;

/// Parses a whole text.
///
/// # Errors
/// A [`Diagnostic`] for each error, at most twenty: after an error, parsing continues with the next
/// line.
pub fn parse(source: &str, text: &str) -> Result<File, Vec<Diagnostic>> {
    let mut parser = Parser {
        source,
        lexer: Lexer::new(source, text),
        ahead: None,
    };
    let mut file = File {
        source: source.to_owned(),
        settings: Vec::new(),
    };
    let mut errors = Vec::new();
    loop {
        match parser.statement(&mut file) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                errors.push(error);
                parser.recover();
                if errors.len() == MAX_ERRORS {
                    break;
                }
            }
        }
    }
    match python(text) {
        _ if errors.is_empty() => Ok(file),
        Some(line) => {
            let place = Place { line, column: 1 };
            let message = "this is a Python program: neither xl nor Oxen runs one, write the values themselves";
            Err(vec![Diagnostic::at(source, place, message)])
        }
        None => Err(errors),
    }
}

/// The first line that only a Python program has, as xm took them.
fn python(text: &str) -> Option<u32> {
    let statement = |line: &str| {
        let line = line.trim_end();
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        match words.as_slice() {
            ["import", _, ..] | ["from", _, "import"] => true,
            ["def" | "if" | "elif" | "for" | "while", ..] | ["else:" | "try:"] => {
                line.ends_with(':')
            }
            _ => false,
        }
    };
    let line = text.lines().position(statement)?;
    u32::try_from(line).ok()?.checked_add(1)
}

struct Parser<'a> {
    source: &'a str,
    lexer: Lexer<'a>,
    ahead: Option<(Token, Place)>,
}

impl Parser<'_> {
    /// One statement or empty line; false at the end of the text.
    fn statement(&mut self, file: &mut File) -> Result<bool, Diagnostic> {
        let Some((token, key_place)) = self.next()? else {
            return Ok(false);
        };
        let key = match token {
            Token::End => return Ok(true),
            Token::Key(key) => key,
            other => {
                let message = format!("expected the name of a key, found {}", other.describe());
                return Err(self.error(key_place, message));
            }
        };
        let adds = match self.next()? {
            Some((Token::Assign, _)) => false,
            Some((Token::Add, _)) => true,
            found => return Err(self.wanted("\"=\"", &format!(" after {key:?}"), found)),
        };
        let item = self.value(0)?;
        match self.next()? {
            None | Some((Token::End, _)) => {}
            found => {
                return Err(self.wanted("the end of the line or \";\"", " after the value", found));
            }
        }
        let setting = Setting {
            key,
            source: self.source.to_owned(),
            key_place,
            item,
        };
        if adds {
            self.add(file, setting)?;
        } else {
            replace(file, setting);
        }
        if file.settings.len() > MAX_COUNT {
            return Err(self.too_many(key_place, "keys in this file"));
        }
        Ok(true)
    }

    fn value(&mut self, depth: usize) -> Result<Item, Diagnostic> {
        let Some((token, place)) = self.next()? else {
            return Err(self.wanted("a value", "", None));
        };
        let value = match token {
            Token::Number(digits) => Value::Number(digits),
            Token::Text(text) => Value::Text(text),
            Token::Open if depth >= MAX_DEPTH => {
                return Err(self.error(place, "too many lists in lists"));
            }
            Token::Open => Value::List(self.list(place, depth)?),
            Token::Key(word) => {
                let message =
                    format!("expected a value, found {word:?}: put quotes around a string");
                return Err(self.error(place, message));
            }
            other => return Err(self.wanted("a value", "", Some((other, place)))),
        };
        Ok(Item { value, place })
    }

    /// The rest of a list; its bracket, at `open`, has been read.
    fn list(&mut self, open: Place, depth: usize) -> Result<Vec<Item>, Diagnostic> {
        let mut items = Vec::new();
        loop {
            match self.next_in_list()? {
                Some((Token::Close, _)) => return Ok(items),
                None => return Err(self.error(open, "this list is not closed with \"]\"")),
                found => self.ahead = found,
            }
            if items.len() == MAX_COUNT {
                return Err(self.too_many(open, "items in this list"));
            }
            items.push(self.value(depth + 1)?);
            match self.next_in_list()? {
                Some((Token::Close, _)) => return Ok(items),
                Some((Token::Comma, _)) => {}
                None => return Err(self.error(open, "this list is not closed with \"]\"")),
                // A key after a value: most likely the bracket was forgotten lines ago.
                Some((Token::Key(_), _)) => {
                    return Err(self.error(open, "this list is not closed with \"]\""));
                }
                found => return Err(self.wanted("\",\" or \"]\"", " in the list", found)),
            }
        }
    }

    /// `key += value` joins strings and appends lists; on a key not set yet it is `=`.
    fn add(&self, file: &mut File, new: Setting) -> Result<(), Diagnostic> {
        let Some(old) = file.settings.iter_mut().find(|old| old.key == new.key) else {
            file.settings.push(new);
            return Ok(());
        };
        match (&mut old.item.value, new.item.value) {
            (Value::List(list), Value::List(more)) if list.len() + more.len() > MAX_COUNT => {
                return Err(self.too_many(new.key_place, "items in this list"));
            }
            (Value::List(list), Value::List(more)) => list.extend(more),
            (Value::Text(text), Value::Text(more)) => text.push_str(&more),
            (old_value, more) => {
                let message = format!(
                    "cannot add {} to {}, which is {}",
                    more.kind(),
                    new.key,
                    old_value.kind()
                );
                return Err(self.error(new.key_place, message));
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Token, Place)>, Diagnostic> {
        match self.ahead.take() {
            Some(token) => Ok(Some(token)),
            None => self.lexer.next().transpose(),
        }
    }

    /// Like next, but a line's end separates nothing here.
    fn next_in_list(&mut self) -> Result<Option<(Token, Place)>, Diagnostic> {
        loop {
            match self.next()? {
                Some((Token::End, _)) => {}
                found => return Ok(found),
            }
        }
    }

    /// After an error: on to the next line, unless the error ended at one.
    fn recover(&mut self) {
        self.ahead = None;
        self.lexer.skip_line();
    }

    fn wanted(&self, what: &str, where_: &str, found: Option<(Token, Place)>) -> Diagnostic {
        let (found, place) = match found {
            Some((token, place)) => (token.describe(), place),
            None => ("the end of the file".to_owned(), self.lexer.place()),
        };
        self.error(place, format!("expected {what}{where_}, found {found}"))
    }

    fn too_many(&self, place: Place, what: &str) -> Diagnostic {
        self.error(place, format!("more than {MAX_COUNT} {what}"))
    }

    fn error(&self, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.source, place, message)
    }
}
