//! Stock guests and their life: create, list, console, pause, rename, reboot, shutdown, destroy;
//! many vcpus, several at once; each way to end, and each action on it.

use anyhow::{Context, Result, ensure};
use system_tests::{Guest, LINUX_READY, Lab, machine, plain};

#[test]
fn the_demo_guest_starts_answers_and_goes() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "guests-demo")?;
    let before = lab.totals_after_a_guest()?;
    let text = lab.sh_in("xm create /etc/xen/demo.cfg && xm list", 60)?;
    ensure!(text.contains("demo"), "{text}");
    lab.guest_says("demo", "login|#", 60)?;
    lab.sh_in(
        "xm console --send 'uname -r; cat /sys/hypervisor/type\\n' --expect '6[.]1[.][^\\n]*\\n.*xen' --timeout 30 demo",
        60,
    )?;
    let domain = lab.domain("demo")?.context("no demo in the list")?;
    ensure!(
        domain["memory_mib"] == 192 && domain["vcpus"] == 1,
        "{domain}"
    );

    // Paused it does nothing; then it goes on.
    lab.sh("xm pause demo")?;
    let state = lab.domain("demo")?.context("no demo")?["state"].to_string();
    ensure!(state.contains('p'), "not paused: {state}");
    let silent = lab.outcome(
        "xm console --send 'echo mar''ker\\n' --expect marker --timeout 3 demo",
        30,
    )?;
    ensure!(silent.status != 0, "a paused guest answered");
    lab.sh("xm unpause demo")?;
    lab.guest_says("demo", "marker", 20)?;

    lab.sh(
        "xm rename demo other && xm domid other && xm domname $(xm domid other) | grep -x other",
    )?;
    ensure!(
        lab.outcome("xm domid demo", 20)?.status != 0,
        "the old name is still there"
    );
    for command in [
        "xm vcpu-list other",
        "xm uptime other",
        "xm list -l other",
        "xm list -v",
        "xm top --once",
        "xm log",
        "xm dmesg | sed 's/^/ /'",
    ] {
        ensure!(!lab.sh(command)?.is_empty(), "{command} printed nothing");
    }

    // A reboot is a new domain of the same name.
    let first = lab.sh("xm domid other")?;
    lab.sh("xm reboot other")?;
    lab.until(
        &format!("id=$(xm domid other) && [ \"$id\" != {first} ]"),
        60,
    )?;
    lab.guest_says("other", LINUX_READY, 60)?;

    lab.sh_in("xm shutdown -w --timeout 60 other", 90)?;
    ensure!(lab.domain("other")?.is_none(), "it is still listed");
    let after = lab.totals()?;
    ensure!(
        after.free_frames == before.free_frames,
        "{before:?} became {after:?}"
    );
    ensure!(after.store == before.store, "{before:?} became {after:?}");
    lab.finish()
}

#[test]
fn one_to_eight_vcpus_and_several_at_once() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "guests-vcpus")?;
    for (name, vcpus, mib) in [("one", 1, 128), ("two", 2, 256), ("eight", 8, 512)] {
        Guest::linux(name)
            .set("vcpus", &vcpus.to_string())
            .set("memory", &mib.to_string())
            .create(&mut lab)?;
    }
    for (name, vcpus) in [("one", 1), ("two", 2), ("eight", 8)] {
        lab.guest_says(name, LINUX_READY, 180)?;
        lab.sh_in(
            &format!("xm console --send 'echo cpus $(nproc)\\n' --expect 'cpus {vcpus}\\r?\\n' --timeout 60 {name}"),
            90,
        )?;
    }
    lab.sh_in("xm shutdown -a -w --timeout 120", 150)?;
    ensure!(lab.domains()?.len() == 1, "guests are left");
    lab.finish()
}

#[test]
fn ends_are_told_apart_and_actions_done() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "guests-ends")?;
    for (test, reason) in [
        ("hello", "poweroff"),
        ("reboot", "reboot"),
        ("crash", "crash"),
        ("suspend", "suspend"),
        ("watchdog", "watchdog"),
        ("triple", "crash"),
        ("hltif0", "poweroff"),
    ] {
        let name = Guest::test(test, &format!("test={test}")).create(&mut lab)?;
        let found = lab.end_of(&name, 30)?;
        ensure!(found == reason, "{test} ended as {found}, not {reason}");
        if test == "suspend" {
            lab.sh("xm resume suspend")?;
            lab.guest_says("suspend", "PASS suspend resumed", 20)?;
        }
        lab.destroy(&name)?;
    }
    // destroy, restart, rename-restart.
    Guest::test("gone", "test=hello")
        .ends("destroy")
        .create(&mut lab)?;
    lab.until("! xm domid gone", 20)?;
    Guest::test("again", "test=echo")
        .set("on_crash", "\"restart\"")
        .create(&mut lab)?;
    Guest::test("kept", "test=echo")
        .set("on_crash", "\"rename-restart\"")
        .create(&mut lab)?;
    for name in ["again", "kept"] {
        lab.guest_says(name, "READY", 20)?;
        let first = lab.sh(&format!("xm domid {name}"))?;
        lab.sh(&format!(
            "xm console --send 'crash\\n' --expect '.' --timeout 5 {name} || true"
        ))?;
        lab.until(
            &format!("id=$(xm domid {name}) && [ \"$id\" != {first} ]"),
            30,
        )?;
        lab.answers(name, "back")?;
    }
    lab.sh("xm domid kept-1")?;
    for name in ["again", "kept", "kept-1"] {
        lab.destroy(name)?;
    }
    lab.finish()
}

#[test]
fn memory_from_64_mib_to_more_than_4_gib() -> Result<()> {
    let mut big = machine("dom0_mem=512M", "")?;
    big.memory_mib = 10240;
    let mut lab = Lab::start(&big, "guests-memory")?;
    let name = Guest::linux("huge")
        .set("memory", "8192")
        .create(&mut lab)?;
    lab.guest_says(&name, LINUX_READY, 120)?;
    lab.sh_in(
        "xm console --send 'grep MemTotal /proc/meminfo\\n' --expect 'MemTotal: +8[0-9]{6} kB' --timeout 30 huge",
        60,
    )?;
    lab.destroy(&name)?;
    // The stock kernel's own image needs about 64 MiB: our kernel shows that such a guest can be.
    let name = Guest::test("small", "test=hello")
        .set("memory", "64")
        .create(&mut lab)?;
    lab.guest_says(&name, "PASS hello", 20)?;
    lab.destroy(&name)?;
    lab.finish()
}
