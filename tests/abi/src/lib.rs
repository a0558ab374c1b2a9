//! Compares the ABI as `guest-pv-abi` declares it with the public C headers (Debian's libxen-dev):
//! a C program made from the list of declarations prints what the C compiler thinks of each.
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

mod headers;
mod program;

use std::path::Path;

use anyhow::{Result, ensure};
use guest_pv_abi::layout::Item;

pub use headers::{Headers, INCLUDE, rust_name};

/// Declarations by module, as `guest_pv_abi::LAYOUT` has them.
pub type Layout<'a> = &'a [(&'a str, &'a [&'a [Item]])];

/// Differences between the declarations and the headers below `include`, one line each, and the
/// number of facts that were compared.
pub fn compare(layout: Layout<'_>, include: &Path) -> Result<(Vec<String>, usize)> {
    let headers = Headers::read(include)?;
    let facts = program::facts(layout, &headers)?;
    let answers = program::run(&facts, include)?;
    ensure!(
        answers.len() == facts.len(),
        "{} answers to {} questions",
        answers.len(),
        facts.len()
    );
    let differences = facts
        .iter()
        .zip(&answers)
        .filter(|(fact, answer)| fact.expected != **answer);
    let report = |(fact, answer): (&program::Fact, &String)| {
        format!(
            "{}: {} here, {answer} in C ({})",
            fact.what, fact.expected, fact.expression
        )
    };
    Ok((differences.map(report).collect(), facts.len()))
}
