//! The command lines that README.md and docs/*.md show, read from the text itself, and how each of
//! them is held to be right. The system tests run them; a test here sees that none is missing in
//! the list and none too much.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::images::root;

/// Words that a command line begins with.
const PROGRAMS: [&str; 5] = ["./x", "xm", "dd", "xmgrub", "cat"];

/// How a command line of the text is held to be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Run on the host, with this behind it.
    Host(&'static str),
    /// Run at dom0's prompt, in the order of the list, after this.
    Dom0(&'static str),
    /// The same, but it ends at the guest's console, which is left by Ctrl-].
    Console(&'static str),
    /// Run by a test of this name, in the suite or a soak.
    By(&'static str),
    /// Not run, for this reason.
    Not(&'static str),
}

use How::{By, Console, Dom0, Host, Not};

const DEMO: &str = "xm destroy demo; xm destroy big; true";
const NEEDS: &str = "a word in capitals stands for something else, or it is part of a sentence";
const LONG: &str = "runs the suite, a soak or a measurement itself";
const DEBIAN: &str = "debian";
const PROMPT: &str = " -- true";

/// Each command line of the texts, those of dom0 in the order in which they are run.
pub const LIST: &[(&str, How)] = &[
    // On the host.
    ("./x help", Host("")),
    ("./x run", Host(PROMPT)),
    (
        "./x run --mem 8G --cpus 4 --dom0-mem 2G --dom0-cpus 2",
        Host(" -- 'test $(nproc) = 2'"),
    ),
    (
        "./x run --nic virtio",
        Host(" -- 'test -e /sys/class/net/eth0'"),
    ),
    ("./x run -- 'xm info; xm list'", Host("")),
    (
        r#"./x run -- 'xm create /etc/xen/demo.cfg && xm console --expect "login|#" demo && xm shutdown -w demo'"#,
        Host(""),
    ),
    ("./x run --append-xen trace=hypercalls,exits", Host(PROMPT)),
    ("./x run --append-xen trace=hypercalls", Host(PROMPT)),
    ("./x run --boot linux", Host(PROMPT)),
    ("./x image", Host("")),
    // Both kinds are built by `./x test`; their machines are those of the short set.
    ("./x build --embedded intel|amd", By("backends")),
    ("./x build --sizes", Not(LONG)),
    ("./x cargo test -p abi-layout", Host("")),
    ("./x bench --list", Host("")),
    // At dom0's prompt.
    ("xm create /etc/xen/demo.cfg -c", Console(DEMO)),
    ("xm list", Dom0("")),
    ("xm block-list", Dom0("")),
    ("xm network-list", Dom0("")),
    ("xm dmesg", Dom0("")),
    ("xm log", Dom0("")),
    ("xm debug-keys q; xm dmesg", Dom0("")),
    (
        r"xm console --expect '# $' --send 'uname -r\n' --expect '^6\.1' --timeout 120 demo",
        Dom0("xm destroy demo; xm create /etc/xen/demo.cfg"),
    ),
    ("xm shutdown -w demo", Dom0("")),
    (
        "xm create /etc/xen/demo.cfg name=big memory=512 vcpus=2",
        Dom0(DEMO),
    ),
    ("dd if=/dev/zero of=/root/data.img bs=1M count=64", Dom0("")),
    ("dd if=/dev/zero of=/root/more.img bs=1M count=64", Dom0("")),
    (
        r#"xm create /etc/xen/demo.cfg 'disk=["/root/data.img,raw,xvda,rw"]'"#,
        Dom0(DEMO),
    ),
    (
        "xm block-attach demo /root/more.img xvdb w",
        Dom0("xm console --expect OXEN-GUEST-READY --timeout 120 demo"),
    ),
    ("xm block-detach demo xvdb", Dom0("")),
    (
        r#"xm create /etc/xen/demo.cfg vif="['']" -c"#,
        Console(DEMO),
    ),
    (
        r#"xm create /etc/xen/demo.cfg vif="['bridge=br0']""#,
        Dom0("xm destroy demo; ip link add br0 type bridge && ip link set br0 up"),
    ),
    (
        r#"xm create /etc/xen/demo.cfg vif="['network=private:blue']""#,
        Dom0(DEMO),
    ),
    (
        "xm network-attach demo network=private:blue",
        Dom0("xm console --expect OXEN-GUEST-READY --timeout 120 demo"),
    ),
    ("xm trigger DOMAIN nmi", Not(NEEDS)),
    // Elsewhere.
    ("./x guest-image --output debian.img", By(DEBIAN)),
    ("./x guest-image", By(DEBIAN)),
    ("./x guest-image && ./x soak debian", By(DEBIAN)),
    ("./x run --disk debian.img:virtio", By(DEBIAN)),
    ("xm create /etc/xen/debian.cfg -c", By(DEBIAN)),
    ("xm mem-set debian 320", By("hotplug")),
    ("xm vcpu-set debian 2", By("hotplug")),
    ("xm vcpu-pin debian all 0 -", By("hotplug")),
    ("xmgrub --output-directory /root/boot /dev/vda", By(DEBIAN)),
];

/// The command lines of the texts.
pub fn shown() -> Result<Vec<String>> {
    let mut files = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs")).context("no docs/")? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "md") {
            files.push(path);
        }
    }
    let mut all = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        all.extend(of_text(&text));
    }
    Ok(all.into_iter().collect())
}

/// How a command line is held to be right; `None` if the list does not have it.
pub fn how(command: &str) -> Option<How> {
    let listed = LIST.iter().find(|(text, _)| *text == command);
    listed.map(|(_, how)| *how).or_else(|| by_rule(command))
}

/// Kinds of lines that need no entry each.
fn by_rule(command: &str) -> Option<How> {
    let capitals = |word: &str| {
        let letters = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
        letters.len() > 2 && letters.chars().all(|c| c.is_ascii_uppercase())
    };
    let option_alone = |word: &&str| word.starts_with("--");
    if command.split(|c: char| " =':".contains(c)).any(capitals) || command.contains('[') {
        return Some(Not(NEEDS));
    }
    let mut words = command.split_whitespace();
    match (words.next()?, words.next()?) {
        ("./x", "test" | "soak" | "bench" | "cargo") => Some(Not(LONG)),
        ("./x", "gdb") => Some(Not("needs a terminal with gdb on it")),
        ("./x", "run") if command.contains("--bochs") => Some(By("backends")),
        ("./x", "run") if command.contains("--gdb") => Some(Not("waits for a debugger")),
        ("./x", "run")
            if command
                .split_whitespace()
                .last()
                .is_some_and(|w| option_alone(&w)) =>
        {
            Some(Not(NEEDS))
        }
        // A command's name alone.
        ("xm", _) if words.next().is_none() => Some(Not(NEEDS)),
        // docs/testing.md writes a configuration, and starts it: in this order, which is theirs by
        // letter.
        ("cat", _) => Some(Dom0("")),
        ("xm", "create") if command.contains("/etc/xen/t.cfg") => Some(Dom0("")),
        _ => None,
    }
}

/// Lines of fenced blocks that begin with a command, and code within sentences that does.
fn of_text(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for (n, part) in text.split("```").enumerate() {
        if n % 2 == 1 {
            commands.extend(of_block(part));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            // A span may go on in the next line.
            let code = spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
            let code = code.filter(|span| begins(span) && span.contains(' '));
            commands.extend(code.filter(|span| !span.starts_with("cat")));
        }
    }
    commands
}

fn begins(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|word| PROGRAMS.contains(&word)) && words.next() != Some("->")
}

