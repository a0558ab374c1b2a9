//! `xm mem-set`, `mem-max`, `vcpu-set` and `vcpu-pin`.

use super::control;
use crate::cli::MemSet;
use crate::machine::{Machine, failed};
use crate::output::Output;
use oxen_domain::world::Hypervisor;
use oxen_domain::{Error, Result, resize};
use oxen_sys::Errno;
use oxen_sys::hypercall::DomainInfo;
use std::time::{Duration, Instant};
use xmd_api::client::Client;
use xmd_api::{Op, Subject};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A guest that follows at once is not said to be late.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Sets the guest's memory target, and reports how far the guest has followed.
pub(super) fn set_memory(args: &MemSet, out: &Output) -> Result<()> {
    let mib = args.memory.0;
    let op = Op::SetMemory {
        domain: args.domain.clone(),
        mib,
        force: args.force,
    };
    let subject = control::call(&mut Client::connect()?, op, out)?;
    let mut machine = Machine::open()?;
    let limit = match (args.wait, args.timeout) {
        (false, _) => Some(AT_ONCE),
        (true, 0) => None,
        (true, seconds) => Some(Duration::from_secs(seconds)),
    };
    let started = Instant::now();
    let mut info = ask(&machine, &subject)?;
    while !resize::is_reached(&info, mib) && limit.is_none_or(|limit| started.elapsed() < limit) {
        std::thread::sleep(LOOK_EVERY);
        info = ask(&machine, &subject)?;
    }
    let (reached, now) = (resize::is_reached(&info, mib), super::list::mib(&info));
    let value = serde_json::json!({
        "domain": subject.domain, "name": subject.name, "uuid": subject.uuid,
        "memory_mib": now, "target_mib": mib, "reached": reached,
    });
    if reached {
        out.print(&value, "");
        return Ok(());
    }
    let grown = resize::started(&mut *machine.store, subject.domain)?;
    let remedy = match grown.is_some_and(|kib| u64::from(mib) * 1024 > kib) {
        true => "its kernel must put the new memory online (memhp_default_state=online)",
        false => "its balloon driver follows in its own time",
    };
    let text = format!("{} has {now} MiB, and its target is {mib}", subject.name);
    if args.wait {
        return Err(Error::new(text, "the guest does not follow in time").remedy(remedy));
    }
    out.print(&value, &format!("{text} (-w waits for it; {remedy})"));
    Ok(())
}

fn ask(machine: &Machine, subject: &Subject) -> Result<DomainInfo> {
    let ended = |cause: &str| Error::new(format!("{} is no more", subject.name), cause);
    match machine.xen.info(subject.domain) {
        Err(Errno::SRCH) => Err(ended("it ended while it was waited for")),
        Err(errno) => Err(failed("cannot ask after the domain")(errno)),
        Ok(info) if info.handle != subject.uuid.0 || info.shutdown().is_some() => {
            Err(ended("it ended while it was waited for"))
        }
        Ok(info) => Ok(info),
    }
}
