//! Tests of this module.

use super::*;
use crate::cli::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};

fn parse(words: &[&str]) -> (Console, ArgMatches) {
    let matches = Cli::command()
        .try_get_matches_from([&["xm", "console"], words].concat())
        .expect("good words");
    let cli = Cli::from_arg_matches(&matches).expect("good words");
    let Command::Console(args) = cli.command else {
        panic!("another command")
    };
    (args, matches)
}

fn play(words: &[&str], guest: impl FnOnce(UnixStream) + Send + 'static) -> Result<()> {
    let (args, matches) = parse(words);
    let steps = steps(&args, &matches).expect("good steps");
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let guest = std::thread::spawn(move || guest(theirs));
    let result = run(&args, &steps, ours, &Output { json: true });
    guest.join().expect("the guest's side");
    result
}

#[test]
fn steps_keep_the_order_of_the_command_line() {
    let words = [
        "--send", "a", "--expect", "b", "--send", "c\\n", "--expect", "d", "demo",
    ];
    let (args, matches) = parse(&words);
    let steps = steps(&args, &matches).expect("good steps");
    let shown: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Send(text) => format!("send {}", String::from_utf8_lossy(text)),
            Step::Expect(regex) => format!("expect {regex}"),
        })
        .collect();
    assert_eq!(shown, ["send a", "expect b", "send c\n", "expect d"]);
}

#[test]
fn a_login() {
    let words = [
        "--expect", "login: $", "--send", "root\\n", "--expect", "# $", "demo",
    ];
    play(&words, |mut guest| {
        guest
            .write_all(b"\r\nDebian\r\nlogin: ")
            .expect("the socket");
        let mut typed = [0; 5];
        guest.read_exact(&mut typed).expect("the socket");
        assert_eq!(&typed, b"root\n");
        guest.write_all(b"root\r\n# ").expect("the socket");
    })
    .expect("it matches");
}

#[test]
fn each_match_is_used_once() {
    let words = ["--expect", "x", "--expect", "x", "--timeout", "1", "demo"];
    let error = play(&words, |mut guest| {
        guest.write_all(b"only one x").expect("the socket")
    })
    .expect_err("one x");
    assert!(
        error.to_string().contains("the console has ended"),
        "{error}"
    );
}

#[test]
fn time_runs_out_with_a_hint() {
    let words = ["--expect", "never", "--timeout", "1", "demo"];
    let error = play(&words, |mut guest| {
        guest.write_all(b"panic: no init\r\n").expect("the socket");
        std::thread::sleep(Duration::from_millis(1500));
    });
    let error = error.expect_err("no match").to_string();
    assert!(
        error.contains("1 seconds are over") && error.contains("panic: no init"),
        "{error}"
    );
}

#[test]
fn the_line_of_a_match() {
    assert_eq!(line_around("a\r\nlogin: here\r\nb", 9), "login: here");
    assert_eq!(line_around("one\ntwo\n", 8), "two");
    assert_eq!(line_around("", 0), "");
}

#[test]
fn bad_words_are_named() {
    let (args, matches) = parse(&["--expect", "(", "demo"]);
    assert!(steps(&args, &matches).is_err());
    assert_eq!(unescape("a\\x41\\e\\\\").expect("good"), b"aA\x1b\\");
    assert!(unescape("\\q").is_err() && unescape("\\x4").is_err() && unescape("\\").is_err());
}
