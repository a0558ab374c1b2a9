//! Imports between the modules of a crate that run in a circle.
//!
//! A module is a file or folder directly below `src`. An arrow is a path that begins with `crate::`
//! in the code of one module and names another. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// An arrow from one module to another.
pub(crate) type Arrow = (String, String);

/// The arrows of each crate that lie in a circle; crates without one are left out.
pub(crate) fn by_room(sources: &[Source]) -> BTreeMap<String, Vec<Arrow>> {
    let mut arrows: BTreeMap<String, BTreeSet<Arrow>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let Some((_, inner)) = source.path.split_once("/src/") else {
            continue;
        };
        let from = module(inner);
        if matches!(from, "lib" | "main") || inner.starts_with("bin/") {
            continue;
        }
        let set = arrows.entry(source.room()).or_default();
        for to in named(&source.text) {
            if to != from {
                set.insert((from.to_owned(), to));
            }
        }
    }
    let circles = arrows
        .into_iter()
        .map(|(room, set)| (room, in_circles(&set)));
    circles.filter(|(_, set)| !set.is_empty()).collect()
}

fn module(inner: &str) -> &str {
    let first = inner.split('/').next().unwrap_or(inner);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The modules that a text names by `crate::`, outside of its inline tests.
fn named(text: &str) -> BTreeSet<String> {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in lines {
        for rest in line.split("crate::").skip(1) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = &rest[..end.unwrap_or(rest.len())];
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// The arrows whose end leads back to their beginning.
fn in_circles(arrows: &BTreeSet<Arrow>) -> Vec<Arrow> {
    let leads_back = |(from, to): &&Arrow| {
        let mut seen = BTreeSet::from([to.as_str()]);
        let mut next = vec![to.as_str()];
        while let Some(at) = next.pop() {
            if at == from {
                return true;
            }
            for (_, to) in arrows.iter().filter(|(start, _)| start == at) {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        false
    };
    arrows.iter().filter(leads_back).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn arrows_of_a_circle_are_found_and_no_others() {
        let sources = [
            source(
                "hypervisor/core/src/a.rs",
                "use crate::b::X;\nuse crate::c::Y;\n",
            ),
            source("hypervisor/core/src/b/mod.rs", "fn f() { crate::a::g() }\n"),
            source("hypervisor/core/src/c.rs", "// crate::a is above.\n"),
        ];
        let found = by_room(&sources);
        let arrow = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let circle = vec![arrow("a", "b"), arrow("b", "a")];
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("hypervisor/core".to_owned(), circle)]
        );
    }
}
