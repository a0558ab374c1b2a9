//! One module a command, or a family of them.

mod block;
mod console;
mod control;
mod create;
mod devices;
mod info;
mod list;
mod log_dirty;
mod network;
mod plain;
pub(crate) mod resize;
mod script;
mod shutdown;
mod top;
mod vcpus;

use crate::cli::Command;
use crate::machine::{Machine, failed};
use crate::output::{Output, write};
use clap::ArgMatches;
use oxen_devices::Kind;
use oxen_domain::lifecycle::Request;
use oxen_domain::{Error, Result};
use std::process::ExitCode;
use xmd::api::Op;

/// Carries out a command.
pub(crate) fn run(command: Command, matches: &ArgMatches, out: &Output) -> Result<ExitCode> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        Command::Create(args) => return create::run(&args, out),
        Command::List(args) => list::run(&args, out)?,
        Command::Console(args) => return console::run(&args, matches, out),
        Command::Pause(args) => control::each(&args.domains, out, |domain| Op::Pause { domain })?,
        Command::Unpause(args) => {
            control::each(&args.domains, out, |domain| Op::Unpause { domain })?
        }
        Command::Resume(args) => control::each(&args.domains, out, |domain| Op::Resume { domain })?,
        Command::Destroy(args) => {
            control::each(&args.domains, out, |domain| Op::Destroy { domain })?
        }
        Command::Shutdown(args) => shutdown::run(&args, Request::Poweroff, out)?,
        Command::Reboot(args) => shutdown::run(&args, Request::Reboot, out)?,
        Command::Rename { domain, name } => control::one(Op::Rename { domain, name }, out)?,
        Command::BlockAttach(args) => block::attach(&args, out)?,
        Command::BlockDetach(args) => devices::detach(Kind::Vbd, &args, out)?,
        Command::BlockList(args) => block::list(&args, out)?,
        Command::MemSet(args) => resize::set_memory(&args, out)?,
        Command::MemMax { domain, memory } => control::one(
            Op::SetMaxMemory {
                domain,
                mib: memory.0,
            },
            out,
        )?,
        Command::VcpuSet { domain, count } => control::one(Op::SetVcpus { domain, count }, out)?,
        Command::VcpuPin {
            domain,
            vcpu,
            hard,
            soft,
        } => control::one(
            Op::Pin {
                domain,
                vcpu: vcpu.0,
                hard: hard.0,
                soft: soft.0,
            },
            out,
        )?,
        Command::CdInsert {
            domain,
            device,
            target,
        } => block::change_disc(domain, device, Some(target), out)?,
        Command::CdEject { domain, device } => block::change_disc(domain, device, None, out)?,
        Command::NetworkAttach(args) => network::attach(&args, out)?,
        Command::NetworkDetach(args) => devices::detach(Kind::Vif, &args, out)?,
        Command::NetworkList(args) => network::list(&args, out)?,
        Command::Sysrq { domain, key } => control::one(Op::Sysrq { domain, key }, out)?,
        Command::Trigger { domain, kind, vcpu } => {
            control::one(
                Op::Trigger {
                    domain,
                    trigger: kind as u32,
                    vcpu,
                },
                out,
            )?;
        }
        Command::Domid { name } => {
            let found = Machine::open()?.find(&name)?;
            out.print(&found.info.domain, &found.info.domain.to_string());
        }
        Command::Domname { number } => {
            let found = Machine::open()?.find(&number.to_string())?;
            let missing = || {
                Error::new(
                    format!("domain {number} has no name"),
                    "the store does not know it",
                )
            };
            let name = found.name.ok_or_else(missing)?;
            out.print(&name, &name);
        }
        Command::Info => info::run(out)?,
        Command::Dmesg { clear } => dmesg(clear, out)?,
        Command::Log { lines } => {
            let value = xmd::client::Client::connect()?.call(Op::Log { lines }, &mut |_| {})?;
            out.print(&value, value["text"].as_str().unwrap_or_default());
        }
        Command::Uptime { domains } => list::uptime(&domains, out)?,
        Command::VcpuList { domains } => vcpus::run(&domains, out)?,
        Command::DebugKeys { keys } => {
            let machine = Machine::open()?;
            machine
                .xen
                .calls()
                .debug_keys(keys.as_bytes())
                .map_err(failed("cannot send debug keys"))?;
            out.print(&keys, "");
        }
        Command::LogDirty {
            what,
            domain,
            pages,
        } => log_dirty::run(what, &domain, pages, out)?,
        Command::Top(args) => top::run(&args, out)?,
    }
    done
}

fn dmesg(clear: bool, out: &Output) -> Result<()> {
    let machine = Machine::open()?;
    let (bytes, _) = machine
        .xen
        .calls()
        .read_console(0, clear)
        .map_err(failed("cannot read the hypervisor's log"))?;
    let text = String::from_utf8_lossy(&bytes);
    if out.json {
        out.print(&serde_json::json!({ "text": text }), "");
    } else {
        write(&text);
    }
    Ok(())
}
