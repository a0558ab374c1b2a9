//! `[ ... ]` and `test` (GRUB manual, 17.4.69).

use super::eval::Files;

/// Does the expression hold? What is not understood does not.
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

fn single(words: &[String], files: &dyn Files, root: &str) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => false,
        ["!", rest @ ..] => {
            let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
            !single(&rest, files, root)
        }
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
