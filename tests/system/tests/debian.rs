//! Debian 12 as a guest from its own disk, which `./x guest-image` has made: kernel and ramdisk
//! come out of it, systemd reaches the login prompt, reboot and shutdown are clean, and the file
//! system is whole.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use oxen_harness::{Disk, DiskBus, Nic, NicModel, images};
use system_tests::{Guest, LINUX_READY, Lab, machine, patient};

/// How long systemd may take on a busy host.
const START: u64 = 400;
const CONFIG: &str = r#"name = "debian"
type = "pvh"
memory = 384
vcpus = 1
disk = [ "phy:/dev/vda,xvda,w" ]
"#;

#[test]
#[ignore = "takes a disk that ./x guest-image makes, as root, and several minutes"]
fn soak_debian_boots_from_its_own_disk() -> Result<()> {
    with_disk("menu", |disk| {
        let mut machine = machine("dom0_mem=1G", "")?;
        machine.disks.push(Disk::new(disk, DiskBus::Virtio));
        let mut lab = Lab::start(&machine, "debian")?;
        from_its_menu(&mut lab)?;
        // By now dom0's table of mappings is as large as such a guest's disk needs.
        let before = lab.totals()?;
        with_a_kernel_of_dom0(&mut lab)?;
        mistakes(&mut lab)?;
        before.same(&lab.totals()?)?;
        lab.sh("[ ! -e /run/xen/boot ]")?;
        lab.finish()?;
        whole(disk)
    })
}

/// A copy of the disk, for one test.
fn with_disk(name: &str, test: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let image = images::target_dir().join("image/debian-guest.img");
    ensure!(
        image.exists(),
        "there is no {}: run ./x guest-image",
        image.display()
    );
    let disk = image.with_file_name(format!("debian-{name}-{}.img", std::process::id()));
    let copied = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .args([&image, &disk])
        .status()?;
    let result = if copied.success() {
        test(&disk)
    } else {
        Err(anyhow::anyhow!("{} cannot be copied", image.display()))
    };
    std::fs::remove_file(&disk)?;
    result
}

/// The world through dom0's NAT: the emulator's user network, and behind it the machine's own
/// sources.
#[test]
#[ignore = "takes a disk that ./x guest-image makes, as root, a network, and several minutes"]
fn soak_debian_apt_works_over_its_network() -> Result<()> {
    with_disk("apt", |disk| {
        let mut machine = machine("dom0_mem=1G", "")?;
        machine.disks.push(Disk::new(disk, DiskBus::Virtio));
        machine.nics.push(Nic::new(NicModel::Virtio));
        let mut lab = Lab::start(&machine, "debian-apt")?;
        configure(&mut lab, "bootloader = \"xmgrub\"\nvif = [ \"\" ]\n")?;
        lab.sh_in("xm create -q /etc/xen/debian.cfg", 120)?;
        log_in(&mut lab)?;
        says(&mut lab, "networkctl --no-pager", "routable")?;
        for command in [
            "apt-get -q -o Acquire::Languages=none update",
            "apt-get -q -y --no-install-recommends install hello",
            "hello",
        ] {
            says(&mut lab, &format!("{command}; echo status-$?"), "status-0")?;
        }
        shut_down(&mut lab)?;
        lab.finish()?;
        whole(disk)
    })
}

