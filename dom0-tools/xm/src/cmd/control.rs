//! Commands that are one operation of xmd, on one domain or on each of several.

use crate::cli::Command;
use crate::output::Output;
use oxen_domain::{Error, Result};
use xmd_api::client::Client;
use xmd_api::{Op, Subject};

/// Carries out a command whose whole meaning is an operation of xmd.
pub(super) fn run(command: Command, out: &Output) -> Result<()> {
    match command {
        Command::Pause(args) => each(&args.domains, out, |domain| Op::Pause { domain }),
        Command::Unpause(args) => each(&args.domains, out, |domain| Op::Unpause { domain }),
        Command::Resume(args) => each(&args.domains, out, |domain| Op::Resume { domain }),
        Command::Destroy(args) => each(&args.domains, out, |domain| Op::Destroy { domain }),
        other => match operation(other) {
            Some(op) => one(op, out),
            None => Err(Error::new("cannot do this", "xmd has no such operation")),
        },
    }
}

/// The operation on one domain that a command stands for. `None` for commands that do more than
/// that.
fn operation(command: Command) -> Option<Op> {
    Some(match command {
        Command::Rename { domain, name } => Op::Rename { domain, name },
        Command::MemMax { domain, memory } => Op::SetMaxMemory {
            domain,
            mib: memory.0,
        },
        Command::VcpuSet { domain, count } => Op::SetVcpus { domain, count },
        Command::VcpuPin {
            domain,
            vcpu,
            hard,
            soft,
        } => Op::Pin {
            domain,
            vcpu: vcpu.0,
            hard: hard.0,
            soft: soft.0,
        },
        Command::Sysrq { domain, key } => Op::Sysrq { domain, key },
        Command::Trigger { domain, kind, vcpu } => Op::Trigger {
            domain,
            trigger: kind.number(),
            vcpu,
        },
        _ => return None,
    })
}

/// Carries out one operation on one domain.
pub(super) fn one(op: Op, out: &Output) -> Result<()> {
    let subject = call(&mut Client::connect()?, op, out)?;
    out.print(&subject, "");
    Ok(())
}

/// Carries out the same operation on several domains. All are tried; the first error is returned.
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
        if let xmd_api::Event::Warning { text } = event {
            out.warn(&text);
        }
    })?;
    serde_json::from_value(value)
        .map_err(|error| Error::new("xmd's answer cannot be understood", error))
}