/// A block is one of commands if its first line is one. Lines of a here-document belong to the
/// command.
fn of_block(block: &str) -> Vec<String> {
    // The first line is the fence's own.
    let mut lines = block.lines().skip(1).peekable();
    let mut commands = Vec::new();
    if !lines.peek().is_some_and(|line| begins(line)) {
        return commands;
    }
    while let Some(line) = lines.next() {
        let mut command = without_comment(line).to_owned();
        if line.contains("<<END") {
            for line in lines.by_ref() {
                command = command + "\n" + line;
                if line == "END" {
                    break;
                }
            }
        }
        if begins(&command) {
            commands.push(command);
        }
    }
    commands
}

/// Comments stand behind two blanks.
fn without_comment(line: &str) -> &str {
    line.split("  #").next().unwrap_or(line).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_and_in_sentences() {
        let text = "See `./x test` and `./x`:\n```\nxm list      # all\n   # more\n\ncat >a <<END\nxm\nEND\nxm x\n```\n\
                    ```\n  xm -> xmd: no\n```\n`xm`, `xm a b`, `cat x`.\n```\nxm -> xmd\n```\n";
        let found = of_text(text);
        assert_eq!(
            found,
            [
                "./x test",
                "xm list",
                "cat >a <<END\nxm\nEND",
                "xm x",
                "xm a b"
            ]
        );
    }

    #[test]
    fn kinds_of_lines_need_no_entry() {
        assert_eq!(how("./x run --trace FILE"), Some(Not(NEEDS)));
        assert_eq!(how("xm console"), Some(Not(NEEDS)));
        assert_eq!(how("./x test --bochs"), Some(Not(LONG)));
        assert_eq!(how("./x run --frob 3"), None);
        assert_eq!(how("xm frob demo"), None);
    }

    /// Every command line of README.md and docs/ is run, or the list says why not.
    #[test]
    fn no_command_line_is_shown_that_nobody_holds_to_be_right() {
        let shown = shown().unwrap();
        assert!(shown.len() > 40, "{shown:?}");
        let unknown: Vec<_> = shown.iter().filter(|line| how(line).is_none()).collect();
        assert!(unknown.is_empty(), "add these to LIST: {unknown:#?}");
        let gone = |(text, _): &&(&str, How)| !shown.iter().any(|line| line == text);
        let gone: Vec<_> = LIST.iter().filter(gone).collect();
        assert!(gone.is_empty(), "no text shows these any more: {gone:#?}");
    }
}
