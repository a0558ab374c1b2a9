//! More and less memory, vcpus and CPUs for a stock guest that runs, seen from inside of it; what
//! cannot be is refused and changes nothing.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::{Guest, LINUX_READY, Lab, plain};

const GUEST: &str = "hot";

#[test]
fn memory_vcpus_and_their_places_change_while_a_guest_runs() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "hotplug")?;
    let before = lab.totals_after_a_guest()?;
    Guest::linux(GUEST)
        .set("memory", "256")
        .set("maxmem", "384")
        .set("vcpus", "2")
        .set("maxvcpus", "3")
        .set("cpus", "\"0\"")
        .set("cpus_soft", "[\"1\", \"all\"]")
        // Memory beyond what it booted with is used as soon as it comes.
        .set(
            "cmdline",
            "\"console=hvc0 quiet memhp_default_state=online\"",
        )
        .create(&mut lab)?;
    lab.guest_says(GUEST, LINUX_READY, 120)?;
    places(&mut lab)?;
    memory(&mut lab)?;
    vcpus(&mut lab)?;
    refusals(&mut lab)?;
    a_restart_keeps_it(&mut lab)?;
    lab.sh_in(&format!("xm shutdown -w --timeout 60 {GUEST}"), 90)?;
    let after = lab.totals()?;
    ensure!(
        (after.free_frames, &after.store) == (before.free_frames, &before.store),
        "{before:?} became {after:?}"
    );
    lab.finish()
}

/// A command in the guest, until its output is as it should be.
fn inside(lab: &mut Lab, command: &str, expect: &str, seconds: u64) -> Result<()> {
    let line = format!(
        "xm console --send '\\n' --expect '# $' \
         --send 'until {command} | grep -qE \"{expect}\"; do sleep 0.2; done; echo it\"\"is so\\n' \
         --expect 'itis so' --timeout {seconds} {GUEST}"
    );
    lab.sh_in(&line, 2 * seconds + 30).map(drop)
}

fn vcpu_list(lab: &mut Lab) -> Result<Vec<Value>> {
    match lab.json(&format!("xm --json vcpu-list {GUEST}"))? {
        Value::Array(list) => Ok(list),
        other => anyhow::bail!("xm vcpu-list printed {other}"),
    }
}

/// The affinities of all vcpus, hard and soft.
fn affinities(lab: &mut Lab) -> Result<String> {
    let list = vcpu_list(lab)?;
    let words = list.iter().map(|vcpu| {
        let word = |key: &str| vcpu[key].as_str().unwrap_or("?").to_owned();
        format!("{}/{}", word("affinity"), word("soft_affinity"))
    });
    Ok(words.collect::<Vec<_>>().join(" "))
}

fn places(lab: &mut Lab) -> Result<()> {
    let found = affinities(lab)?;
    ensure!(found == "0/1 0/all 0/all", "as configured: {found}");
    for vcpu in vcpu_list(lab)? {
        ensure!(vcpu["cpu"].is_null() || vcpu["cpu"] == 0, "{vcpu}");
    }
    // What runs moves at once, and stays.
    lab.sh(&format!(
        "xm vcpu-pin {GUEST} 0 1 && xm vcpu-pin {GUEST} all - 0-1"
    ))?;
    let found = affinities(lab)?;
    ensure!(found == "1/all 0/all 0/all", "pinned: {found}");
    inside(lab, "echo moved", "moved", 30)?;
    let list = vcpu_list(lab)?;
    let first = list.first().context("no vcpu 0")?;
    ensure!(first["cpu"] == 1, "vcpu 0 is to be on CPU 1: {first}");
    lab.sh(&format!("xm vcpu-pin {GUEST} all all"))?;
    let found = affinities(lab)?;
    ensure!(found == "all/all all/all all/all", "free: {found}");
    Ok(())
}

fn memory(lab: &mut Lab) -> Result<()> {
    let free = lab.totals()?.free_frames;
    lab.sh_in(&format!("xm mem-set -w --timeout 60 {GUEST} 192"), 90)?;
    held(lab, 192)?;
    follows_late(lab)?;
    inside(lab, "grep MemTotal /proc/meminfo", ": +1[0-9]{5} kB", 30)?;
    let now = lab.totals()?.free_frames;
    ensure!(
        now >= free + 15 * 1024,
        "{free} frames were free, now {now}"
    );
    lab.sh(&format!("xm mem-set {GUEST} 256m"))?;
    held(lab, 256)?;
    inside(lab, "grep MemTotal /proc/meminfo", ": +2[0-9]{5} kB", 30)?;
    // More than it booted with: its kernel adds memory.
    lab.sh(&format!("xm mem-set {GUEST} 320"))?;
    held(lab, 320)?;
    inside(
        lab,
        "grep MemTotal /proc/meminfo",
        ": +(2[6-9]|3)[0-9]{4,} kB",
        30,
    )?;
    lab.sh(&format!("xm mem-max {GUEST} 512 && xm mem-set {GUEST} 256"))?;
    held(lab, 256)
}

