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
mod resize;
mod script;
mod shutdown;
mod top;
mod vcpus;

use crate::cli::Command;
use crate::machine::{Machine, failed};
use crate::output::{Output, write};
use clap::ArgMatches;
use oxen_devices::Kind;
use oxen_domain::Result;
use oxen_domain::lifecycle::Request;
use std::process::ExitCode;
use xmd_api::Op;
use xmd_api::client::Client;

/// Carries out a command.
pub(crate) fn run(command: Command, matches: &ArgMatches, out: &Output) -> Result<ExitCode> {
    match command {
        Command::Create(args) => return create::run(&args, out),
        Command::Console(args) => return console::run(&args, matches, out),
        Command::List(args) => list::run(&args, out)?,
        Command::Shutdown(args) => shutdown::run(&args, Request::Poweroff, out)?,
        Command::Reboot(args) => shutdown::run(&args, Request::Reboot, out)?,
        Command::BlockAttach(args) => block::attach(&args, out)?,
        Command::BlockDetach(args) => devices::detach(Kind::Vbd, &args, out)?,
        Command::BlockList(args) => block::list(&args, out)?,
        Command::CdInsert {
            domain,
            device,
            target,
        } => block::change_disc(domain, device, Some(target), out)?,
        Command::CdEject { domain, device } => block::change_disc(domain, device, None, out)?,
        Command::NetworkAttach(args) => network::attach(&args, out)?,
        Command::NetworkDetach(args) => devices::detach(Kind::Vif, &args, out)?,
        Command::NetworkList(args) => network::list(&args, out)?,
        Command::MemSet(args) => resize::set_memory(&args, out)?,
        Command::Domid { name } => list::domid(&name, out)?,
        Command::Domname { number } => list::domname(number, out)?,
        Command::Info => info::run(out)?,
        Command::Dmesg { clear } => dmesg(clear, out)?,
        Command::Log { lines } => log(lines, out)?,
        Command::Uptime { domains } => list::uptime(&domains, out)?,
        Command::VcpuList { domains } => vcpus::run(&domains, out)?,
        Command::DebugKeys { keys } => debug_keys(&keys, out)?,
        Command::LogDirty {
            what,
            domain,
            pages,
        } => log_dirty::run(what, &domain, pages, out)?,
        Command::Top(args) => top::run(&args, out)?,
        command @ (Command::Pause(_)
        | Command::Unpause(_)
        | Command::Resume(_)
        | Command::Destroy(_)
        | Command::Rename { .. }
        | Command::MemMax { .. }
        | Command::VcpuSet { .. }
        | Command::VcpuPin { .. }
        | Command::Sysrq { .. }
        | Command::Trigger { .. }) => control::run(command, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn log(lines: usize, out: &Output) -> Result<()> {
    let value = Client::connect()?.call(Op::Log { lines }, &mut |_| {})?;
    out.print(&value, value["text"].as_str().unwrap_or_default());
    Ok(())
}

fn debug_keys(keys: &str, out: &Output) -> Result<()> {
    let machine = Machine::open()?;
    let calls = machine.xen.calls();
    calls
        .debug_keys(keys.as_bytes())
        .map_err(failed("cannot send debug keys"))?;
    out.print(&keys, "");
    Ok(())
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
