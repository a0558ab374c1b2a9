//! Runs commands, within a budget: any configuration ends soon.

use super::lexer::{Piece, Word};
use super::menu::{self, Body, Item, Kind};
use super::parser::{Block, Command, parse};
use super::test_command;
use crate::{Error, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Commands that one configuration may run.
const STEPS: u32 = 50_000;
/// Files that it may look for: each look reads directories, which a guest makes as large as it
/// likes.
const LOOKS: u32 = 1000;
/// Calls of functions and sourced files in each other.
const DEEPEST: u32 = 16;
/// Entries and submenus of a menu, all together.
const MOST_ITEMS: usize = 1000;
/// The most bytes that all expansions of variables may add.
const MOST_TEXT: usize = 8 << 20;
/// One word, and so one variable.
const LONGEST: usize = 1 << 16;

/// The files that a configuration can see. A device is what stands in parentheses: `hd0,gpt1`.
pub trait Files {
    fn has(&self, root: &str, path: &str, filled: bool) -> bool;
    /// A small text file.
    ///
    /// # Errors
    /// `Error` if the file is missing or cannot be read.
    fn text(&self, root: &str, path: &str) -> Result<String>;
    /// The device with what is searched.
    fn search(&self, what: Search<'_>) -> Option<String>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search<'a> {
    Uuid(&'a str),
    Label(&'a str),
    File(&'a str),
}

/// A file on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub device: String,
    pub path: String,
}

/// Files that are looked for a limited number of times; then none is there any more.
struct Counted<'a> {
    files: &'a dyn Files,
    left: Cell<u32>,
}

impl Counted<'_> {
    fn look(&self) -> bool {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or_default());
        left.is_some()
    }

    fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }
}

impl Files for Counted<'_> {
    fn has(&self, root: &str, path: &str, filled: bool) -> bool {
        self.look() && self.files.has(root, path, filled)
    }

    fn text(&self, root: &str, path: &str) -> Result<String> {
        if self.look() {
            self.files.text(root, path)
        } else {
            Err(Error::new("it looks for too many files"))
        }
    }

    fn search(&self, what: Search<'_>) -> Option<String> {
        if self.look() {
            self.files.search(what)
        } else {
            None
        }
    }
}

/// The files and the command line that an entry boots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    pub kernel: Option<Place>,
    pub arguments: String,
    pub ramdisks: Vec<Place>,
    /// A command that boots something else.
    pub foreign: Option<String>,
}

/// A configuration that runs.
pub struct Machine<'a> {
    files: Counted<'a>,
    variables: BTreeMap<String, String>,
    functions: BTreeMap<String, Block>,
    menu: Vec<Item>,
    items: usize,
    boot: Boot,
    steps: u32,
    text: usize,
    depth: u32,
}

