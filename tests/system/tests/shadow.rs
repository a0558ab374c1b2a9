//! Guests without nested paging: on a machine that has none, dom0 among them, and by `hap=0` beside
//! others.

use anyhow::{Context, Result, ensure};
use oxen_harness::Machine;
use system_tests::{Guest, LINUX_READY, Lab, plain};

/// Worker by worker until the time is over: forks of a shell with a heap to copy on write,
/// programs, 2 MiB pages that come and go, all data compared or summed. All lines are alike.
const STORM: &str = "echo always >/sys/kernel/mm/transparent_hugepage/enabled; \
    cat /bin/busybox /bin/busybox /bin/busybox >/tmp/b; now() { cut -d. -f1 /proc/uptime; }; \
    w() { e=$(($(now) + SECONDS)); while [ $(now) -lt $e ]; do \
    v=$(head -c 60000 /tmp/b | od -An -tx1); for i in 1 2 3 4 5 6 7 8; do (v=$i$v; :); done; \
    dd if=/tmp/b bs=4M 2>/dev/null | cmp - /tmp/b; echo $v | md5sum; done; }; \
    for k in 1 2 3 4; do w >/tmp/o$k 2>&1 & done; wait; sort /tmp/o? | uniq -c";

fn without_npt() -> Result<Machine> {
    let mut machine = plain()?;
    machine.cpu += ",-npt";
    Ok(machine)
}

/// Tests of our own kernel that have to do with memory and modes.
const SOME: [&str; 5] = [
    "control-registers",
    "exceptions",
    "pagetables",
    "memory",
    "grants",
];

/// Others that attack.
const MORE: [&str; 13] = [
    "hello",
    "mmio",
    "io",
    "msr",
    "hypercall-page",
    "cpuid",
    "xsetbv",
    "events",
    "fifo",
    "timers",
    "halts",
    "ipis",
    "nmis",
];

#[test]
fn dom0_and_guests_on_a_machine_without_nested_paging() -> Result<()> {
    let mut lab = Lab::start(&without_npt()?, "shadow")?;
    lab.sh("xm info | grep -E '^virt_caps' | grep -qv ' hap'")?;
    tests(&mut lab, None, &SOME, 1)?;
    for vcpus in [1, 4] {
        storm(&mut lab, None, vcpus, 10)?;
    }
    lab.finish()
}

/// The processor walks one guest's tables, the hypervisor another's: each access ends alike.
#[test]
fn reserved_bits_fault_on_shadows_as_on_the_processor() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "reserved")?;
    let mut ends = Vec::new();
    for (name, hap) in [("processor", None), ("shadow", Some("0"))] {
        let guest = Guest::test(name, "test=reserved-bits").set("memory", "64");
        let name = with(guest, hap).create(&mut lab)?;
        lab.guest_says(&name, "(PASS|FAIL) ", 60)?;
        let log = lab.guest_log(&name)?;
        let end = log.lines().find(|line| line.starts_with("PASS"));
        ends.push(
            end.with_context(|| format!("it printed:\n{log}"))?
                .to_owned(),
        );
        lab.destroy(&name)?;
    }
    ensure!(ends[0] == ends[1], "{ends:#?}");
    // A hardware task switch would load the machine's CR3.
    let guest = Guest::test("task", "test=task-switch").set("hap", "0");
    let name = guest.create(&mut lab)?;
    ensure!(lab.end_of(&name, 30)? == "crash");
    lab.destroy(&name)?;
    lab.finish()
}

/// The storm for two minutes, and all that attacks: `./x soak paging`.
#[test]
#[ignore = "takes minutes"]
fn soak_paging() -> Result<()> {
    for (machine, hap) in [(without_npt()?, None), (plain()?, Some("0"))] {
        let mut lab = Lab::start_for(&machine, "shadow-soak", 3000)?;
        tests(&mut lab, hap, &SOME, 5)?;
        tests(&mut lab, hap, &MORE, 5)?;
        for vcpus in [1, 4] {
            storm(&mut lab, hap, vcpus, 120)?;
        }
        lab.finish()?;
    }
    Ok(())
}

fn with(guest: Guest, hap: Option<&str>) -> Guest {
    match hap {
        Some(hap) => guest.set("hap", hap),
        None => guest,
    }
}

fn tests(lab: &mut Lab, hap: Option<&str>, names: &[&str], seconds: u32) -> Result<()> {
    for test in names {
        let vcpus = if *test == "ipis" { "4" } else { "2" };
        let arguments = format!("test={test} seconds={seconds}");
        let guest = Guest::test(test, &arguments)
            .set("memory", "64")
            .set("vcpus", vcpus);
        let name = with(guest, hap).create(lab)?;
        lab.guest_says(&name, "(PASS|FAIL) ", 60)?;
        let log = lab.guest_log(&name)?;
        ensure!(log.contains(&format!("PASS {test}")), "it printed:\n{log}");
        lab.destroy(&name)?;
    }
    Ok(())
}

fn storm(lab: &mut Lab, hap: Option<&str>, vcpus: u32, seconds: u64) -> Result<()> {
    let guest = Guest::linux("storm").set("vcpus", &vcpus.to_string());
    let name = with(guest, hap).create(lab)?;
    lab.guest_says(&name, LINUX_READY, 120)?;
    let command = STORM.replace("SECONDS", &seconds.to_string());
    let output = lab.in_guest(&name, &command, seconds + 120)?;
    let lines: Vec<_> = output
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(count, _)| count.parse::<u32>().is_ok())
        .collect();
    let [(rounds, _)] = lines[..] else {
        anyhow::bail!("not all lines are alike:\n{output}");
    };
    let rounds: u32 = rounds.parse()?;
    eprintln!("{vcpus} vcpus: {rounds} rounds in {seconds} s");
    ensure!(rounds >= 4, "{vcpus} vcpus: {rounds} rounds");
    lab.sh("xm debug-keys q; xm dmesg | grep 'shadows: ' | tail -n 2")
        .context("no counts")?;
    lab.destroy(&name)?;
    Ok(())
}
