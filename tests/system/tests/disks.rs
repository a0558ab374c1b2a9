//! Disks of guests, from the guest's file system to dom0's hardware: blkfront, blkback, loop
//! devices, and DMA to what the guest granted.

use anyhow::{Context, Result, ensure};
use oxen_harness::{Disk, DiskBus};
use system_tests::{Guest, LINUX_READY, Lab, Totals, patient, plain};

const HOST_MIB: u64 = 64;

/// dom0's disks, with a file system on each but the last.
const HOST: [(&str, DiskBus); 3] = [
    ("sda", DiskBus::Ahci),
    ("nvme0n1", DiskBus::Nvme),
    ("vda", DiskBus::Virtio),
];

/// A machine with those disks, at dom0's prompt. They are mounted at /d/NAME.
fn lab_with_disks(name: &str) -> Result<(Lab, tempfile::TempDir)> {
    lab_with_disks_for(name, 900)
}

fn lab_with_disks_for(name: &str, seconds: u64) -> Result<(Lab, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    let mut machine = plain()?;
    for (disk, bus) in HOST {
        let file = directory.path().join(disk);
        std::fs::File::create(&file)?.set_len(HOST_MIB << 20)?;
        machine.disks.push(Disk::new(file, bus));
    }
    let mut lab = Lab::start_for(&machine, name, seconds)?;
    for (disk, _) in HOST {
        lab.until(&format!("[ -b /dev/{disk} ]"), 20)?;
    }
    lab.sh_in(
        "for d in sda nvme0n1 vda; do mkdir -p /d/$d && mke2fs -F /dev/$d >/dev/null 2>&1 && mount -t ext4 /dev/$d /d/$d || exit 1; done",
        60,
    )?;
    Ok((lab, directory))
}

/// Runs a line in the guest; its output. The mark ends a command whose text does not contain it.
fn in_guest(lab: &mut Lab, guest: &str, command: &str, seconds: u64) -> Result<String> {
    let limit = patient(seconds);
    let typed = format!("{command}; echo st\"\"atus $?\\n");
    let text = lab.sh_in(
        &format!(
            "xm console -v --send '{typed}' --expect 'status [0-9]+' --timeout {limit} {guest}"
        ),
        seconds + 30,
    )?;
    ensure!(
        text.contains("status 0"),
        "{command:?} in the guest: {text}"
    );
    Ok(text)
}

/// The first MD5 sum in a text.
fn sum(text: &str) -> Result<&str> {
    text.split_whitespace()
        .find(|word| word.len() == 32 && word.bytes().all(|c| c.is_ascii_hexdigit()))
        .with_context(|| format!("no sum in {text:?}"))
}

/// No trace of guests' disks in dom0.
fn nothing_left(lab: &mut Lab) -> Result<()> {
    lab.until(
        "[ -z \"$(ls /sys/bus/xen-backend/devices | grep vbd)\" ]",
        20,
    )?;
    let left = lab.sh("losetup -a; xsls /local/domain/0/backend/vbd; xenstore ls /local/domain/0/error/backend/vbd 2>/dev/null; true")?;
    ensure!(left.split_whitespace().next().is_none(), "left: {left}");
    Ok(())
}

#[test]
fn a_guests_data_reaches_every_kind_of_disk() -> Result<()> {
    let (mut lab, _directory) = lab_with_disks("disks_data")?;
    lab.sh("umount /d/vda")?;
    lab.sh("for d in sda nvme0n1; do dd if=/dev/zero of=/d/$d/a.img bs=1M count=24 2>/dev/null; done; sync")?;
    let disks = "[\"/d/sda/a.img,raw,xvda,rw\", \"file:/d/nvme0n1/a.img,xvdb,w\", \"format=raw, vdev=xvdc, access=rw, target=/dev/vda\"]";
    Guest::linux("g").set("disk", disks).create(&mut lab)?;
    lab.guest_says("g", LINUX_READY, 120)?;
    for (disk, file) in [
        ("xvda", "/d/sda/a.img"),
        ("xvdb", "/d/nvme0n1/a.img"),
        ("xvdc", "/dev/vda"),
    ] {
        let said = in_guest(
            &mut lab,
            "g",
            &format!(
                "dd if=/dev/urandom of=/tmp/p bs=1M count=8 && dd if=/tmp/p of=/dev/{disk} bs=256k seek=4 conv=fsync && \
                 echo 3 > /proc/sys/vm/drop_caches && dd if=/dev/{disk} of=/tmp/q bs=64k skip=16 count=128 && cmp /tmp/p /tmp/q && md5sum /tmp/p"
            ),
            120,
        )?;
        let want = sum(&said)?.to_owned();
        let found = lab.sh_in(
            &format!("echo 3 > /proc/sys/vm/drop_caches; dd if={file} bs=64k skip=16 count=128 2>/dev/null | md5sum"),
            60,
        )?;
        ensure!(
            sum(&found)? == want,
            "{file}: dom0 sees {found}, the guest wrote {want}"
        );
    }
    features(&mut lab)?;
    lab.destroy("g")?;
    nothing_left(&mut lab)?;
    lab.finish()
}

