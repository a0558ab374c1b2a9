//! The rules of prose that a program can hold: docs/house.md has the whole of them.

use std::collections::BTreeMap;
use std::fmt;

use super::source::Source;

/// A rule that a comment breaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rule {
    Wide,
    Pronoun,
    Question,
    Errors,
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Wide => "a comment's line ends at column 100",
            Self::Pronoun => "a doc comment begins with its subject, not It, They, That, What, Who",
            Self::Question => "a doc comment does not end with a question mark",
            Self::Errors => "`# Errors` names an error and its cause",
        })
    }
}

/// A place where a rule is broken.
pub(crate) struct Breach {
    path: String,
    line: usize,
    rule: Rule,
}

impl fmt::Display for Breach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// How often each rule is broken.
pub(crate) fn by_rule(breaches: &[Breach]) -> BTreeMap<Rule, usize> {
    let mut counts = BTreeMap::new();
    for breach in breaches {
        *counts.entry(breach.rule).or_default() += 1;
    }
    counts
}

/// All breaches of a source.
pub(crate) fn breaches(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut block: Vec<&str> = Vec::new();
    let mut first = 0;
    for (line, text) in (1..).zip(source.text.lines().chain([""])) {
        let comment = text.trim_start();
        if comment.starts_with("//") && text.chars().count() > 100 {
            found.push((line, Rule::Wide));
        }
        if let Some(doc) = doc(comment) {
            if block.is_empty() {
                first = line;
            }
            block.push(doc);
        } else if !block.is_empty() {
            found.extend(of_block(&block).map(|(at, rule)| (first + at, rule)));
            block.clear();
        }
    }
    let breach = |(line, rule)| Breach {
        path: source.path.clone(),
        line,
        rule,
    };
    found.into_iter().map(breach).collect()
}

/// The text of a line of a doc comment.
fn doc(comment: &str) -> Option<&str> {
    let text = comment
        .strip_prefix("///")
        .or_else(|| comment.strip_prefix("//!"))?;
    (!text.starts_with('/')).then(|| text.trim())
}

/// The rules that a doc comment breaks, each with the number of its line in the comment.
fn of_block(block: &[&str]) -> impl Iterator<Item = (usize, Rule)> {
    let mut found = Vec::new();
    let word = block[0].split(|c: char| !c.is_alphabetic()).next();
    if matches!(word, Some("It" | "They" | "That" | "What" | "Who")) {
        found.push((0, Rule::Pronoun));
    }
    if block.last().is_some_and(|line| line.ends_with('?')) {
        found.push((block.len() - 1, Rule::Question));
    }
    if let Some(at) = block.iter().position(|line| *line == "# Errors") {
        let text = block[at + 1..]
            .iter()
            .take_while(|line| !line.starts_with("# "));
        if !text.into_iter().any(|line| names_an_error(line)) {
            found.push((at, Rule::Errors));
        }
    }
    found.into_iter()
}

/// Whether a line has the name of an error: code in backquotes, a link, or an errno.
fn names_an_error(line: &str) -> bool {
    let errno = |word: &str| {
        word.len() > 3 && word.starts_with('E') && word.chars().all(|c| c.is_ascii_uppercase())
    };
    line.contains('`') || line.split(|c: char| !c.is_alphanumeric()).any(errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::source;

    /// Breaches that a room may still have. The numbers only ever fall; a room that is not named
    /// has none.
    const ALLOWED: &[(&str, usize)] = &[];

    fn of(text: &str) -> Vec<Rule> {
        let source = Source {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        breaches(&source).iter().map(|breach| breach.rule).collect()
    }

    #[test]
    fn each_rule_is_seen() {
        assert_eq!(of("/// What it is.\nfn f() {}"), [Rule::Pronoun]);
        assert_eq!(of("/// Is it?\nfn f() {}"), [Rule::Question]);
        assert_eq!(
            of("/// A.\n///\n/// # Errors\n/// They are.\n"),
            [Rule::Errors]
        );
        assert_eq!(of(&format!("    // {}", "x".repeat(100))), [Rule::Wide]);
    }

    #[test]
    fn good_comments_break_no_rule() {
        let good = "/// Takes a page.\n///\n/// # Errors\n/// `NoMem` without one.\nfn f() {}\n";
        assert_eq!(of(good), []);
        assert_eq!(of("/// A.\n/// # Errors\n/// ENOMEM without a page.\n"), []);
        assert_eq!(of(&format!("let x = \"{}\";", "x".repeat(100))), []);
    }

    #[test]
    fn the_comments_of_the_tree_keep_the_rules() {
        let sources = source::all().expect("the sources");
        assert!(sources.len() > 500, "git knows the sources");
        let mut rooms: BTreeMap<String, Vec<Breach>> = BTreeMap::new();
        for source in &sources {
            rooms
                .entry(source.room())
                .or_default()
                .extend(breaches(source));
        }
        let mut wrong = Vec::new();
        for (room, found) in rooms {
            let allowed = ALLOWED.iter().find(|(name, _)| *name == room);
            let allowed = allowed.map_or(0, |(_, number)| *number);
            if found.len() > allowed {
                wrong.push(format!(
                    "{room}: {} breaches, {allowed} allowed",
                    found.len()
                ));
                wrong.extend(found.iter().map(|breach| format!("  {breach}")));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
