//! The parts that commands about devices share, whatever their kind.

use super::control;
use super::list::name;
use crate::cli::{Detach, DeviceList};
use crate::machine::Machine;
use crate::output::Output;
use oxen_devices::held::{self, Held};
use oxen_devices::{Kind, Spec};
use oxen_domain::Result;
use std::fmt::Write;
use xmd_api::Op;

pub(super) fn attach(domain: &str, device: Spec, out: &Output) -> Result<()> {
    let op = Op::Attach {
        domain: domain.to_owned(),
        device: Box::new(device),
    };
    control::one(op, out)
}

pub(super) fn detach(kind: Kind, args: &Detach, out: &Output) -> Result<()> {
    let op = Op::Detach {
        domain: args.domain.clone(),
        kind,
        device: args.device.clone(),
        force: args.force,
    };
    control::one(op, out)
}

/// Prints a line for each device: the guest, the device and both states, and the kind's own
/// columns.
pub(super) fn list(
    kind: Kind,
    args: &DeviceList,
    out: &Output,
    head: &str,
    columns: impl Fn(&Held) -> String,
) -> Result<()> {
    let mut machine = Machine::open()?;
    let domains = machine.some(&args.domains)?;
    let mut text = format!(
        "{:<24} {:>5} {:<8} {:>9} {:<12} {:<12} {head}\n",
        "Name", "ID", "Device", "Number", "Backend", "Frontend"
    );
    let mut values = Vec::new();
    for domain in domains {
        for held in held::of_kind(&mut *machine.store, domain.info.domain, kind)? {
            let _ = writeln!(
                text,
                "{:<24} {:>5} {:<8} {:>9} {:<12} {:<12} {}",
                name(&domain),
                held.domain,
                held.name,
                held.id,
                held.back_state.word(),
                held.front_state.word(),
                columns(&held)
            );
            values.push(held);
        }
    }
    out.print(&values, &text);
    Ok(())
}
