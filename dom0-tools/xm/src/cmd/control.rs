//! Commands that are one call of xmd.

use crate::output::Output;
use oxen_domain::{Error, Result};
use xmd::api::{Op, Subject};
use xmd::client::Client;

/// One operation on one domain.
pub(super) fn one(op: Op, out: &Output) -> Result<()> {
    let subject = call(&mut Client::connect()?, op, out)?;
    out.print(&subject, "");
    Ok(())
}

/// The same operation on several domains. All are tried; the first error is returned.
pub(super) fn each(domains: &[String], out: &Output, op: impl Fn(String) -> Op) -> Result<()> {
    let mut client = Client::connect()?;
    let mut first = Ok(());
    let mut done = Vec::new();
    for domain in domains {
        match call(&mut client, op(domain.clone()), out) {
            Ok(subject) => done.push(subject),
            Err(error) if first.is_ok() => first = Err(error),
            Err(error) => out.error(&error),
        }
    }
    if !done.is_empty() {
        out.print(&done, "");
    }
    first
}

/// One call whose result is a domain.
pub(super) fn call(client: &mut Client, op: Op, out: &Output) -> Result<Subject> {
    let value = client.call(op, &mut |event| {
        if let xmd::api::Event::Warning { text } = event {
            out.warn(&text);
        }
    })?;
    serde_json::from_value(value)
        .map_err(|error| Error::new("xmd's answer cannot be understood", error))
}
