//! `xm shutdown` and `xm reboot`: they request the shutdown, and wait for its end with `-w`.

use super::control;
use crate::cli::Shutdown;
use crate::machine::{Machine, failed};
use crate::output::{Output, write};
use oxen_domain::end::reason_word;
use oxen_domain::lifecycle::Request;
use oxen_domain::world::Hypervisor;
use oxen_domain::{Error, Result, nodes};
use oxen_sys::Errno;
use std::time::{Duration, Instant};
use xmd_api::client::Client;
use xmd_api::{Op, Subject};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a dead domain may take to go away before we stop waiting for it.
const DYING: Duration = Duration::from_secs(10);
/// So long its devices may take to be released.
const RELEASE: Duration = Duration::from_secs(60);
/// A guest that has taken the request and still runs after this time gets the request again: one
/// that is just booting takes it before there is anybody who could follow it.
const AGAIN: Duration = Duration::from_secs(10);

pub(super) fn run(args: &Shutdown, request: Request, out: &Output) -> Result<()> {
    let mut machine = Machine::open()?;
    let wanted = if args.all {
        let guests = machine
            .list()?
            .into_iter()
            .filter(|domain| domain.info.domain != 0);
        guests
            .map(|domain| domain.info.domain.to_string())
            .collect()
    } else {
        args.domains.clone()
    };
    let mut client = Client::connect()?;
    let mut asked = Vec::new();
    for domain in wanted {
        asked.push(control::call(
            &mut client,
            Op::Shutdown { domain, request },
            out,
        )?);
    }
    let mut ends = Vec::new();
    if args.wait {
        let limit = (args.timeout > 0).then(|| Instant::now() + Duration::from_secs(args.timeout));
        for subject in &asked {
            let domain = subject.domain.to_string();
            let mut again = || {
                // If it has ended meanwhile, that is what we wait for.
                let _ = client.call(
                    Op::Shutdown {
                        domain: domain.clone(),
                        request,
                    },
                    &mut |_| {},
                );
            };
            ends.push(wait(&mut machine, subject, limit, out, &mut again)?);
            released(&mut client, subject)?;
        }
        out.print(&ends, "");
    } else {
        out.print(&asked, "");
    }
    Ok(())
}

/// Until the domain is gone, or has ended and is kept.
fn wait(
    machine: &mut Machine,
    subject: &Subject,
    limit: Option<Instant>,
    out: &Output,
    again: &mut dyn FnMut(),
) -> Result<serde_json::Value> {
    let mut dying = None;
    let mut ended = None;
    let mut asked = Instant::now();
    let result = |how: &str| {
        if !out.json {
            write(&format!("{}: {how}", subject.name));
        }
        Ok(serde_json::json!({ "name": subject.name, "domain": subject.domain, "end": how }))
    };
    loop {
        match machine.xen.info(subject.domain) {
            Err(Errno::SRCH) => return result("has ended"),
            Err(errno) => return Err(failed("cannot ask after the domain")(errno)),
            // The number belongs to another domain already.
            Ok(info) if info.handle != subject.uuid.0 => return result("has ended"),
            Ok(info) if info.dying() => {
                let since = *dying.get_or_insert_with(Instant::now);
                if since.elapsed() > DYING {
                    return result("has ended, and others still hold pages of it");
                }
            }
            Ok(info) => {
                if let Some(reason) = info.shutdown() {
                    // xmd takes it down, unless its configuration says to keep it.
                    let since = *ended.get_or_insert_with(Instant::now);
                    if since.elapsed() > DYING {
                        return result(&format!("has ended ({}) and is kept", reason_word(reason)));
                    }
                } else if asked.elapsed() > AGAIN {
                    asked = Instant::now();
                    if is_taken(machine, subject)? {
                        again();
                    }
                }
            }
        }
        if limit.is_some_and(|limit| Instant::now() >= limit) {
            let what = format!("{} has not ended in time", subject.name);
            return Err(Error::new(what, "the guest does not follow the request")
                .remedy("wait longer, look at its console, or end it with xm destroy"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until xmd has released the devices of a domain that is gone.
fn released(client: &mut Client, subject: &Subject) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < RELEASE {
        let entries = client.call(Op::List, &mut |_| {})?;
        let is_ending = |entry: &serde_json::Value| {
            entry["domain"] == subject.domain
                && (entry["state"] == "ending" || entry["state"] == "restarting")
        };
        if !entries
            .as_array()
            .is_some_and(|all| all.iter().any(is_ending))
        {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let what = format!("the devices of {} are not released", subject.name);
    Err(Error::new(what, "a driver in dom0 does not let go").remedy("see xm log"))
}

/// Whether the guest's kernel has taken the request: it empties the node then.
fn is_taken(machine: &mut Machine, subject: &Subject) -> Result<bool> {
    let path = format!("{}/control/shutdown", nodes::home(subject.domain));
    Ok(machine
        .store
        .read(&path)?
        .is_some_and(|request| request.is_empty()))
}
