//! Text to tokens.

use crate::diag::{Diagnostic, Place};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Key(String),
    Number(String),
    Text(String),
    Assign,
    Add,
    Open,
    Close,
    Comma,
    /// A line's end or `;`.
    End,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Key(word) => format!("{word:?}"),
            Self::Number(digits) => format!("the number {digits}"),
            Self::Text(_) => "a string".to_owned(),
            Self::Assign => "\"=\"".to_owned(),
            Self::Add => "\"+=\"".to_owned(),
            Self::Open => "\"[\"".to_owned(),
            Self::Close => "\"]\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
            Self::End => "the end of the line".to_owned(),
        }
    }
}

pub(super) fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-'
}

pub(super) struct Lexer<'a> {
    source: &'a str,
    rest: core::iter::Peekable<core::str::Chars<'a>>,
    place: Place,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str, text: &'a str) -> Self {
        // A byte order mark is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            source,
            rest: text.chars().peekable(),
            place: Place { line: 1, column: 1 },
        }
    }

    /// The place of the next character.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The next token with its place; None at the end of the text. After an error the rest of the
    /// line has been skipped, so that one slip is reported once.
    pub(super) fn next(&mut self) -> Option<Result<(Token, Place), Diagnostic>> {
        self.skip_blank();
        let place = self.place;
        let c = *self.rest.peek()?;
        let token = match c {
            '\n' | ';' => self.single(Token::End),
            '[' => self.single(Token::Open),
            ']' => self.single(Token::Close),
            ',' => self.single(Token::Comma),
            '=' => self.single(Token::Assign),
            '\'' | '"' => self.text(c),
            '+' => self.plus(place),
            '0'..='9' | '-' => self.number(place),
            c if c.is_ascii_alphabetic() || c == '_' => {
                Ok(Token::Key(self.take_while(is_key_char)))
            }
            c => Err(Diagnostic::at(self.source, place, unexpected(c))),
        };
        if token.is_err() {
            self.skip_line();
        }
        Some(token.map(|token| (token, place)))
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.place = Place {
                line: self.place.line.saturating_add(1),
                column: 1,
            };
        } else {
            self.place.column = self.place.column.saturating_add(1);
        }
        Some(c)
    }

    fn single(&mut self, token: Token) -> Result<Token, Diagnostic> {
        self.bump();
        Ok(token)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| keep(*c)) {
            self.place.column = self.place.column.saturating_add(1);
            word.push(c);
        }
        word
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.rest.peek() {
            match c {
                ' ' | '\t' | '\r' => {
                    self.bump();
                }
                '#' => self.skip_line(),
                _ => return,
            }
        }
    }

    /// Up to, not including, the line's end.
    pub(super) fn skip_line(&mut self) {
        while self.rest.peek().is_some_and(|c| *c != '\n') {
            self.bump();
        }
    }

    fn plus(&mut self, place: Place) -> Result<Token, Diagnostic> {
        self.bump();
        if self.rest.peek() == Some(&'=') {
            return self.single(Token::Add);
        }
        Err(Diagnostic::at(self.source, place, unexpected('+')))
    }

    fn number(&mut self, place: Place) -> Result<Token, Diagnostic> {
        let word = self.take_while(is_key_char);
        let digits = word.strip_prefix('-').unwrap_or(&word);
        let good = match digits
            .strip_prefix("0x")
            .or_else(|| digits.strip_prefix("0X"))
        {
            Some(hex) => !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit()),
            None => !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()),
        };
        if good {
            return Ok(Token::Number(word));
        }
        let message =
            format!("{word:?} is not a number (decimal or 0x...); put quotes around a string");
        Err(Diagnostic::at(self.source, place, message))
    }

    fn text(&mut self, mark: char) -> Result<Token, Diagnostic> {
        let start = self.place;
        self.bump();
        let mut text = String::new();
        loop {
            let place = self.place;
            match self.rest.peek().copied() {
                None | Some('\n') => {
                    return Err(Diagnostic::at(
                        self.source,
                        start,
                        "the string has no closing quote on its line",
                    ));
                }
                Some('\\') => {
                    self.bump();
                    text.push(self.escape(place)?);
                }
                Some(super::NOT_TEXT) => {
                    return Err(Diagnostic::at(self.source, place, NOT_UTF8));
                }
                Some(c) => {
                    self.bump();
                    if c == mark {
                        return Ok(Token::Text(text));
                    }
                    text.push(c);
                }
            }
        }
    }

    /// Reads the character after a backslash: C's escapes, as in xl.
    fn escape(&mut self, place: Place) -> Result<char, Diagnostic> {
        let c = self.rest.peek().copied().filter(|c| *c != '\n');
        let Some(c) = c else {
            return Err(Diagnostic::at(
                self.source,
                place,
                "a backslash at the end of a line",
            ));
        };
        self.bump();
        Ok(match c {
            '\\' | '\'' | '"' => c,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.code(0, 2, 16, place)?,
            '0'..='7' => self.code(c.to_digit(8).unwrap_or(0), 2, 8, place)?,
            c => {
                let message = format!("unknown escape \\{c}; write \\\\ for a backslash");
                return Err(Diagnostic::at(self.source, place, message));
            }
        })
    }

    /// Up to `most` more digits of a character's number.
    fn code(
        &mut self,
        mut value: u32,
        most: usize,
        radix: u32,
        place: Place,
    ) -> Result<char, Diagnostic> {
        let mut seen = 0;
        while seen < most {
            let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(radix)) else {
                break;
            };
            self.bump();
            value = value * radix + digit;
            seen += 1;
        }
        let missing = radix == 16 && seen == 0;
        match char::from_u32(value).filter(|c| !missing && c.is_ascii() && *c != '\0') {
            Some(c) => Ok(c),
            None => Err(Diagnostic::at(
                self.source,
                place,
                "the escape does not name an ASCII character other than NUL",
            )),
        }
    }
}

const NOT_UTF8: &str = "not UTF-8 text: only comments may be in another encoding";

fn unexpected(c: char) -> String {
    let hint = match c {
        '(' | ')' | '+' | '%' | ':' | '{' | '}' => {
            ": expressions of Python are not evaluated, write the value itself"
        }
        super::NOT_TEXT => return NOT_UTF8.to_owned(),
        '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' => {
            ": these are typographic quotes, use ' or \""
        }
        _ => "",
    };
    format!("unexpected {c:?}{hint}")
}
