//! dom0 powers the machine off, and restarts it.

use std::time::Duration;

use anyhow::{Result, ensure};
use system_tests::{Lab, plain};

const BOOT: Duration = Duration::from_secs(150);

#[test]
fn dom0_reboots_the_machine_then_powers_it_off() -> Result<()> {
    let mut machine = plain()?;
    machine.no_reboot = false;
    machine.cpus = 1;
    let mut lab = Lab::start(&machine, "power")?;
    let first = lab.sh("cat /proc/sys/kernel/random/boot_id")?;
    lab.vm.send("reboot\n")?;
    lab.vm.wait_for_dom0(BOOT)?;
    let second = lab.sh("cat /proc/sys/kernel/random/boot_id")?;
    ensure!(first != second, "it is the same boot: {first}");
    lab.finish()
}
