//! The hypervisor's command line, in the syntax of Xen's (docs/misc/xen-command-line there).
//!
//! Words are split at blanks; quotes (' or ") keep blanks inside a word and are dropped. A word is
//! `key=value` or a boolean: `key`, `no-key`, `key=on|off|yes|no|true|false|enable|disable|1|0`.
//! The last setting of a key wins. An option that nobody knows is named in the log (`names`).

/// One word, cut at its first `=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arg<'a> {
    /// The part before the `=`, or the whole word.
    pub key: &'a str,
    /// The part behind the `=`; `None` for a bare word.
    pub value: Option<&'a str>,
}

/// A command line, read anew by each question about it.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a>(&'a str);

impl<'a> CommandLine<'a> {
    /// The command line with this text.
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// All words in their order.
    pub fn args(self) -> impl Iterator<Item = Arg<'a>> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            rest = rest.trim_start_matches(is_blank);
            if rest.is_empty() {
                return None;
            }
            let (word, tail) = split_word(rest);
            rest = tail;
            Some(match word.split_once('=') {
                Some((key, value)) => Arg {
                    key: unquote(key),
                    value: Some(unquote(value)),
                },
                None => Arg {
                    key: unquote(word),
                    value: None,
                },
            })
        })
    }

    /// The value of the last `key=value`.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.args()
            .filter(|arg| arg.key == key)
            .filter_map(|arg| arg.value)
            .last()
    }

    /// The last word about a boolean, if there is any.
    pub fn flag(self, key: &str) -> Option<bool> {
        self.args().filter_map(|arg| boolean(arg, key)).last()
    }

    /// A number, decimal or with 0x.
    pub fn number(self, key: &str) -> Option<u64> {
        parse_number(self.get(key)?)
    }

    /// The names of all options given, without the `no-` of booleans: to find those nobody knows.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        self.args()
            .map(|arg| arg.key.strip_prefix("no-").unwrap_or(arg.key))
    }
}

fn boolean(arg: Arg<'_>, key: &str) -> Option<bool> {
    match arg.value {
        None if arg.key == key => Some(true),
        None if arg.key.strip_prefix("no-") == Some(key) => Some(false),
        Some(value) if arg.key == key => parse_bool(value),
        _ => None,
    }
}

/// A boolean's value; `None` if it is none of the words above.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "on" | "yes" | "true" | "enable" => Some(true),
        "0" | "off" | "no" | "false" | "disable" => Some(false),
        _ => None,
    }
}

/// A number, decimal or with 0x.
pub fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A size in bytes: number, with the suffix b, k, m, g or t (KiB if there is none, as in Xen).
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'b' => (&text[..text.len() - 1], 0),
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        b't' => (&text[..text.len() - 1], 40),
        _ => (text, 10),
    };
    parse_number(digits)?.checked_mul(1 << shift)
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t' || c == '\n'
}

/// The first word and what follows it. An unclosed quote reaches to the end.
fn split_word(text: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if is_blank(c) => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

/// Drops quotes at both ends. Quotes in the middle of a word stay.
fn unquote(word: &str) -> &str {
    let inner = word.strip_prefix(['"', '\'']).unwrap_or(word);
    inner.strip_suffix(['"', '\'']).unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_words_and_values() {
        let line = CommandLine::new("  dom0_mem=512M,max:1G com1=115200 noreboot ");
        let args: Vec<_> = line.args().collect();
        assert_eq!(args.len(), 3);
        assert_eq!(line.get("dom0_mem"), Some("512M,max:1G"));
        assert_eq!(
            args[2],
            Arg {
                key: "noreboot",
                value: None
            }
        );
    }

    #[test]
    fn quotes_keep_blanks() {
        let line = CommandLine::new(r#"a="one two" b='x y'  "c=1 2" d="open end"#);
        assert_eq!(line.get("a"), Some("one two"));
        assert_eq!(line.get("b"), Some("x y"));
        assert_eq!(line.get("c"), Some("1 2"));
        assert_eq!(line.get("d"), Some("open end"));
    }

    #[test]
    fn last_setting_wins() {
        let line = CommandLine::new("smap no-smap smep=off smep loglvl=all loglvl=info");
        assert_eq!(line.flag("smap"), Some(false));
        assert_eq!(line.flag("smep"), Some(true));
        assert_eq!(line.flag("umip"), None);
        assert_eq!(line.get("loglvl"), Some("info"));
    }

    #[test]
    fn numbers_and_sizes() {
        assert_eq!(parse_size("512M"), Some(512 << 20));
        assert_eq!(parse_size("4"), Some(4096));
        assert_eq!(parse_size("0x10k"), Some(16 << 10));
        assert_eq!(parse_size("99999999999t"), None);
        assert_eq!(parse_size(""), None);
        assert_eq!(parse_size("m"), None);
        assert_eq!(CommandLine::new("n=0x20").number("n"), Some(32));
    }

    #[test]
    fn names_without_negation() {
        let line = CommandLine::new("loglvl=all no-smap bogus=1 noreboot");
        assert_eq!(
            line.names().collect::<Vec<_>>(),
            ["loglvl", "smap", "bogus", "noreboot"]
        );
    }
}
