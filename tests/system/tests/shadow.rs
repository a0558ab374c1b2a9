//! Guests without nested paging: on a machine that has none, and by `hap=0` beside others.

use anyhow::{Result, ensure};
use oxen_harness::Machine;
use system_tests::{Guest, LINUX_READY, Lab, plain};

/// Processes, page faults and copies on write; each round reads the same files, so all sums are alike.
const STORM: &str = "for i in $(seq ROUNDS); do (cat /bin/* /etc/* 2>/dev/null | md5sum) & \
    (cat /bin/* /etc/* 2>/dev/null | md5sum); wait; done | sort | uniq -c | grep -c .";

fn without_npt() -> Result<Machine> {
    let mut machine = plain()?;
    machine.cpu += ",-npt";
    Ok(machine)
}

/// Tests of our own kernel that have to do with memory and modes.
const TESTS: [&str; 6] = [
    "hello",
    "control-registers",
    "exceptions",
    "pagetables",
    "memory",
    "grants",
];

#[test]
#[ignore = "has not passed twice yet; a minute and more"]
fn dom0_and_guests_on_a_machine_without_nested_paging() -> Result<()> {
    let mut lab = Lab::start(&without_npt()?, "shadow")?;
    lab.sh("xm info | grep -E '^virt_caps' | grep -qv ' hap'")?;
    guests(&mut lab, None, 10)?;
    lab.finish()
}

#[test]
#[ignore = "the storm takes 25 s a round with 4 vcpus, and ten are done"]
fn a_guest_by_wish_on_a_machine_with_nested_paging() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "shadow-by-wish")?;
    guests(&mut lab, Some("0"), 10)?;
    lab.finish()
}

/// dom0 on a shadow by option, and the storm for two minutes: `./x soak paging`.
#[test]
#[ignore = "takes minutes"]
fn soak_paging() -> Result<()> {
    let mut lab = Lab::start(&without_npt()?, "shadow-soak")?;
    guests(&mut lab, None, 120)?;
    lab.finish()
}

fn guests(lab: &mut Lab, hap: Option<&str>, rounds: u32) -> Result<()> {
    let set = |guest: Guest| match hap {
        Some(hap) => guest.set("hap", hap),
        None => guest,
    };
    for test in TESTS {
        let arguments = format!("test={test} seconds=3");
        let guest = Guest::test(test, &arguments).set("memory", "64");
        let name = set(guest).create(lab)?;
        lab.guest_says(&name, "(PASS|FAIL) ", 60)?;
        let log = lab.guest_log(&name)?;
        ensure!(log.contains(&format!("PASS {test}")), "it printed:\n{log}");
        lab.destroy(&name)?;
    }
    for vcpus in ["1", "4"] {
        let name = set(Guest::linux("storm").set("vcpus", vcpus)).create(lab)?;
        lab.guest_says(&name, LINUX_READY, 120)?;
        let storm = STORM.replace("ROUNDS", &rounds.to_string());
        let output = lab.in_guest(&name, &format!("[ \"$({storm})\" = 1 ]"), 300)?;
        ensure!(output.contains("<status 0>"), "sums differ:\n{output}");
        lab.destroy(&name)?;
    }
    Ok(())
}