/// Persistent grants, requests longer than eleven pages, flushes, discards.
fn features(lab: &mut Lab) -> Result<()> {
    let log = lab.sh("dmesg | grep xen-blkback")?;
    ensure!(log.matches("persistent grants").count() == 3, "{log}");
    let direct = lab.sh("cat /sys/block/loop*/loop/dio")?;
    ensure!(
        direct.split_whitespace().eq(["1", "1"]),
        "direct I/O of the two loop devices: {direct}"
    );
    let said = in_guest(lab, "g", "cat /sys/block/xvda/queue/max_segments", 30)?;
    let segments = said
        .split_whitespace()
        .filter_map(|word| word.parse::<u32>().ok());
    ensure!(segments.max() > Some(11), "no indirect requests: {said}");
    in_guest(lab, "g", "blkdiscard -o 1048576 -l 1048576 /dev/xvda", 60)?;
    let domain = lab.sh("xm domid g")?;
    let counts = lab.sh(&format!(
        "cd /sys/bus/xen-backend/devices/vbd-{domain}-51712/statistics && cat f_req ds_req; cd /root"
    ))?;
    let mut counts = counts.split_whitespace();
    ensure!(counts.next() != Some("0"), "no flush reached the back end");
    ensure!(
        counts.next() != Some("0"),
        "no discard reached the back end"
    );
    let zeros =
        lab.sh("dd if=/d/sda/a.img bs=1M skip=1 count=1 2>/dev/null | tr -d '\\0' | wc -c")?;
    ensure!(zeros.trim() == "0", "discarded blocks hold {zeros} bytes");
    Ok(())
}

#[test]
fn disks_come_and_go_while_the_guest_runs() -> Result<()> {
    let (mut lab, _directory) = lab_with_disks("disks_hot")?;
    lab.sh("for i in a b c; do dd if=/dev/zero of=/d/sda/$i.img bs=1M count=4 2>/dev/null; done")?;
    Guest::linux("g")
        .set(
            "disk",
            "[\"/d/sda/a.img,,xvda\", \",raw,xvdd,ro,devtype=cdrom\"]",
        )
        .create(&mut lab)?;
    lab.guest_says("g", LINUX_READY, 120)?;
    lab.sh_in("xm block-attach g phy:/d/sda/b.img xvdb w", 60)?;
    let list = lab.json("xm --json block-list g")?;
    let b = list
        .as_array()
        .and_then(|all| all.iter().find(|it| it["name"] == "xvdb"));
    let b = b.context("xvdb is not listed")?;
    ensure!(
        b["back_state"] == "connected" && b["front_state"] == "connected",
        "{b}"
    );
    in_guest(
        &mut lab,
        "g",
        "mke2fs -F /dev/xvdb >/dev/null 2>&1 && mount -t ext4 /dev/xvdb /mnt && echo hello > /mnt/f && sync",
        60,
    )?;
    refused(&mut lab)?;
    in_guest(&mut lab, "g", "cat /mnt/f && umount /mnt", 30)?;
    lab.sh_in("xm block-detach g xvdb", 60)?;
    in_guest(&mut lab, "g", "[ ! -e /sys/block/xvdb ]", 30)?;
    let text = lab.sh("mount -t ext4 -o loop,ro /d/sda/b.img /mnt && cat /mnt/f; umount /mnt")?;
    ensure!(text.contains("hello"), "dom0 finds {text:?} in the image");
    forced(&mut lab)?;
    unbound(&mut lab)?;
    media(&mut lab)?;
    killed(&mut lab)?;
    many(&mut lab)?;
    lab.destroy("g")?;
    nothing_left(&mut lab)?;
    lab.finish()
}

