//! `xm mem-set`, `mem-max`, `vcpu-set` and `vcpu-pin`.

use super::control;
use crate::cli::MemSet;
use crate::machine::{Machine, failed};
use crate::output::Output;
use core::str::FromStr;
use oxen_config::CpuSet;
use oxen_domain::ports::Hypervisor;
use oxen_domain::{Error, Result, resize};
use oxen_sys::Errno;
use oxen_sys::hypercall::DomainInfo;
use std::time::{Duration, Instant};
use xmd::api::{Op, Subject};
use xmd::client::Client;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A guest that follows at once is not said to be late.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Asks the guest, and tells how far it has followed.
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

/// An amount of memory in whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mib(pub(crate) u32);

impl FromStr for Mib {
    type Err = String;

    /// A number of MiB, or a number with a unit: 512, 512m, 1g, 524288k.
    fn from_str(text: &str) -> core::result::Result<Self, String> {
        let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => text.split_at(at),
            None => (text, "m"),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| "expected a number of MiB, or one with a unit as 1g".to_owned())?;
        let kib = match unit.to_ascii_lowercase().as_str() {
            "k" => Some(number),
            "m" => number.checked_mul(1 << 10),
            "g" => number.checked_mul(1 << 20),
            "t" => number.checked_mul(1 << 30),
            _ => return Err(format!("{unit:?} is none of the units k, m, g and t")),
        };
        let mib = kib.filter(|kib| kib % 1024 == 0).map(|kib| kib / 1024);
        match mib.and_then(|mib| u32::try_from(mib).ok()) {
            Some(0) => Err("a domain cannot be without memory".to_owned()),
            Some(mib) if mib <= oxen_config::MAX_MIB => Ok(Self(mib)),
            _ => Err("expected whole MiB, and 16 TiB at most".to_owned()),
        }
    }
}

/// One vcpu, or all of a domain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which(pub(crate) Option<u32>);

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> core::result::Result<Self, String> {
        match text {
            "all" => Ok(Self(None)),
            number => number
                .parse()
                .map(|vcpu| Self(Some(vcpu)))
                .map_err(|_| "expected a vcpu's number, or all".to_owned()),
        }
    }
}

/// CPUs, or `-` for what there is already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Option<CpuSet>);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> core::result::Result<Self, String> {
        match text {
            "-" => Ok(Self(None)),
            list => CpuSet::parse(list).map(|set| Self(Some(set))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_units() {
        let mib = |text: &str| text.parse::<Mib>().map(|mib| mib.0).ok();
        for (text, expected) in [
            ("512", Some(512)),
            ("512M", Some(512)),
            ("2g", Some(2048)),
            ("524288k", Some(512)),
            ("1t", Some(1 << 20)),
            ("0", None),
            ("513k", None),
            ("17t", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("1x", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(mib(text), expected, "{text}");
        }
    }

    #[test]
    fn a_dash_leaves_it_as_it_is() {
        assert_eq!("-".parse(), Ok(Cpus(None)));
        assert_eq!("all".parse(), Ok(Cpus(Some(CpuSet::All))));
        assert!("3-1".parse::<Cpus>().is_err());
        assert_eq!("all".parse(), Ok(Which(None)));
        assert_eq!("3".parse(), Ok(Which(Some(3))));
        assert!("x".parse::<Which>().is_err());
    }
}
