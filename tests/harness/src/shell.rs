//! Commands at the prompt of dom0 (or of any POSIX shell on the console).

use std::time::Duration;

use anyhow::{Context, Result};

use crate::vm::Vm;

/// The output of a command (both streams), and its exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: i32,
    pub output: String,
}

impl Vm {
    /// Waits for dom0's prompt after the start.
    pub fn wait_for_dom0(&mut self, limit: Duration) -> Result<()> {
        self.expect(r"DOM0-INIT ", limit)?;
        self.expect(r"dom0# ", limit).map(drop)
    }

    /// Runs one command line in the shell whose prompt is on the console.
    ///
    /// The output is what lies between two markers. Their texts are put together by the shell, so
    /// that the echo of the typed line does not contain them.
    pub fn run_command(&mut self, command: &str, limit: Duration) -> Result<Outcome> {
        self.commands += 1;
        let id = self.commands;
        let line = one_line(command);
        // One line: between two the shell changes the terminal's modes, and what is typed by then
        // has once been lost.
        self.send(&format!(
            "printf '\\n<%s-{id}>\\n' begin; {{ {line}; }} 2>&1; printf '\\n<%s-{id} %d>\\n' end $?\n"
        ))?;
        let doing = || format!("running {command:?}");
        self.expect(&format!(r"\n<begin-{id}>\n"), limit)
            .with_context(doing)?;
        let seen = self
            .expect(&format!(r"\n<end-{id} \d+>\n"), limit)
            .with_context(doing)?;
        parse(&seen, id).with_context(doing)
    }

    /// Runs a command that has to succeed; returns its output.
    pub fn run_ok(&mut self, command: &str, limit: Duration) -> Result<String> {
        let outcome = self.run_command(command, limit)?;
        if outcome.status != 0 {
            return Err(self.failure(&format!(
                "{command:?} ended with status {}:\n{}",
                outcome.status, outcome.output
            )));
        }
        Ok(outcome.output)
    }
}

/// Several lines become one that the shell evaluates as several; so does what no semicolon can
/// follow.
fn one_line(command: &str) -> String {
    let end = command.trim_end().chars().next_back();
    let open = command.contains(['\n', '#']) || matches!(end, None | Some('&' | ';'));
    if !open {
        return command.to_owned();
    }
    let mut quoted = String::from("eval \"$(printf '%b' '");
    for character in command.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\047"),
            other => quoted.push(other),
        }
    }
    quoted.push_str("')\"");
    quoted
}

/// Takes the status out of the text that ends with the end marker.
fn parse(seen: &str, id: u32) -> Result<Outcome> {
    let marker = format!("<end-{id} ");
    let (output, rest) = seen.rsplit_once(&marker).context("no end marker")?;
    let status = rest
        .trim_end()
        .trim_end_matches('>')
        .parse()
        .context("no status in the end marker")?;
    // A line break of ours precedes the marker; the prompts of continued lines precede the output.
    let output = output.strip_suffix('\n').unwrap_or(output);
    let output = output.strip_suffix('\n').unwrap_or(output);
    Ok(Outcome {
        status,
        output: output.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_are_told_apart() {
        let outcome = parse("one\ntwo\n\n<end-7 3>\n", 7).expect("a good marker");
        assert_eq!(
            outcome,
            Outcome {
                status: 3,
                output: "one\ntwo".into()
            }
        );
    }

    #[test]
    fn output_without_a_line_end_is_kept() {
        let outcome = parse("abc\n<end-1 0>\n", 1).expect("a good marker");
        assert_eq!(outcome.output, "abc");
    }

    #[test]
    fn many_lines_pass_a_shell_unchanged() {
        let of = |script: &str| {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("{{ {}; }}", one_line(script))])
                .output()
                .expect("sh runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let script = "printf '%s\\n' 'a\\b'\necho \"it's\"";
        assert_eq!(of(script), "a\\b\nit's\n");
        for script in [
            "echo a",
            "echo a # b",
            "echo a;",
            "echo a & wait",
            "echo a &",
        ] {
            assert_eq!(of(script), "a\n", "{script}");
        }
        assert_eq!(of(""), "");
    }
}