/// One line on standard error with the reason, and nothing changes.
fn fails(lab: &mut Lab, command: &str, reason: &str) -> Result<()> {
    let before = lab.sh("losetup -a; xm block-list")?;
    let outcome = lab.outcome(&format!("{command} 2>&1"), 60)?;
    ensure!(outcome.status == 1, "{command}: {outcome:?}");
    let lines = outcome.output.lines().filter(|line| !line.is_empty());
    ensure!(
        lines.count() == 1 && outcome.output.contains(reason),
        "{command}: {:?}",
        outcome.output
    );
    let after = lab.sh("losetup -a; xm block-list")?;
    ensure!(before == after, "{command} left: {after}\nafter: {before}");
    Ok(())
}

fn refused(lab: &mut Lab) -> Result<()> {
    lab.sh("dd if=/dev/zero of=/d/sda/cut.img bs=1000 count=1 2>/dev/null; : > /d/sda/empty.img; printf 'QFI\\373\\000\\000\\000\\003' > /d/sda/q.img; dd if=/dev/zero bs=1M count=1 2>/dev/null >> /d/sda/q.img")?;
    for (command, reason) in [
        ("xm block-detach g xvdb", "mounted"),
        ("xm block-attach g /d/sda/c.img,,xvdb", "already"),
        ("xm block-attach g /d/sda/none.img,,xvdc", "no such file"),
        ("xm block-attach g /d/sda/empty.img,,xvdc", "empty"),
        (
            "xm block-attach g /d/sda/c.img,qcow2,xvdc",
            "does not begin like a qcow2 image",
        ),
        ("xm block-attach g /d/sda/q.img,qcow2,xvdc", "qemu-nbd"),
        (
            "xm block-attach g /d/sda/b.img,,xvdc",
            "g writes it as xvdb",
        ),
        (
            "xm block-attach g /d/sda/b.img,,xvdc,r",
            "g writes it as xvdb",
        ),
        (
            "xm block-attach g phy:/dev/nvme0n1,xvdc,w",
            "dom0 itself uses it",
        ),
        (
            "xm block-attach g /d,,xvdc",
            "neither a file nor a block device",
        ),
        ("xm block-detach g xvdz", "no such device"),
        // The guest's driver refuses: its own disk has that number.
        ("xm block-attach g /d/sda/c.img,,hda", "busy"),
    ] {
        fails(lab, command, reason)?;
    }
    // What a guest wrote onto its raw disk neither stops it, nor is it advice.
    for (image, word) in [("cut", "cut off"), ("q", "begins like a qcow2 image")] {
        let said = lab.outcome(
            &format!("xm block-attach g /d/sda/{image}.img,,xvdc 2>&1"),
            60,
        )?;
        ensure!(
            said.status == 0 && said.output.contains(word),
            "{image}: {said:?}"
        );
        lab.sh_in("xm block-detach g xvdc", 60)?;
    }
    // A guest that cannot have its disk does not come to be.
    let path = Guest::linux("h")
        .set(
            "disk",
            "[\"/d/sda/c.img,,xvda\", \"/d/sda/none.img,,xvdb\"]",
        )
        .write(lab)?;
    fails(lab, &format!("xm create -q {path}"), "no such file")?;
    ensure!(lab.domain("h")?.is_none(), "h is there");
    Ok(())
}

/// Shared by request, read-only, and taken away in spite of being mounted.
fn forced(lab: &mut Lab) -> Result<()> {
    lab.sh_in("xm block-attach g file:/d/sda/a.img xvdc w!", 60)?;
    lab.sh_in("xm block-detach g xvdc", 60)?;
    lab.sh_in(
        "xm block-attach g file:/d/sda/b.img xvdb r && xm block-attach g file:/d/sda/b.img xvdc r",
        60,
    )?;
    in_guest(
        lab,
        "g",
        "[ $(cat /sys/block/xvdb/ro) = 1 ] && ! dd if=/dev/zero of=/dev/xvdb count=1",
        30,
    )?;
    lab.sh_in("xm block-detach g xvdb && xm block-detach g xvdc", 60)?;
    for round in 0..3 {
        taken_away(lab, round)?;
    }
    Ok(())
}

