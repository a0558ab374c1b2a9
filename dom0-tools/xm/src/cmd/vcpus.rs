//! `xm vcpu-list`.

use super::list::{name, seconds};
use crate::machine::{Machine, failed};
use crate::output::Output;
use oxen_domain::Result;
use oxen_sys::hypercall::AffinityKind;
use std::fmt::Write;

pub(super) fn run(wanted: &[String], out: &Output) -> Result<()> {
    let mut machine = Machine::open()?;
    let domains = machine.some(wanted)?;
    let calls = machine.xen.calls();
    let cpus = calls
        .physinfo()
        .map_or(64, |info| info.max_cpu_id as usize + 1);
    let mut text = String::from(
        "Name                                ID  VCPU   CPU State   Time(s) Affinity (hard / soft)\n",
    );
    let mut values = Vec::new();
    for domain in domains {
        for vcpu in 0..=domain.info.max_vcpu_id {
            let id = domain.info.domain;
            let Ok(info) = calls.vcpu_info(id, vcpu) else {
                continue;
            };
            let affinity = |kind| {
                let set = calls.vcpu_affinity(id, vcpu, kind, cpus);
                let set = set.map_err(failed("cannot ask after a vcpu's affinity"))?;
                Ok(ranges(&set, cpus))
            };
            let (hard, soft) = (affinity(AffinityKind::Hard)?, affinity(AffinityKind::Soft)?);
            let online = info.online != 0;
            let cpu = if online {
                info.cpu.to_string()
            } else {
                "-".to_owned()
            };
            let state = match (online, info.blocked != 0, info.running != 0) {
                (false, _, _) => "--p",
                (true, true, _) => "-b-",
                (true, false, true) => "r--",
                (true, false, false) => "---",
            };
            let time = seconds(info.cpu_time);
            let _ = writeln!(
                text,
                "{:<32} {id:>5} {vcpu:>5} {cpu:>5}   {state} {time:>9.1} {hard} / {soft}",
                name(&domain)
            );
            values.push(serde_json::json!({
                "name": domain.name, "domain": id, "vcpu": vcpu, "cpu": online.then_some(info.cpu),
                "online": online, "state": state, "cpu_seconds": time,
                "affinity": hard, "soft_affinity": soft,
            }));
        }
    }
    out.print(&values, &text);
    Ok(())
}

/// The set bits as `0-3,5`, or `all`.
fn ranges(bitmap: &[u8], cpus: usize) -> String {
    let has = |cpu: usize| {
        bitmap
            .get(cpu / 8)
            .is_some_and(|byte| byte & (1 << (cpu % 8)) != 0)
    };
    if (0..cpus).all(has) {
        return "all".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    let mut cpu = 0;
    while cpu < cpus {
        if !has(cpu) {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while cpu < cpus && has(cpu) {
            cpu += 1;
        }
        let last = cpu - 1;
        parts.push(if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cpus_are_written_as_ranges() {
        assert_eq!(ranges(&[0xff], 8), "all");
        assert_eq!(ranges(&[0xff], 4), "all");
        assert_eq!(ranges(&[0b0010_1111], 8), "0-3,5");
        assert_eq!(ranges(&[0, 0b10], 16), "9");
        assert_eq!(ranges(&[], 8), "");
    }
}
