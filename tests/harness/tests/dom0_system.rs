//! dom0's initramfs and this crate's handle, on a machine without the hypervisor.
//!
//! They need the image, so `./x test` runs them after it is built.

use std::time::Duration;

use anyhow::Result;
use oxen_harness::{Disk, DiskBus, Images, Machine, Nic, NicModel, Vm};

const BOOT: Duration = Duration::from_secs(90);
const SHORT: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs the image"]
fn the_shell_runs_commands_and_tells_their_status() -> Result<()> {
    let machine = Machine::new(Images::in_target().linux(""));
    let mut vm = Vm::start(&machine, "bare-shell", BOOT * 2)?;
    vm.wait_for_dom0(BOOT)?;
    let outcome = vm.run_command("echo one; echo two >&2; (exit 7)", SHORT)?;
    assert_eq!((outcome.status, outcome.output.as_str()), (7, "one\ntwo"));
    let outcome = vm.run_command("for n in 1 2\ndo\nprintf '%s\\n' \"it's $n\"\ndone", SHORT)?;
    assert_eq!(
        (outcome.status, outcome.output.as_str()),
        (0, "it's 1\nit's 2")
    );
    // The shell of dom0 has a terminal: job control works.
    assert_eq!(vm.run_ok("tty", SHORT)?, "/dev/ttyS0");
    assert!(vm.run_ok("no-such-program", SHORT).is_err());
    vm.refuse("can't access tty|BUG:|WARNING:")?;
    vm.send("poweroff\n")?;
    assert!(vm.wait(SHORT)?.success());
    Ok(())
}

#[test]
#[ignore = "needs the image"]
fn drivers_of_the_devices_are_loaded() -> Result<()> {
    let disk = std::env::temp_dir().join(format!("oxen-disk-{}", std::process::id()));
    std::fs::write(&disk, vec![0x5a; 1 << 20])?;
    let mut machine = Machine::new(Images::in_target().linux(""));
    machine.disks = [DiskBus::Ahci, DiskBus::Nvme, DiskBus::Virtio]
        .map(|bus| Disk {
            snapshot: true,
            ..Disk::new(&disk, bus)
        })
        .into();
    machine.nics = vec![Nic::new(NicModel::Virtio), Nic::new(NicModel::E1000e)];
    let mut vm = Vm::start(&machine, "bare-devices", BOOT * 2)?;
    let result = vm.wait_for_dom0(BOOT).and_then(|()| {
        // Ports of AHCI are probed while the shell is there already.
        vm.run_ok(
            "timeout 10 sh -c 'until [ -e /dev/sda ]; do sleep 0.2; done'",
            SHORT,
        )?;
        let disks = vm.run_ok(
            "for d in sda nvme0n1 vda; do head -c 4 /dev/$d; done",
            SHORT,
        )?;
        assert_eq!(disks, "ZZZZZZZZZZZZ");
        assert_eq!(
            vm.run_ok(
                "ls -d /sys/class/net/eth0 /sys/class/net/eth1 | wc -l",
                SHORT
            )?,
            "2"
        );
        vm.run_ok(
            "mke2fs /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && umount /mnt",
            SHORT,
        )
    });
    std::fs::remove_file(&disk)?;
    result.map(drop)
}

#[test]
#[ignore = "needs the image"]
fn a_killed_daemon_is_started_again_and_a_stopped_one_is_not() -> Result<()> {
    let machine = Machine::new(Images::in_target().linux(""));
    let mut vm = Vm::start(&machine, "bare-supervisor", BOOT * 2)?;
    vm.wait_for_dom0(BOOT)?;
    vm.run_ok("printf '#!/bin/sh\\nexec sleep 1000\\n' >/bin/fake && chmod +x /bin/fake && mkdir -p /run/oxen", SHORT)?;
    vm.run_ok(
        "setsid oxen-supervise fake </dev/null >/dev/null 2>&1 &\nsleep 1",
        SHORT,
    )?;
    let first = vm.run_ok("cat /run/oxen/fake.pid", SHORT)?;
    vm.run_ok(&format!("kill -9 {first}"), SHORT)?;
    let again = format!(
        "n=50; until new=$(cat /run/oxen/fake.pid) && [ \"$new\" != {first} ]; do n=$((n-1)); [ $n -gt 0 ] || exit 1; sleep 0.1; done"
    );
    vm.run_ok(&format!("sh -c '{again}'"), SHORT)?;
    let second = vm.run_ok("cat /run/oxen/fake.pid", SHORT)?;
    vm.run_ok(
        &format!("[ -d /proc/{second} ] && grep 'fake ended with status 137' /var/log/fake.log"),
        SHORT,
    )?;
    vm.run_ok(
        &format!("touch /run/oxen/fake.stop; kill -9 {second}; sleep 3; ! pidof sleep"),
        SHORT,
    )?;
    // Its pid goes with it.
    vm.run_ok("[ ! -e /run/oxen/fake.pid ]", SHORT)?;
    Ok(())
}
