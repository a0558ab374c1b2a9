//! From words to commands.

use super::lexer::{Token, Word, tokens};
use crate::{Error, Result};
use std::rc::Rc;

/// How deep blocks may lie in each other.
const DEEPEST: u32 = 32;

pub(super) type Block = Rc<Vec<Command>>;

#[derive(Debug)]
pub(super) enum Command {
    Simple(Vec<Word>),
    /// Conditions with what is done then, and what is done else.
    If(Vec<(Block, Block)>, Block),
    Function(String, Block),
    Menu {
        arguments: Vec<Word>,
        body: Block,
        submenu: bool,
    },
}

pub(super) fn parse(text: &str) -> Result<Block> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: tokens.iter().peekable(),
        line: 1,
    };
    let (block, stop) = parser.block(0)?;
    match stop {
        Stop::Text => Ok(block),
        other => Err(parser.unexpected(&other)),
    }
}

/// The word that ended a block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stop {
    Text,
    Brace,
    Keyword(String),
}

const STOPS: [&str; 6] = ["then", "elif", "else", "fi", "do", "done"];

struct Parser<'a> {
    tokens: core::iter::Peekable<core::slice::Iter<'a, (u32, Token)>>,
    line: u32,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<&Token> {
        let (line, token) = self.tokens.next()?;
        self.line = *line;
        Some(token)
    }

    fn unexpected(&self, what: &Stop) -> Error {
        let what = match what {
            Stop::Text => "the file ends here, within a block".to_owned(),
            Stop::Brace => "\"}\" without \"{\"".to_owned(),
            Stop::Keyword(word) => format!("unexpected {word:?}"),
        };
        Error::new(format!("line {}: {what}", self.line))
    }

    /// Commands up to what can end a block.
    fn block(&mut self, depth: u32) -> Result<(Block, Stop)> {
        if depth > DEEPEST {
            return Err(Error::new(format!(
                "line {}: blocks lie too deep in each other",
                self.line
            )));
        }
        let mut commands = Vec::new();
        loop {
            let word = match self.next() {
                None => return Ok((Rc::new(commands), Stop::Text)),
                Some(Token::End) => continue,
                Some(Token::Close) => return Ok((Rc::new(commands), Stop::Brace)),
                Some(Token::Open) => {
                    // A block by itself is a condition that holds.
                    let inside = self.braces(depth)?;
                    commands.push(Command::If(Vec::new(), inside));
                    continue;
                }
                Some(Token::Word(word)) => word.clone(),
            };
            match word.plain() {
                Some(stop) if STOPS.contains(&stop) => {
                    return Ok((Rc::new(commands), Stop::Keyword(stop.to_owned())));
                }
                Some("if") => commands.push(self.condition(depth)?),
                Some("while" | "until" | "for") => self.skip_loop(depth)?,
                Some("function") => commands.push(self.function(depth)?),
                Some(menu @ ("menuentry" | "submenu")) => {
                    let submenu = menu == "submenu";
                    commands.push(self.menu(submenu, depth)?);
                }
                _ => commands.push(self.simple(word)),
            }
        }
    }

    /// The words up to the end of the line.
    fn simple(&mut self, first: Word) -> Command {
        let mut words = vec![first];
        while let Some((_, Token::Word(word))) = self
            .tokens
            .next_if(|(_, token)| matches!(token, Token::Word(_)))
        {
            words.push(word.clone());
        }
        Command::Simple(words)
    }

    fn condition(&mut self, depth: u32) -> Result<Command> {
        let mut branches = Vec::new();
        loop {
            let test = self.until(depth, "then")?;
            let (body, stop) = self.block(depth + 1)?;
            branches.push((test, body));
            match &stop {
                Stop::Keyword(word) if word == "elif" => {}
                Stop::Keyword(word) if word == "else" => {
                    return Ok(Command::If(branches, self.until(depth, "fi")?));
                }
                Stop::Keyword(word) if word == "fi" => {
                    return Ok(Command::If(branches, Rc::default()));
                }
                other => return Err(self.unexpected(other)),
            }
        }
    }

    fn until(&mut self, depth: u32, keyword: &str) -> Result<Block> {
        match self.block(depth + 1)? {
            (block, Stop::Keyword(word)) if word == keyword => Ok(block),
            (_, other) => Err(self.unexpected(&other)),
        }
    }

    fn skip_loop(&mut self, depth: u32) -> Result<()> {
        self.until(depth, "do")?;
        self.until(depth, "done").map(drop)
    }

    fn function(&mut self, depth: u32) -> Result<Command> {
        let name = match self.next() {
            Some(Token::Word(word)) => word.plain().map(str::to_owned),
            _ => None,
        };
        let name =
            name.ok_or_else(|| Error::new(format!("line {}: a function has no name", self.line)))?;
        self.open("function")?;
        Ok(Command::Function(name, self.braces(depth)?))
    }

    fn menu(&mut self, submenu: bool, depth: u32) -> Result<Command> {
        let mut arguments = Vec::new();
        while let Some((_, Token::Word(word))) = self
            .tokens
            .next_if(|(_, token)| matches!(token, Token::Word(_)))
        {
            arguments.push(word.clone());
        }
        self.open("menu entry")?;
        let body = self.braces(depth)?;
        Ok(Command::Menu {
            arguments,
            body,
            submenu,
        })
    }

    fn open(&mut self, what: &str) -> Result<()> {
        while let Some(token) = self.next() {
            match token {
                Token::End => {}
                Token::Open => return Ok(()),
                _ => break,
            }
        }
        Err(Error::new(format!(
            "line {}: a {what} has no block",
            self.line
        )))
    }

    /// The rest of a block in braces.
    fn braces(&mut self, depth: u32) -> Result<Block> {
        match self.block(depth + 1)? {
            (block, Stop::Brace) => Ok(block),
            (_, other) => Err(self.unexpected(&other)),
        }
    }
}
