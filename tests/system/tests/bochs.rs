//! Intel: the disc in Bochs, whose CPUs have VT-x. Minutes long, so only by `./x test --bochs`.

use anyhow::{Result, ensure};
use system_tests::runner;

/// dom0 comes up on VT-x, its daemons run, and a guest of our own kernel comes and goes.
#[test]
#[ignore = "takes minutes: an emulator without translation"]
fn bochs_vtx_carries_dom0_and_a_guest() -> Result<()> {
    let config = r#"name = "g"\ntype = "pvh"\nkernel = "/boot/test-guest"\nmemory = 32\ncmdline = "test=hello"\non_poweroff = "preserve"\n"#;
    let script = format!(
        "printf '%b' '{config}' > /tmp/g.cfg && xm create -q /tmp/g.cfg && \
         n=0; until xm --json list | grep -q shutdown || [ $n -gt 60 ]; do n=$((n+1)); sleep 1; done; xm list"
    );
    let run = runner::run(&["--bochs"], &script, 600)?;
    ensure!(run.status == 0, "{}\n{}", run.output, run.console);
    ensure!(
        run.console.contains("hardware: Vmx"),
        "it did not run on VT-x:\n{}",
        run.console
    );
    ensure!(
        run.output.lines().any(|line| line.starts_with("g ")),
        "the guest is not in the list:\n{}",
        run.output
    );
    Ok(())
}