/// The guest has written what is not yet on the disk; it gets errors then, and goes on.
fn taken_away(lab: &mut Lab, round: u32) -> Result<()> {
    lab.sh_in("xm block-attach g file:/d/sda/b.img xvdb w", 60)?;
    in_guest(
        lab,
        "g",
        &format!("mount -t ext4 /dev/xvdb /mnt && echo {round} > /mnt/new"),
        30,
    )?;
    lab.sh_in("xm block-detach --force g xvdb", 60)?;
    in_guest(
        lab,
        "g",
        "umount -l /mnt; while [ -e /sys/block/xvdb ]; do sleep 0.1; done",
        60,
    )?;
    Ok(())
}

/// A guest whose driver lets go of a disk and takes it again has it back, as it was.
fn unbound(lab: &mut Lab) -> Result<()> {
    lab.sh_in("xm block-attach g file:/d/sda/b.img xvdb w", 60)?;
    for pause in ["0", "6"] {
        in_guest(
            lab,
            "g",
            &format!(
                "dd if=/dev/urandom of=/tmp/u bs=64k count=4 && dd if=/tmp/u of=/dev/xvdb bs=64k conv=fsync && \
                 cd /sys/bus/xen/drivers/vbd && echo vbd-51728 > unbind && [ ! -e /sys/block/xvdb ] && sleep {pause} && \
                 echo vbd-51728 > bind; cd /; until [ -b /dev/xvdb ] && dd if=/dev/xvdb of=/tmp/v bs=64k count=4; do sleep 0.2; done; \
                 cmp /tmp/u /tmp/v"
            ),
            60,
        )?;
    }
    lab.sh_in("xm block-detach g xvdb", 60)?;
    // One that stays unbound can be taken away at once.
    lab.sh_in("xm block-attach g file:/d/sda/b.img xvdb w", 60)?;
    in_guest(
        lab,
        "g",
        "echo vbd-51728 > /sys/bus/xen/drivers/vbd/unbind; sleep 6",
        60,
    )?;
    lab.sh_in("xm block-detach g xvdb", 20).map(drop)
}

fn media(lab: &mut Lab) -> Result<()> {
    in_guest(lab, "g", "[ ! -e /sys/block/xvdd ]", 30)?;
    fails(lab, "xm block-attach g /d/sda/c.img,,xvdd", "already")?;
    lab.sh_in("xm cd-insert g xvdd /d/sda/c.img", 60)?;
    in_guest(
        lab,
        "g",
        "[ $(cat /sys/block/xvdd/ro) = 1 ] && dd if=/dev/xvdd of=/dev/null",
        30,
    )?;
    lab.sh_in("xm cd-eject g xvdd", 60)?;
    in_guest(lab, "g", "[ ! -e /sys/block/xvdd ]", 30)?;
    fails(lab, "xm cd-insert g xvdd /d/sda/none.img", "no such file")?;
    fails(lab, "xm cd-eject g xvda", "no CD drive")
}

/// A kill of xmd at any moment of an attach leaves the disk whole or gone.
fn killed(lab: &mut Lab) -> Result<()> {
    for delay in ["0.02", "0.1", "0.3"] {
        lab.outcome(
            &format!("(xm block-attach g file:/d/sda/c.img xvdc w >/dev/null 2>&1 &); sleep {delay}; kill -9 $(pidof xmd)"),
            30,
        )?;
        lab.until("xm --json block-list g >/dev/null && pidof xmd && [ -S /run/xen/xmd.sock ] && xm log -n 1", 30)?;
        let list = lab.json("xm --json block-list g")?;
        let found = list
            .as_array()
            .and_then(|all| all.iter().find(|it| it["name"] == "xvdc").cloned());
        let loops = lab.sh("losetup -a | grep -c c.img; true")?;
        match found {
            Some(_) => {
                in_guest(
                    lab,
                    "g",
                    "until [ -b /dev/xvdc ]; do sleep 0.1; done; dd if=/dev/xvdc of=/dev/null count=1",
                    30,
                )?;
                lab.sh_in("xm block-detach g xvdc", 60)?;
            }
            None => ensure!(
                loops.trim() == "0",
                "after {delay} s: {loops} loop devices, no disk"
            ),
        }
        lab.until("! losetup -a | grep -q c.img", 20)?;
    }
    Ok(())
}

