//! The rule for a domain's name: it holds what a file's name may hold, and no more.
//!
//! A name goes into logs' file names, into the store and onto terminals, so that the one rule is
//! kept wherever a name comes in: from a file, by the API, by a rename.

/// Longest name in bytes. A file's name has room for it beside what is put before and behind it.
pub const MAX_NAME: usize = 128;

/// Checks a domain's name.
///
/// # Errors
/// A `String` that names the rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a name has 1 to {MAX_NAME} bytes"));
    }
    if matches!(name, "." | "..") {
        return Err(format!("{name:?} is the name of a directory"));
    }
    match name.chars().find(|c| is_refused(*c)) {
        Some(c) => Err(format!(
            "a name holds what a file's name may hold, not {c:?}"
        )),
        None => Ok(()),
    }
}

/// Whether a character is refused because it could lead to another file, end a line, move a cursor,
/// or reverse text on a terminal.
fn is_refused(c: char) -> bool {
    let directional = matches!(c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c == '/' || c.is_control() || directional
}

/// Whether commands take such a name for a domain's number.
pub(crate) fn is_number(name: &str) -> bool {
    name.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_what_a_file_name_may_hold() {
        for name in [
            "demo",
            "test-pv64-pv-iopl~vmassist",
            "25",
            "web server, the old one",
            "café",
            "a:b",
            "...",
            &"x".repeat(MAX_NAME),
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_and_moves_no_cursor() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\nb",
            "a\0",
            "a\u{1b}[2J",
            "a\u{9b}2J",
            "a\u{202e}b",
            &"x".repeat(MAX_NAME + 1),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