impl<'a> Machine<'a> {
    /// A machine whose configuration was found on `device` in `directory`.
    #[must_use]
    pub fn new(files: &'a dyn Files, device: &str, directory: &str) -> Self {
        let variables = [
            ("root", device),
            ("prefix", &format!("({device}){directory}")),
            ("config_directory", &format!("({device}){directory}")),
            ("grub_platform", "xen"),
            ("grub_cpu", "x86_64"),
            ("feature_menuentry_id", "y"),
            ("feature_menuentry_options", "y"),
            ("feature_default_font_path", "y"),
            ("feature_all_video_module", "y"),
            ("feature_platform_search_hint", "y"),
            ("feature_timeout_style", "y"),
        ];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            files: Counted {
                files,
                left: Cell::new(LOOKS),
            },
            variables: BTreeMap::from(owned),
            functions: BTreeMap::new(),
            menu: Vec::new(),
            items: 0,
            boot: Boot::default(),
            steps: 0,
            text: 0,
            depth: 0,
        }
    }

    /// All entries by their full names.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        menu::names(&self.menu)
    }

    /// The title and the files of the wanted entry, or of the default one.
    ///
    /// # Errors
    /// `Error` if there is no such entry, or if it exceeds a limit.
    pub fn choose(mut self, wanted: Option<&str>) -> Result<(String, Boot)> {
        let default = self.variables.get("default").cloned().unwrap_or_default();
        let found = match wanted {
            Some(name) => menu::find(&self.menu, name)
                .ok_or_else(|| Error::new(format!("it has no entry {name:?}")))?,
            None => menu::find(&self.menu, &default)
                .or_else(|| menu::first(&self.menu))
                .ok_or_else(|| Error::new("it has no entry"))?,
        };
        let (title, Body(body)) = (found.0.title.clone(), found.1.clone());
        self.variables.insert("chosen".to_owned(), title.clone());
        self.boot = Boot::default();
        self.run(&body)?;
        Ok((title, self.boot))
    }

    /// Runs commands; true if the last of them succeeded.
    pub(super) fn run(&mut self, block: &Block) -> Result<bool> {
        let mut succeeded = true;
        for command in block.iter() {
            self.steps += 1;
            if self.steps > STEPS {
                return Err(Error::new("it runs too many commands"));
            }
            if self.files.is_used_up() {
                return Err(Error::new("it looks for too many files"));
            }
            succeeded = match command {
                Command::Simple(words) => self.simple(words)?,
                Command::If(branches, otherwise) => self.condition(branches, otherwise)?,
                Command::Function(name, body) => {
                    self.functions.insert(name.clone(), Rc::clone(body));
                    true
                }
                Command::Menu {
                    arguments,
                    body,
                    submenu,
                } => {
                    self.add_item(arguments, body, *submenu)?;
                    true
                }
            };
        }
        Ok(succeeded)
    }

    fn condition(&mut self, branches: &[(Block, Block)], otherwise: &Block) -> Result<bool> {
        for (test, body) in branches {
            if self.run(test)? {
                return self.run(body);
            }
        }
        self.run(otherwise)
    }

    /// One level deeper.
    fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEEPEST {
            return Err(Error::new(
                "its functions or files call each other too deep",
            ));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn add_item(&mut self, arguments: &[Word], body: &Block, submenu: bool) -> Result<()> {
        let (title, id) = title_and_id(self.words(arguments)?);
        self.items += 1;
        if self.items > MOST_ITEMS {
            return Err(Error::new("its menu has too many entries"));
        }
        let kind = if submenu {
            // Variables that a function sets are seen inside of it only.
            let outside = (core::mem::take(&mut self.menu), self.variables.clone());
            self.nested(|machine| machine.run(body))?;
            self.variables = outside.1;
            Kind::Submenu(core::mem::replace(&mut self.menu, outside.0))
        } else {
            Kind::Entry(Body(Rc::clone(body)))
        };
        self.menu.push(Item { title, id, kind });
        Ok(())
    }

    fn value(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// The words with their variables' values in place.
    fn words(&mut self, words: &[Word]) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for word in words {
            let mut current = String::new();
            let mut is_word = word.quoted;
            for piece in &word.pieces {
                match piece {
                    Piece::Text(text) => {
                        current.push_str(text);
                        is_word = true;
                    }
                    Piece::Variable { name, quoted: true } => current.push_str(self.value(name)),
                    Piece::Variable { name, .. } => {
                        // Each blank in it ends a word.
                        for (n, part) in self.value(name).split_whitespace().enumerate() {
                            if n > 0 {
                                done.push(core::mem::take(&mut current));
                            }
                            current.push_str(part);
                            is_word = true;
                        }
                    }
                }
                self.text = self.text.saturating_add(current.len());
                if current.len() > LONGEST || self.text > MOST_TEXT {
                    return Err(Error::new("its variables grow too large"));
                }
            }
            if is_word {
                done.push(current);
            }
        }
        Ok(done)
    }

    fn simple(&mut self, words: &[Word]) -> Result<bool> {
        let words = self.words(words)?;
        let Some((name, arguments)) = words.split_first() else {
            return Ok(true);
        };
        if let Some(body) = self.functions.get(name).cloned() {
            return self.nested(|machine| machine.run(&body));
        }
        match name.as_str() {
            "[" => {
                let inside = arguments.strip_suffix(&["]".to_owned()]);
                let root = self.value("root");
                Ok(test_command::holds(
                    inside.unwrap_or_default(),
                    &self.files,
                    root,
                ))
            }
            "test" => Ok(test_command::holds(
                arguments,
                &self.files,
                self.value("root"),
            )),
            "false" | "keystatus" => Ok(false),
            "set" => {
                for assignment in arguments {
                    self.assign(assignment);
                }
                Ok(true)
            }
            "unset" => {
                for name in arguments {
                    self.variables.remove(name);
                }
                Ok(true)
            }
            "load_env" => Ok(self.load_environment(arguments)),
            "source" | "." | "configfile" => self.source(arguments),
            "search" | "search.fs_uuid" | "search.fs_label" | "search.file" => {
                Ok(self.search(name, arguments))
            }
            "linux" | "linux16" | "linuxefi" => {
                let (path, arguments) = arguments
                    .split_first()
                    .ok_or_else(|| Error::new(format!("{name} names no file")))?;
                self.boot.kernel = Some(self.place(path));
                self.boot.arguments = joined(arguments);
                Ok(true)
            }
            "initrd" | "initrd16" | "initrdefi" => {
                let places = arguments.iter().filter(|word| !word.starts_with("--"));
                self.boot.ramdisks = places.map(|path| self.place(path)).collect();
                Ok(true)
            }
            "multiboot" | "multiboot2" | "chainloader" | "xen_hypervisor" | "legacy_kernel" => {
                self.boot.foreign = Some(name.clone());
                Ok(true)
            }
            _ if name.contains('=') => {
                self.assign(name);
                Ok(true)
            }
            // Modules, fonts, colours and waiting have no effect.
            _ => Ok(true),
        }
    }

    fn assign(&mut self, assignment: &str) {
        if let Some((name, value)) = assignment.split_once('=') {
            self.variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// A file by its name: `(device)/path`, or a path on the root device.
    fn place(&self, name: &str) -> Place {
        let (device, path) = split_device(name).unwrap_or((self.value("root"), name));
        Place {
            device: device.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Variables that GRUB kept in its block of 1 KiB. The entry for the next boot only is left
    /// out, because this program cannot remove it again.
    fn load_environment(&mut self, arguments: &[String]) -> bool {
        let named = arguments
            .iter()
            .position(|word| word == "-f" || word == "--file")
            .and_then(|at| arguments.get(at + 1));
        let default = format!("{}/grubenv", self.value("prefix"));
        let path = named.map_or(default.as_str(), String::as_str);
        let Ok(text) = self.files.text(self.value("root"), path) else {
            return false;
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once('=')
                && name != "next_entry"
                && value.len() <= LONGEST
            {
                self.variables.insert(name.to_owned(), value.to_owned());
            }
        }
        true
    }

    fn source(&mut self, arguments: &[String]) -> Result<bool> {
        let Some(path) = arguments.first() else {
            return Ok(false);
        };
        let Ok(text) = self.files.text(self.value("root"), path) else {
            return Ok(false);
        };
        // As much work as so many commands.
        self.steps = self.steps.saturating_add(STEPS / 100);
        let block = parse(&text).map_err(|error| error.while_doing(path))?;
        self.nested(|machine| machine.run(&block))
    }

    /// `search --no-floppy --fs-uuid --set=root UUID`, and its like.
    fn search(&mut self, command: &str, arguments: &[String]) -> bool {
        let mut kind = match command {
            "search.fs_uuid" => "--fs-uuid",
            "search.fs_label" => "--label",
            _ => "--file",
        };
        let mut variable = "root";
        let mut name = None;
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--fs-uuid" | "-u" => kind = "--fs-uuid",
                "--label" | "--fs-label" | "-l" => kind = "--label",
                "--file" | "-f" => kind = "--file",
                "--set" | "-s" => variable = "root",
                "--hint" | "-h" => drop(words.next()),
                _ => match word.strip_prefix("--set=") {
                    Some(set) => variable = set,
                    None if word.starts_with("--") => {}
                    // The first is searched; of the short form the second is the variable.
                    None if name.is_none() => name = Some(word),
                    None if command.contains('.') => variable = word,
                    None => {}
                },
            }
        }
        let Some(name) = name else { return false };
        let found = self.files.search(match kind {
            "--fs-uuid" => Search::Uuid(name),
            "--label" => Search::Label(name),
            _ => Search::File(name),
        });
        let Some(device) = found else { return false };
        self.variables.insert(variable.to_owned(), device);
        true
    }
}

/// `(device)/path` in its parts.
#[must_use]
pub(crate) fn split_device(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix('(')?.split_once(')')
}

fn title_and_id(words: Vec<String>) -> (String, Option<String>) {
    let (mut title, mut id) = (None, None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--id" => id = words.next(),
            "--class" | "--users" | "--hotkey" | "--source" => drop(words.next()),
            _ => match word.strip_prefix("--id=") {
                Some(value) => id = Some(value.to_owned()),
                None if word.starts_with("--") => {}
                None => title = title.or(Some(word)),
            },
        }
    }
    (title.unwrap_or_default(), id)
}

/// Arguments as one line; those with blanks in quotes, as the kernel takes them.
fn joined(words: &[String]) -> String {
    let quoted = |word: &String| match word.split_once('=') {
        _ if !word.contains(char::is_whitespace) => word.clone(),
        Some((name, value)) => format!("{name}=\"{value}\""),
        None => format!("\"{word}\""),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
