//! The paths and commands that the documentation names exist.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;
    use oxen_harness::images::root;

    use crate::house::source::{self, Source};

    /// Folders below which a text may name a path without its beginning.
    const ROOMS: [&str; 3] = ["", "hypervisor", "dom0-tools"];

    /// Texts of the past, which name what was there then.
    const PAST: [&str; 1] = ["CHANGELOG.md"];

    fn texts() -> Vec<Source> {
        let mut texts = source::files("*.md").expect("the documentation");
        texts.retain(|text| !PAST.contains(&text.path.as_str()));
        assert!(texts.len() > 20, "git knows the documentation");
        texts
    }

    /// The pieces of a text in backquotes, without those of fenced blocks.
    fn quoted(text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        let mut fenced = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                pieces.extend(line.split('`').skip(1).step_by(2));
            }
        }
        pieces
    }

    /// Whether a piece reads as a path of the tree: a folder of it, then a name.
    fn is_path(piece: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let Some((first, rest)) = piece.split_once('/') else {
            return false;
        };
        piece.chars().all(plain)
            && !rest.is_empty()
            && ROOMS
                .iter()
                .any(|room| root().join(room).join(first).is_dir())
            && !["target", "."].contains(&first)
            && !first.is_empty()
    }

    /// Whether a path is there, whole or as the end of one that git knows.
    fn exists(piece: &str, known: &[Source]) -> bool {
        let end = format!("/{piece}");
        ROOMS
            .iter()
            .any(|room| root().join(room).join(piece).exists())
            || known.iter().any(|source| source.path.ends_with(&end))
    }

    /// The targets of a text's links that are files.
    fn links(text: &Source) -> Vec<(String, PathBuf)> {
        let folder = root().join(Path::new(&text.path).parent().expect("a file has a folder"));
        let targets = text.text.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(')'));
        let files = targets.map(|(target, _)| target.split('#').next().unwrap_or(target));
        let files = files.filter(|target| !target.is_empty() && !target.contains(':'));
        files
            .map(|target| (target.to_owned(), folder.join(target)))
            .collect()
    }

    #[test]
    fn every_path_that_the_documentation_names_exists() {
        let known = source::all().expect("the sources");
        let mut missing = Vec::new();
        for text in texts() {
            for piece in quoted(&text.text) {
                if is_path(piece) && !exists(piece, &known) {
                    missing.push(format!("{}: {piece}", text.path));
                }
            }
            for (target, file) in links(&text) {
                if !file.exists() {
                    missing.push(format!("{}: link to {target}", text.path));
                }
            }
        }
        assert!(missing.is_empty(), "{}", missing.join("\n"));
    }

    #[test]
    fn every_source_that_a_comment_names_exists() {
        let mut missing = Vec::new();
        let known = source::all().expect("the sources");
        for source in &known {
            let comments = source
                .text
                .lines()
                .filter(|l| l.trim_start().starts_with("//"));
            for piece in comments.flat_map(|line| quoted(line)) {
                if is_path(piece) && piece.contains("/src/") && !exists(piece, &known) {
                    missing.push(format!("{}: {piece}", source.path));
                }
            }
        }
        assert!(missing.is_empty(), "{}", missing.join("\n"));
    }

    #[test]
    fn every_command_that_the_documentation_names_exists() {
        let known = crate::Cli::command();
        let shell = ["help", "cargo", "env"];
        let mut unknown = Vec::new();
        for text in texts() {
            for piece in quoted(&text.text) {
                let mut words = piece.split_whitespace();
                let (Some("./x"), Some(name)) = (words.next(), words.next()) else {
                    continue;
                };
                let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                if is_name && !shell.contains(&name) && known.find_subcommand(name).is_none() {
                    unknown.push(format!("{}: {piece}", text.path));
                }
            }
        }
        assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    }
}