/// Its qemu-nbd serves a guest images in other formats than raw; dom0 of the tests has none of its
/// own.
#[test]
#[ignore = "takes a disk that ./x guest-image makes, as root"]
fn soak_debian_serves_qcow2_vhd_and_vmdk() -> Result<()> {
    const LIBRARIES: &str = "/q/usr/lib/x86_64-linux-gnu";
    const FORMATS: [(&str, &str, &str); 3] = [
        ("xvda", "qcow2", "qcow2"),
        ("xvdb", "vhd", "vpc"),
        ("xvdc", "vmdk", "vmdk"),
    ];
    with_disk("formats", |disk| {
        let mut machine = machine("dom0_mem=1G", "")?;
        machine.disks.push(Disk::new(disk, DiskBus::Virtio));
        let mut lab = Lab::start(&machine, "debian-formats")?;
        lab.until("[ -b /dev/vda1 ]", 20)?;
        lab.sh("mkdir /q /d && mount -t ext4 -o ro /dev/vda1 /q")?;
        for program in ["qemu-nbd", "qemu-img"] {
            lab.sh(&format!("printf '#!/bin/sh\\nexec {LIBRARIES}/ld-linux-x86-64.so.2 --library-path {LIBRARIES} /q/usr/bin/{program} \"$@\"\\n' > /bin/{program} && chmod +x /bin/{program}"))?;
        }
        let mut disks = Vec::new();
        for (name, format, driver) in FORMATS {
            lab.sh(&format!("qemu-img create -q -f {driver} /d/{name}.img 16M"))?;
            disks.push(format!("\"/d/{name}.img,{format},{name}\""));
        }
        Guest::linux("g")
            .set("disk", &format!("[{}]", disks.join(", ")))
            .create(&mut lab)?;
        lab.guest_says("g", LINUX_READY, 120)?;
        let refusals = [
            ("/d/xvda.img,qcow2,xvdd,w!", "several writers"),
            ("/d/xvda.img,qcow2,xvdd", "g writes it as xvda"),
        ];
        for (spec, says) in refusals {
            let outcome = lab.outcome(&format!("xm block-attach g '{spec}'"), 60)?;
            ensure!(
                outcome.status == 1 && outcome.output.contains(says),
                "{spec}: {outcome:?}"
            );
        }
        let mut written = Vec::new();
        for (name, ..) in FORMATS {
            let said = lab.in_guest("g", &format!("dd if=/dev/urandom of=/tmp/p bs=64k count=32 && dd if=/tmp/p of=/dev/{name} bs=64k seek=16 conv=fsync && echo 3 > /proc/sys/vm/drop_caches && dd if=/dev/{name} bs=64k skip=16 count=32 | cmp - /tmp/p && md5sum /tmp/p"), 90)?;
            written.push(sum(&said)?.to_owned());
        }
        lab.destroy("g")?;
        lab.until(
            "[ -z \"$(ls /run/xen/nbd)\" ] && [ \"$(cat /sys/block/nbd*/size | sort -u)\" = 0 ]",
            20,
        )?;
        for ((name, _, driver), wrote) in FORMATS.into_iter().zip(written) {
            let found = lab.sh_in(&format!("qemu-img convert -f {driver} -O raw /d/{name}.img /d/raw && dd if=/d/raw bs=64k skip=16 count=32 2>/dev/null | md5sum"), 60)?;
            ensure!(sum(&found)? == wrote, "{name}: {found}, not {wrote}");
        }
        lab.sh("umount /q")?;
        lab.finish()
    })
}

/// The MD5 sum in a text.
fn sum(text: &str) -> Result<&str> {
    let is_sum = |word: &&str| word.len() == 32 && word.bytes().all(|it| it.is_ascii_hexdigit());
    text.split_whitespace()
        .find(is_sum)
        .with_context(|| format!("no sum in {text:?}"))
}

fn configure(lab: &mut Lab, more: &str) -> Result<()> {
    let text = format!("{CONFIG}{more}").replace('\n', "\\n");
    lab.sh(&format!("printf '%b' '{text}' > /etc/xen/debian.cfg"))
        .map(drop)
}

fn from_its_menu(lab: &mut Lab) -> Result<()> {
    configure(lab, "bootloader = \"xmgrub\"\n")?;
    let menu = lab.sh("xmgrub --list /dev/vda")?;
    ensure!(menu.contains("Debian GNU/Linux, with Linux 6.1"), "{menu}");
    let found = lab.json("xmgrub --json /dev/vda")?;
    let cmdline = found["cmdline"].as_str().context("no command line")?;
    ensure!(cmdline.contains("root=UUID="), "{found}");

    lab.sh_in("xm create -q /etc/xen/debian.cfg", 120)?;
    log_in(lab)?;
    says(lab, "cat /proc/cmdline", "root=UUID=.*console=hvc0")?;
    says(lab, "findmnt -no SOURCE,FSTYPE /", "/dev/xvda1 +ext4")?;
    says(
        lab,
        "systemctl is-system-running --wait; systemctl --no-pager --failed",
        "running[^$]*\\n *0 loaded units",
    )?;
    says(
        lab,
        "dmesg --level=emerg,alert,crit,err,warn | grep -c BUG",
        "^0",
    )?;

    // A reboot is a new start from the disk.
    let first = lab.sh("xm domid debian")?;
    lab.sh("xm reboot debian")?;
    lab.until(
        &format!("id=$(xm domid debian) && [ \"$id\" != {first} ]"),
        180,
    )?;
    log_in(lab)?;
    says(lab, "journalctl --no-pager --list-boots | wc -l", "^[2-9]")?;
    shut_down(lab)
}

