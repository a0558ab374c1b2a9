//! xm, the command line of the toolset. A command that changes domains is a request to xmd. A
//! command that only reads goes to the hypervisor and the store directly, so that it works without
//! xmd too.
//!
//! Every command exits with 0 on success, 1 on failure (with one line on standard error that names
//! cause and remedy; with `--json` also `{"error": ...}` on standard output) and 2 on wrong usage.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod cli;
mod cmd;
mod machine;
mod output;
mod terminal;
mod values;
mod xl;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (matches, cli) = cli::parse(std::env::args_os());
    let out = output::Output { json: cli.json };
    match cmd::run(cli.command, &matches, &out) {
        Ok(code) => code,
        Err(error) => {
            out.error(&error);
            ExitCode::FAILURE
        }
    }
}
