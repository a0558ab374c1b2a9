//! The daemon of the guests' consoles: the library, started.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match xenconsoled::run(xenconsoled::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenconsoled: {error:#}");
            ExitCode::FAILURE
        }
    }
}