/// The same files as `kernel=` and `ramdisk=`.
fn with_a_kernel_of_dom0(lab: &mut Lab) -> Result<()> {
    lab.sh_in(
        "mkdir -p /root/boot && xmgrub --output-directory /root/boot /dev/vda",
        60,
    )?;
    configure(
        lab,
        "kernel = \"/root/boot/kernel\"\nramdisk = \"/root/boot/ramdisk\"\nroot = \"/dev/xvda1 ro\"\nextra = \"console=hvc0 systemd.unit=rescue.target\"\n",
    )?;
    lab.sh_in("xm create -q /etc/xen/debian.cfg", 120)?;
    lab.guest_says("debian", "Press Enter|login:|root@debian", START)?;
    shut_down(lab)?;
    lab.sh("rm -r /root/boot").map(drop)
}

fn mistakes(lab: &mut Lab) -> Result<()> {
    configure(
        lab,
        "bootloader = \"xmgrub\"\nbootloader_args = \"--entry=nobody\"\n",
    )?;
    refused(lab, "xm create /etc/xen/debian.cfg", "no entry .nobody")?;
    lab.sh("dd if=/dev/zero of=/root/empty.img bs=1M count=4 2>/dev/null")?;
    configure(lab, "bootloader = \"xmgrub\"\n")?;
    let create = "xm create /etc/xen/debian.cfg disk=\"[\\\"/root/empty.img,raw,xvda,w\\\"]\"";
    refused(lab, create, "no ext2, ext3 or ext4 file system")?;
    lab.sh("rm /root/empty.img").map(drop)
}

fn refused(lab: &mut Lab, command: &str, says: &str) -> Result<()> {
    let outcome = lab.outcome(command, 60)?;
    let told = regex_lite::Regex::new(says)?.is_match(&outcome.output);
    ensure!(
        outcome.status == 1 && told,
        "{command}: status {}, {}",
        outcome.status,
        outcome.output
    );
    ensure!(lab.domain("debian")?.is_none(), "a domain is left");
    Ok(())
}

fn log_in(lab: &mut Lab) -> Result<()> {
    let limit = patient(START);
    lab.sh_in(
        &format!(
            "xm console --expect 'debian login:' --send 'root\\n' --expect 'root@debian.*# $' --timeout {limit} debian"
        ),
        2 * START,
    )
    .map(drop)
}

/// A command in the guest; what it prints must match.
fn says(lab: &mut Lab, command: &str, expect: &str) -> Result<()> {
    let limit = patient(300);
    lab.sh_in(
        &format!(
            "xm console --send '\\n' --expect '# $' --send '{command}\\n' --expect '{expect}' --timeout {limit} debian"
        ),
        650,
    )
    .map(drop)
}

fn shut_down(lab: &mut Lab) -> Result<()> {
    let limit = patient(240);
    lab.sh_in(&format!("xm shutdown -w --timeout {limit} debian"), 270)?;
    ensure!(lab.domain("debian")?.is_none(), "it is still listed");
    Ok(())
}

/// fsck on the partition, which begins at 1 MiB, finds nothing to mend and a clean end.
fn whole(disk: &Path) -> Result<()> {
    let partition = format!("{}?offset=1048576", disk.display());
    let output = Command::new("/sbin/e2fsck")
        .args(["-f", "-n", &partition])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "e2fsck: {text}");
    ensure!(!text.contains("recovering journal"), "e2fsck: {text}");
    Ok(())
}
