//! `xm list`, `uptime`, `domid` and `domname`.

use crate::cli::List;
use crate::machine::Machine;
use crate::output::{Output, pretty, write};
use oxen_domain::end::reason_word;
use oxen_domain::lifecycle::Listed;
use oxen_domain::{Error, Result, nodes};
use oxen_sys::hypercall::{DomainInfo, ShutdownReason};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use xmd_api::Op;
use xmd_api::client::Client;

pub(super) fn run(args: &List, out: &Output) -> Result<()> {
    let mut machine = Machine::open()?;
    let domains = machine.some(&args.domains)?;
    if args.long {
        let mut client = Client::connect().ok();
        let long: Vec<_> = domains
            .iter()
            .map(|domain| long(domain, client.as_mut()))
            .collect();
        write(&pretty(&long));
        return Ok(());
    }
    let mut text =
        String::from("Name                                        ID   Mem VCPUs\tState\tTime(s)");
    if args.verbose {
        text.push_str("   UUID                                 Reason");
    }
    text.push('\n');
    for domain in &domains {
        let info = &domain.info;
        let _ = write!(
            text,
            "{:<40} {:>5} {:>5} {:>5}     {}  {:>8.1}",
            name(domain),
            info.domain,
            mib(info),
            info.nr_online_vcpus,
            state(info),
            seconds(info.cpu_time)
        );
        if args.verbose {
            let reason = info.shutdown().map_or("-", reason_word);
            let _ = write!(text, "   {} {reason}", domain.uuid());
        }
        text.push('\n');
    }
    out.print(&domains.iter().map(brief).collect::<Vec<_>>(), &text);
    Ok(())
}

pub(super) fn name(domain: &Listed) -> &str {
    domain.name.as_deref().unwrap_or("(null)")
}

pub(super) fn mib(info: &DomainInfo) -> u64 {
    (info.tot_pages + info.outstanding_pages) / 256
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// The six letters of xl: running, blocked, paused, shut down, crashed, dying.
pub(super) fn state(info: &DomainInfo) -> String {
    let shutdown = info.shutdown();
    [
        (info.running(), 'r'),
        (info.blocked(), 'b'),
        (info.paused(), 'p'),
        (shutdown.is_some(), 's'),
        (shutdown == Some(ShutdownReason::Crash), 'c'),
        (info.dying(), 'd'),
    ]
    .into_iter()
    .map(|(is, letter)| if is { letter } else { '-' })
    .collect()
}

fn brief(domain: &Listed) -> serde_json::Value {
    let info = &domain.info;
    serde_json::json!({
        "name": domain.name,
        "domain": info.domain,
        "uuid": domain.uuid(),
        "memory_mib": mib(info),
        "vcpus": info.nr_online_vcpus,
        "state": state(info),
        "shutdown_reason": info.shutdown().map(reason_word),
        "cpu_seconds": seconds(info.cpu_time),
    })
}

fn long(domain: &Listed, client: Option<&mut Client>) -> serde_json::Value {
    let info = &domain.info;
    let mut value = brief(domain);
    value["max_memory_kib"] = info.max_pages.saturating_mul(4).into();
    value["memory_kib"] = info.tot_pages.saturating_mul(4).into();
    value["max_vcpu_id"] = info.max_vcpu_id.into();
    value["hvm"] = info.hvm().into();
    value["cpupool"] = info.cpupool.into();
    let op = Op::Config {
        domain: info.domain.to_string(),
    };
    if let Some(config) = client.and_then(|client| client.call(op, &mut |_| {}).ok()) {
        value["config"] = config;
    }
    value
}

pub(super) fn uptime(wanted: &[String], out: &Output) -> Result<()> {
    let mut machine = Machine::open()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let mut text = String::from("Name                                ID Uptime\n");
    let mut values = Vec::new();
    for domain in machine.some(wanted)? {
        let up = if domain.info.domain == 0 {
            std::fs::read_to_string("/proc/uptime")
                .ok()
                .and_then(|text| text.split('.').next()?.parse().ok())
        } else {
            let start = machine
                .store
                .read(&format!("{}/start_time", nodes::vm(domain.uuid())))?;
            // xend wrote fractions.
            let start: Option<u64> = start.and_then(|text| text.split('.').next()?.parse().ok());
            start.map(|start| now.saturating_sub(start))
        };
        let shown = up.map_or_else(|| "unknown".to_owned(), clock);
        let _ = writeln!(
            text,
            "{:<33} {:>4} {shown}",
            name(&domain),
            domain.info.domain
        );
        values.push(
            serde_json::json!({ "name": domain.name, "domain": domain.info.domain, "seconds": up }),
        );
    }
    out.print(&values, &text);
    Ok(())
}

/// `xm domid`.
pub(super) fn domid(name: &str, out: &Output) -> Result<()> {
    let found = Machine::open()?.find(name)?;
    out.print(&found.info.domain, &found.info.domain.to_string());
    Ok(())
}

/// `xm domname`.
pub(super) fn domname(number: u16, out: &Output) -> Result<()> {
    let found = Machine::open()?.find(&number.to_string())?;
    let missing = || {
        let what = format!("domain {number} has no name");
        Error::new(what, "the store does not know it")
    };
    let name = found.name.ok_or_else(missing)?;
    out.print(&name, &name);
    Ok(())
}

fn clock(seconds: u64) -> String {
    let days = seconds / 86_400;
    let rest = format!(
        "{}:{:02}:{:02}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    );
    match days {
        0 => rest,
        1 => format!("1 day, {rest}"),
        days => format!("{days} days, {rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_read_them() {
        assert_eq!(clock(59), "0:00:59");
        assert_eq!(clock(86_400 + 3661), "1 day, 1:01:01");
        assert_eq!(clock(3 * 86_400), "3 days, 0:00:00");
    }
}