/// A guest that has not followed yet is said to be late; too little for it has to be meant.
fn follows_late(lab: &mut Lab) -> Result<()> {
    let few = lab.outcome(&format!("xm mem-set {GUEST} 60"), 30)?;
    ensure!(
        few.status == 1 && few.output.contains("--force"),
        "too little: {few:?}"
    );
    lab.sh(&format!("xm pause {GUEST}"))?;
    let said = lab.sh(&format!("xm mem-set {GUEST} 200"))?;
    ensure!(
        said.contains("has 192 MiB, and its target is 200"),
        "{said}"
    );
    let late = lab.outcome(&format!("xm mem-set -w --timeout 1 {GUEST} 200"), 30)?;
    ensure!(
        late.status == 1 && late.output.contains("does not follow in time"),
        "{late:?}"
    );
    lab.sh(&format!("xm unpause {GUEST}"))?;
    for mib in [200, 192] {
        lab.sh_in(&format!("xm mem-set -w --timeout 60 {GUEST} {mib}"), 90)?;
    }
    Ok(())
}

/// Waits until the guest has as much as it is meant to have, by the hypervisor's count.
fn held(lab: &mut Lab, mib: u64) -> Result<()> {
    let count =
        format!("xm --json list {GUEST} | grep -o '\"memory_mib\": [0-9]*' | cut -d' ' -f2");
    lab.until(
        &format!(
            "[ $({count}) -ge {} ] && [ $({count}) -le {} ]",
            mib,
            mib + 1
        ),
        60,
    )
    .map(drop)
}

fn vcpus(lab: &mut Lab) -> Result<()> {
    inside(lab, "cat /sys/devices/system/cpu/online", "^0-1$", 30)?;
    lab.sh(&format!("xm vcpu-set {GUEST} 1"))?;
    inside(lab, "cat /sys/devices/system/cpu/online", "^0$", 30)?;
    lab.until(
        &format!("[ \"$(xm --json vcpu-list {GUEST} | grep -c '\"online\": true')\" = 1 ]"),
        30,
    )?;
    lab.sh(&format!("xm vcpu-set {GUEST} 3"))?;
    // Its kernel makes them present; to use them is its user space's part.
    inside(
        lab,
        "for cpu in 1 2; do echo 1 > /sys/devices/system/cpu/cpu$cpu/online; done 2>/dev/null; \
         cat /sys/devices/system/cpu/online",
        "^0-2$",
        60,
    )?;
    lab.until(
        &format!("[ \"$(xm --json vcpu-list {GUEST} | grep -c '\"online\": true')\" = 3 ]"),
        30,
    )?;
    inside(
        lab,
        "for cpu in 0 1 2; do taskset $((1 << cpu)) echo ran on $cpu; done",
        "ran on 2",
        30,
    )
}

fn refusals(lab: &mut Lab) -> Result<()> {
    let before = (affinities(lab)?, lab.domain(GUEST)?);
    for (command, says) in [
        ("mem-set hot 513", "its maxmem is 512 MiB"),
        ("mem-set hot 1x", "none of the units"),
        ("mem-max hot 100", "it is meant to have 256 MiB now"),
        ("mem-set nobody 100", "no domain of that name"),
        ("mem-set Domain-0 100", "dom0_mem="),
        ("vcpu-set hot 4", "it has 1 to 3"),
        ("vcpu-set hot 0", "it has 1 to 3"),
        ("vcpu-pin hot 3 all", "its vcpus are 0 to 2"),
        ("vcpu-pin hot 0 7", "this machine has 0-1"),
        ("vcpu-pin hot all 0 5-9", "this machine has 0-1"),
        ("vcpu-pin hot 0 1-", "not a number"),
    ] {
        let outcome = lab.outcome(&format!("xm {command}"), 30)?;
        ensure!(outcome.status != 0, "xm {command} succeeded");
        ensure!(
            outcome.output.contains(says),
            "xm {command}: {}",
            outcome.output
        );
    }
    lab.sh("xm mem-max hot 16384")?;
    let outcome = lab.outcome("xm mem-set hot 16384", 30)?;
    ensure!(
        outcome.status == 1 && outcome.output.contains("MiB are free"),
        "{}",
        outcome.output
    );
    let after = (affinities(lab)?, lab.domain(GUEST)?);
    let kept = |domain: &Option<Value>| {
        domain
            .as_ref()
            .map(|it| (it["memory_mib"].clone(), it["vcpus"].clone()))
    };
    ensure!(
        before.0 == after.0 && kept(&before.1) == kept(&after.1),
        "{before:?} became {after:?}"
    );
    Ok(())
}

/// Changes outlive a reboot of the guest.
fn a_restart_keeps_it(lab: &mut Lab) -> Result<()> {
    lab.sh("xm mem-set hot 224 && xm vcpu-set hot 2 && xm vcpu-pin hot all 1")?;
    let first = lab.sh("xm domid hot")?;
    lab.sh("xm reboot hot")?;
    lab.until(&format!("id=$(xm domid hot) && [ \"$id\" != {first} ]"), 60)?;
    lab.guest_says("hot", LINUX_READY, 120)?;
    held(lab, 224)?;
    inside(lab, "cat /sys/devices/system/cpu/online", "^0-1$", 30)?;
    let found = affinities(lab)?;
    ensure!(found == "1/all 1/all 1/all", "after a reboot: {found}");
    Ok(())
}
