//! Words of GRUB's script: quotes, escapes, variables, comments.

use crate::{Error, Result};

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// A variable. Outside of quotes its value is cut into words.
    Variable {
        name: String,
        quoted: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Word {
    pub(super) pieces: Vec<Piece>,
    /// A part was in quotes: it is a word even if nothing is in it, and no keyword.
    pub(super) quoted: bool,
}

impl Word {
    /// The text of a word without quotes and variables, which may be a keyword.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] if !self.quoted => Some(text),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// A line's end or a semicolon.
    End,
    Open,
    Close,
}

/// All tokens with their lines.
pub(super) fn tokens(text: &str) -> Result<Vec<(u32, Token)>> {
    let mut lexer = Lexer {
        chars: text.chars().peekable(),
        line: 1,
        found: Vec::new(),
    };
    lexer.all()?;
    Ok(lexer.found)
}

struct Lexer<'a> {
    chars: core::iter::Peekable<core::str::Chars<'a>>,
    line: u32,
    found: Vec<(u32, Token)>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(c)
    }

    fn push(&mut self, token: Token) {
        self.found.push((self.line, token));
    }

    fn all(&mut self) -> Result<()> {
        while let Some(&c) = self.chars.peek() {
            match c {
                '\n' | ';' => {
                    self.push(Token::End);
                    self.next();
                }
                c if c.is_whitespace() => {
                    self.next();
                }
                '#' => {
                    while self.chars.peek().is_some_and(|c| *c != '\n') {
                        self.next();
                    }
                }
                _ => self.word()?,
            }
        }
        self.push(Token::End);
        Ok(())
    }

    fn word(&mut self) -> Result<()> {
        let line = self.line;
        let mut word = Word::default();
        let mut text = String::new();
        while let Some(&c) = self.chars.peek() {
            if c.is_whitespace() || c == ';' {
                break;
            }
            self.next();
            match c {
                '\'' => {
                    word.quoted = true;
                    self.single(line, &mut text)?;
                }
                '"' => {
                    word.quoted = true;
                    self.double(line, &mut word, &mut text)?;
                }
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c) => {
                        word.quoted = true;
                        text.push(c);
                    }
                },
                '$' => self.variable(&mut word, &mut text, false),
                c => text.push(c),
            }
        }
        flush(&mut word, &mut text);
        let token = match word.plain() {
            Some("{") => Token::Open,
            Some("}") => Token::Close,
            _ if word.pieces.is_empty() && !word.quoted => return Ok(()),
            _ => Token::Word(word),
        };
        self.found.push((line, token));
        Ok(())
    }

    fn single(&mut self, line: u32, text: &mut String) -> Result<()> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => text.push(c),
                None => return Err(open_quote(line)),
            }
        }
    }

    fn double(&mut self, line: u32, word: &mut Word, text: &mut String) -> Result<()> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some('\n') => {}
                    Some(c) => {
                        if !matches!(c, '"' | '\\' | '$') {
                            text.push('\\');
                        }
                        text.push(c);
                    }
                    None => return Err(open_quote(line)),
                },
                Some('$') => self.variable(word, text, true),
                Some(c) => text.push(c),
                None => return Err(open_quote(line)),
            }
        }
    }

    /// Reads the variable after a dollar sign. A dollar sign without one stands for itself.
    fn variable(&mut self, word: &mut Word, text: &mut String, quoted: bool) {
        let braces = self.chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| {
            c.is_ascii_alphanumeric() || *c == '_' || (name.is_empty() && "?#@*".contains(*c))
        }) {
            name.push(c);
        }
        if braces {
            self.chars.next_if_eq(&'}');
        }
        if name.is_empty() {
            text.push('$');
            return;
        }
        flush(word, text);
        word.pieces.push(Piece::Variable { name, quoted });
    }
}

fn flush(word: &mut Word, text: &mut String) {
    if !text.is_empty() {
        word.pieces.push(Piece::Text(core::mem::take(text)));
    }
}

fn open_quote(line: u32) -> Error {
    Error::new(format!("line {line}: a quote is not closed"))
}