/// Sixteen disks, one of them the drive without a disc, which is in the configuration only.
fn many(lab: &mut Lab) -> Result<()> {
    lab.sh_in(
        "for n in e f g h i j k l m n o p q r; do dd if=/dev/zero of=/d/nvme0n1/$n.img bs=64k count=1 2>/dev/null; xm block-attach g file:/d/nvme0n1/$n.img xvd$n w || exit 1; done",
        180,
    )?;
    in_guest(lab, "g", "[ $(ls -d /sys/block/xvd* | wc -l) = 15 ]", 30)?;
    let list = lab.json("xm --json block-list g")?;
    ensure!(list.as_array().map(Vec::len) == Some(15), "{list}");
    fails(
        lab,
        "xm block-attach g /d/sda/c.img,,xvds",
        "16 are the most",
    )
}

#[test]
fn hostile_guests_leave_nothing() -> Result<()> {
    hostile(4)
}

#[test]
#[ignore = "a hundred rounds take some minutes: for ./x soak"]
fn soak_io_disks_hostile() -> Result<()> {
    hostile(100)
}

/// Guests that send nonsense, revoke what they granted, and die in the middle, beside one that goes
/// on.
fn hostile(rounds: u32) -> Result<()> {
    let life = 900 + u64::from(rounds) * 60;
    let (mut lab, _directory) = lab_with_disks_for("disks_hostile", life)?;
    lab.sh("for i in a b c; do dd if=/dev/zero of=/d/sda/$i.img bs=1M count=4 2>/dev/null; done")?;
    Guest::linux("n")
        .set("disk", "[\"/d/sda/b.img,,xvda\"]")
        .create(&mut lab)?;
    lab.guest_says("n", LINUX_READY, 120)?;
    // dom0's table of mappings grows to the most that were ever in use at once: two busy guests
    // take more than one after another does.
    let warm = [("t", "a"), ("u", "c")];
    for (name, image) in warm {
        attack(name, "vbd-busy", 1000, image).create(&mut lab)?;
    }
    for (name, _) in warm {
        lab.guest_says(name, "READY", 90)?;
    }
    for (name, _) in warm {
        lab.destroy(name)?;
    }
    one(&mut lab, 0)?;
    let before = settled(&mut lab)?;
    for round in 1..=rounds {
        one(&mut lab, round)?;
        others_are_gone(&mut lab)?;
        let loops = lab.sh("losetup -a | wc -l")?;
        ensure!(loops.trim() == "1", "round {round}: {loops} loop devices");
    }
    let after = settled(&mut lab)?;
    before.same(&after)?;
    in_guest(
        &mut lab,
        "n",
        "dd if=/dev/urandom of=/tmp/p bs=64k count=16 && dd if=/tmp/p of=/dev/xvda bs=64k conv=fsync && echo 3 > /proc/sys/vm/drop_caches && dd if=/dev/xvda of=/tmp/q bs=64k count=16 && cmp /tmp/p /tmp/q",
        60,
    )?;
    lab.destroy("n")?;
    nothing_left(&mut lab)?;
    lab.finish()
}

fn attack(name: &str, test: &str, seed: u32, image: &str) -> Guest {
    Guest::test(name, &format!("test={test} seed={seed} seconds=1"))
        .set("disk", &format!("[\"/d/sda/{image}.img,,xvda\"]"))
}

/// The neighbour's disk is the only one.
fn others_are_gone(lab: &mut Lab) -> Result<()> {
    lab.until(
        "[ $(ls /sys/bus/xen-backend/devices | grep -c vbd) = 1 ]",
        30,
    )
    .map(drop)
}

/// The totals once nothing of the last guest is on its way out.
fn settled(lab: &mut Lab) -> Result<Totals> {
    others_are_gone(lab)?;
    lab.until("[ $(xm --json list | grep -c '\"domain\"') = 2 ]", 20)?;
    lab.sh("sleep 1")?;
    lab.totals()
}

fn one(lab: &mut Lab, round: u32) -> Result<()> {
    let (test, wait) = match round % 2 {
        0 => ("vbd-hostile", "PASS"),
        _ => ("vbd-busy", "READY"),
    };
    attack("t", test, round, "a").create(lab)?;
    lab.guest_says("t", wait, 90)?;
    lab.destroy("t")
}
