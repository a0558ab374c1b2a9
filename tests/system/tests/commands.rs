//! Commands of xm that no other test needs, on a stock guest: what they tell is checked, and what
//! they ask of the guest is seen inside of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use system_tests::{Guest, LINUX_READY, Lab, patient, plain};

#[test]
fn commands_tell_and_do_what_they_say() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "commands")?;
    let name = Guest::linux("g").set("vcpus", "2").create(&mut lab)?;
    lab.guest_says(&name, LINUX_READY, 60)?;
    names(&mut lab)?;
    figures(&mut lab)?;
    live_screen(&mut lab)?;
    keys(&mut lab)?;
    ensure!(lab.sh("xm log -n 50")?.contains("g"), "the log is silent");
    every_command_has_help(&mut lab)?;
    lab.destroy(&name)?;
    lab.finish()
}

fn names(lab: &mut Lab) -> Result<()> {
    let id = lab.sh("xm domid g")?;
    ensure!(lab.sh(&format!("xm domname {id}"))? == "g");
    lab.sh("xm rename g other && xm domid other && ! xm domid g && xm rename other g")?;
    lab.sh("xm pause g")?;
    let paused = lab.domain("g")?.context("g is gone")?;
    let state = paused["state"].as_str().unwrap_or_default();
    ensure!(state.contains('p'), "{paused}");
    lab.sh("xm unpause g")?;
    lab.guest_says("g", ".", 20)?;
    // All that is known of it, as xl prints it.
    let long = lab.json("xm list -l g")?;
    ensure!(long.to_string().contains("\"g\""), "{long}");
    Ok(())
}

fn figures(lab: &mut Lab) -> Result<()> {
    let info = lab.json("xm --json info")?;
    ensure!(info["nr_cpus"] == 2, "{info}");
    ensure!(
        info["free_memory"].as_u64().context("no free memory")? > 0,
        "{info}"
    );
    let uptime = lab.json("xm --json uptime g")?;
    ensure!(uptime.to_string().contains("\"g\""), "{uptime}");
    let vcpus = lab.sh("xm vcpu-list g | tail -n +2")?;
    ensure!(vcpus.lines().count() == 2, "{vcpus}");
    let top = lab.sh("xm top --once")?;
    ensure!(top.contains("Domain-0") && top.contains("\ng "), "{top}");
    let log = lab.sh("xm dmesg | sed 's/^/ /'")?;
    ensure!(log.contains("(OXEN)") && log.contains("dom0_mem"), "{log}");
    Ok(())
}

/// The figures come again and again, a key ends them, and the terminal is as it was before.
fn live_screen(lab: &mut Lab) -> Result<()> {
    let soon = Duration::from_secs(patient(20));
    lab.vm.send("xm top --delay 0.5\n")?;
    for _ in 0..3 {
        let screen = lab.vm.expect("q leaves", soon)?;
        ensure!(
            screen.contains("Domain-0 ") && screen.contains("\ng "),
            "{screen:?}"
        );
    }
    lab.vm.send("q")?;
    lab.vm.expect(r"\[\?1049l", soon)?;
    let terminal = lab.sh("stty -a")?;
    ensure!(
        terminal.contains(" icanon") && terminal.contains(" echo "),
        "{terminal}"
    );
    Ok(())
}

/// A key for the guest's kernel, an NMI, and typed text reach the guest.
fn keys(lab: &mut Lab) -> Result<()> {
    let in_guest = |lab: &mut Lab, command: &str, says: &str| {
        lab.sh_in(
            &format!("xm console --send '{command}\\n' --expect '{says}' --timeout 30 g"),
            60,
        )
    };
    lab.sh("xm sysrq g h")?;
    in_guest(
        lab,
        "until dmesg | grep -q sysrq:.HELP; do sleep 1; done; echo got=help",
        "got=help\\s",
    )?;
    lab.sh("xm trigger g nmi")?;
    in_guest(
        lab,
        "until dmesg | grep -q NMI.received; do sleep 1; done; echo got=nmi",
        "got=nmi\\s",
    )?;
    lab.sh("xm debug-keys q && xm dmesg | grep -q 'd1: '")?;
    Ok(())
}

fn every_command_has_help(lab: &mut Lab) -> Result<()> {
    lab.sh_in(
        "(for c in $(xm --help | sed -n '/^Commands:/,/^$/s/^  \\([a-z-]*\\).*/\\1/p' | grep -vx help); do \
         xm $c --help | grep -q Usage || { echo $c has no help; exit 1; }; done)",
        120,
    )?;
    Ok(())
}
