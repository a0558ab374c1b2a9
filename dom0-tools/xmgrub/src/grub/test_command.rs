//! `[ ... ]` and `test` (GRUB manual, 17.4.69).

use super::eval::Files;

/// Whether the expression holds. An expression that is not understood does not.
pub(super) fn holds(words: &[String], files: &dyn Files, root: &str) -> bool {
    // `-o` binds weaker than `-a`; parentheses are not used by generated files.
    let mut any = false;
    for either in words.split(|word| word == "-o") {
        any |= !either.is_empty()
            && either
                .split(|word| word == "-a")
                .all(|part| single(part, files, root));
    }
    any
}

/// One part, with any number of `!` in front.
fn single(words: &[String], files: &dyn Files, root: &str) -> bool {
    let denied = words.iter().take_while(|word| *word == "!").count();
    let words = words.get(denied..).unwrap_or_default();
    !words.is_empty() && plain(words, files, root) != (denied % 2 == 1)
}

fn plain(words: &[String], files: &dyn Files, root: &str) -> bool {
    // The longest has three words.
    let words: Vec<&str> = words.iter().take(4).map(String::as_str).collect();
    match words.as_slice() {
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-e" | "-f", path] => files.has(root, path, false),
        ["-s", path] => files.has(root, path, true),
        [a, "=" | "==", b] => a == b,
        [a, "!=", b] => a != b,
        [a, operator, b] => numbers(a, operator, b).unwrap_or(false),
        [text] => !text.is_empty(),
        _ => false,
    }
}

fn numbers(a: &str, operator: &str, b: &str) -> Option<bool> {
    let (a, b): (i64, i64) = (a.parse().ok()?, b.parse().ok()?);
    Some(match operator {
        "-eq" => a == b,
        "-ne" => a != b,
        "-lt" => a < b,
        "-le" => a <= b,
        "-gt" => a > b,
        "-ge" => a >= b,
        _ => return None,
    })
}
