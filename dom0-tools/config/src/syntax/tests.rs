//! Texts that the syntax accepts and refuses, and the places that its errors name.

use super::*;
use proptest::prelude::*;

fn text(file: &File, key: &str) -> String {
    match &file.get(key).expect("the key is set").item.value {
        Value::Text(text) => text.clone(),
        other => panic!("{key} is {other:?}"),
    }
}

fn complaint(source: &str) -> String {
    parse("t", source)
        .expect_err("an error")
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_usual_file() {
    let file = parse(
        "t",
        "# a comment\nname = \"demo\" # another\nmemory=0x80; vcpus = 2\nroot='/dev/x\\'y\\x41'\n\
         disk = [ 'a,b',\n  \"c\" , # why\n]\nextra=\"a\"\nextra += ' b'\ndisk+=['d']\nempty=[]\nnested=[[1,2],[3]]",
    )
    .expect("it parses");
    assert_eq!(text(&file, "name"), "demo");
    assert_eq!(text(&file, "root"), "/dev/x'yA");
    assert_eq!(text(&file, "extra"), "a b");
    assert_eq!(
        file.get("memory").map(|s| &s.item.value),
        Some(&Value::Number("0x80".into()))
    );
    let Some(Value::List(disks)) = file.get("disk").map(|s| s.item.value.clone()) else {
        panic!("no list")
    };
    assert_eq!(disks.len(), 3);
    assert_eq!(disks[1].place, Place { line: 6, column: 3 });
    assert_eq!(
        file.get("empty").map(|s| &s.item.value),
        Some(&Value::List(vec![]))
    );
}

#[test]
fn the_last_assignment_wins() {
    let file = parse("t", "a=1\na='x'\n").expect("it parses");
    assert_eq!(text(&file, "a"), "x");
    assert_eq!(file.settings.len(), 1);
}

#[test]
fn errors_have_their_place() {
    assert_eq!(
        complaint("name = demo"),
        "t:1:8: expected a value, found \"demo\": put quotes around a string"
    );
    assert_eq!(
        complaint("\n a 'x'"),
        "t:2:4: expected \"=\" after \"a\", found a string"
    );
    assert_eq!(
        complaint("a='x"),
        "t:1:3: the string has no closing quote on its line"
    );
    assert_eq!(
        complaint("a=['x',\nb=2\n"),
        "t:2:1: expected a value, found \"b\": put quotes around a string"
    );
    assert_eq!(
        complaint("a=['x'\nb=2\n"),
        "t:1:3: this list is not closed with \"]\""
    );
    assert_eq!(
        complaint("a=['x'"),
        "t:1:3: this list is not closed with \"]\""
    );
    assert_eq!(
        complaint("a=1 2"),
        "t:1:5: expected the end of the line or \";\" after the value, found the number 2"
    );
    assert_eq!(
        complaint("a="),
        "t:1:3: expected a value, found the end of the file"
    );
    assert_eq!(
        complaint("a=12k"),
        "t:1:3: \"12k\" is not a number (decimal or 0x...); put quotes around a string"
    );
    assert_eq!(
        complaint("a=1\na+=[2]"),
        "t:2:1: cannot add a list to a, which is a number"
    );
    assert!(complaint("a='\\q'").starts_with("t:1:4: unknown escape"));
    assert!(complaint("a='x' + 'y'").contains("Python"));
    assert!(complaint(&format!("a={}", "[".repeat(100_000))).contains("too many lists"));
}

#[test]
fn every_line_with_an_error_is_reported_and_not_without_bound() {
    assert_eq!(complaint("a=@\nb=1\nc=%\n").lines().count(), 2);
    assert_eq!(complaint(&"@\n".repeat(1000)).lines().count(), 20);
}

/// Each key is compared with those before, each disk too.
#[test]
fn keys_and_items_are_counted() {
    let keys = |count: usize| (0..count).map(|n| format!("k{n}=1\n")).collect::<String>();
    assert!(parse("t", &keys(1000)).is_ok());
    assert!(complaint(&keys(1001)).starts_with("t:1001:1: more than 1000 keys"));
    assert!(complaint(&keys(100_000)).lines().count() <= 20);
    let list = |count: usize| format!("a=[{}]", "1,".repeat(count));
    assert!(parse("t", &list(1000)).is_ok());
    assert_eq!(
        complaint(&list(1001)),
        "t:1:3: more than 1000 items in this list"
    );
    let added = format!("{}\na+=[1]", list(1000));
    assert_eq!(
        complaint(&added),
        "t:2:1: more than 1000 items in this list"
    );
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let errors = parse_bytes("t", b"a=1\nb='\xff'").expect_err("not UTF-8");
    assert_eq!(
        errors[0].to_string(),
        "t:2:4: not UTF-8 text: only comments may be in another encoding"
    );
    assert!(parse_bytes("t", &vec![b' '; MAX_BYTES + 1]).is_err());
    let errors = parse_bytes("t", &[0x7f, b'E', 0, 0, 1]).expect_err("no text");
    assert_eq!(errors.len(), 1);
}

#[test]
fn comments_may_be_in_another_encoding() {
    let file = parse_bytes("t", b"# caf\xe9\na='x' # d\xe9j\xe0\nb='\xc3\xa9'").expect("it parses");
    assert_eq!(
        (text(&file, "a"), text(&file, "b")),
        ("x".into(), "é".into())
    );
}

#[test]
fn a_python_program_is_one_error() {
    let program = "name = 'a'\nimport os, re\narch = os.uname()[4]\nif re.search('64', arch):\n  lib = 'lib64'\nelse:\n  lib='lib'\n";
    assert_eq!(
        complaint(program),
        "t:2:1: this is a Python program: neither xl nor Oxen runs one, write the values themselves"
    );
}

#[test]
fn overrides_take_a_files_syntax_or_a_bare_word() {
    let mut file = parse("t", "name='a'\nmemory=1").expect("it parses");
    for word in [
        "memory=256",
        "name=other one",
        "vif=['bridge=b']",
        "extra='q'",
    ] {
        apply_override(&mut file, word).expect("it applies");
    }
    assert_eq!(text(&file, "name"), "other one");
    assert_eq!(text(&file, "extra"), "q");
    assert_eq!(
        file.get("memory").map(|s| s.source.as_str()),
        Some(COMMAND_LINE)
    );
    assert!(apply_override(&mut file, "nonsense").is_err());
    assert!(apply_override(&mut file, "a b=1").is_err());
    assert!(apply_override(&mut file, "=1").is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_bytes("t", &bytes);
    }

    #[test]
    fn no_plausible_text_panics(text in "[a-c=+\\[\\]'\"\\\\;,#\n x0-9-]{0,80}") {
        let file = parse("t", &text);
        if let Err(errors) = file {
            prop_assert!(!errors.is_empty());
        }
    }

    /// A string written with its quotes and backslashes escaped comes back as it was.
    #[test]
    fn strings_survive_quoting(value in "[ -~]{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let file = parse("t", &format!("k=\"{quoted}\"")).expect("it parses");
        prop_assert_eq!(text(&file, "k"), value);
    }

    #[test]
    fn errors_point_into_the_text(text in "\\PC{0,60}") {
        if let Err(errors) = parse("t", &text) {
            for error in errors {
                let place = error.place.expect("a syntax error has a place");
                prop_assert_eq!(place.line, 1);
                prop_assert!(place.column as usize <= text.chars().count() + 1);
            }
        }
    }
}
