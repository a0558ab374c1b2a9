//! Constants that the ABI crate has and that stand elsewhere once more.

use std::collections::BTreeSet;

use anyhow::Result;
use syn::Item;

use super::source::Source;

/// The places where a constant has the name of one of the ABI crate, and a number for its value.
///
/// # Errors
/// `syn::Error` if a file is not Rust.
pub(crate) fn retyped(sources: &[Source]) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for source in sources.iter().filter(|s| s.room() == "guest-pv-abi") {
        each_constant(source, |name, _| {
            names.insert(name.to_owned());
        })?;
        // Macros of the crate define the rest: `NAME = number`.
        for line in source.text.lines() {
            if let Some((name, _)) = line.trim().split_once(" = ")
                && name.len() > 4
                && name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            {
                names.insert(name.to_owned());
            }
        }
    }
    let mut found = Vec::new();
    for source in sources {
        let room = source.room();
        if room.starts_with("tests") || room == "guest-pv-abi" || source.is_test() {
            continue;
        }
        each_constant(source, |name, is_number| {
            if is_number && names.contains(name) {
                found.push(format!("{}: {name}", source.path));
            }
        })?;
    }
    Ok(found)
}

/// Calls `note` with the name of each constant of a file, and whether its value is a number.
fn each_constant(source: &Source, mut note: impl FnMut(&str, bool)) -> Result<()> {
    for item in syn::parse_file(&source.text)?.items {
        if let Item::Const(constant) = item {
            let is_number = matches!(
                &*constant.expr,
                syn::Expr::Lit(_) | syn::Expr::Binary(_) | syn::Expr::Unary(_)
            );
            note(&constant.ident.to_string(), is_number);
        }
    }
    Ok(())
}
