//! A gigabyte through each of dom0's disk drivers, by fio with its own checks: `./x soak io`.

use anyhow::{Context, Result, ensure};
use oxen_harness::{Disk, DiskBus};
use system_tests::{Guest, LINUX_READY, Lab, machine, with_tools};

/// Each disk's size; a file system of that size holds an image of [`IMAGE_MIB`].
const DISK_MIB: u64 = 1280;
const IMAGE_MIB: u64 = 1024;
const LIFE: u64 = 3600;

/// dom0's disk, what it is given to the guest as, and under which name.
struct Way {
    host: &'static str,
    bus: DiskBus,
    disk: &'static str,
    /// What dom0 reads it by.
    file: &'static str,
    name: &'static str,
    number: u32,
}

const WAYS: [Way; 3] = [
    Way {
        host: "sda",
        bus: DiskBus::Ahci,
        disk: "phy:/dev/sda,xvda,w",
        file: "/dev/sda",
        name: "xvda",
        number: 51712,
    },
    Way {
        host: "nvme0n1",
        bus: DiskBus::Nvme,
        disk: "phy:/dev/nvme0n1,xvdb,w",
        file: "/dev/nvme0n1",
        name: "xvdb",
        number: 51728,
    },
    Way {
        host: "vda",
        bus: DiskBus::Virtio,
        disk: "file:/d/a.img,xvdc,w",
        file: "/d/a.img",
        name: "xvdc",
        number: 51744,
    },
];

#[test]
#[ignore = "three gigabytes written, checked and summed on both sides: takes many minutes"]
fn soak_io_verify() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut machine = machine("dom0_mem=1G", "")?;
    with_tools(&mut machine)?;
    for way in &WAYS {
        let file = directory.path().join(way.host);
        std::fs::File::create(&file)?.set_len(DISK_MIB << 20)?;
        machine.disks.push(Disk::new(file, way.bus));
    }
    let mut lab = Lab::start_for(&machine, "io-verify", LIFE)?;
    lab.prepare_tools()?;
    for way in &WAYS {
        lab.until(&format!("[ -b /dev/{} ]", way.host), 20)?;
    }
    lab.sh_in(
        &format!("mkdir /d && mke2fs -F /dev/vda >/dev/null 2>&1 && mount -t ext4 /dev/vda /d && truncate -s {IMAGE_MIB}M /d/a.img"),
        120,
    )?;
    let disks = WAYS.map(|way| format!("\"{}\"", way.disk)).join(", ");
    Guest::with_tools("g")
        .set("disk", &format!("[{disks}]"))
        .create(&mut lab)?;
    lab.guest_says("g", LINUX_READY, 180)?;
    let log = lab.sh("dmesg | grep xen-blkback")?;
    ensure!(log.matches("persistent grants").count() == 3, "{log}");
    for way in &WAYS {
        verify(&mut lab, way).with_context(|| format!("{} as {}", way.host, way.name))?;
    }
    lab.in_guest(
        "g",
        "! dmesg | grep -E \"WARNING:|BUG:|Call Trace|Oops|I/O error|hung task\"",
        30,
    )?;
    lab.destroy("g")?;
    lab.until(
        "[ -z \"$(ls /sys/bus/xen-backend/devices | grep vbd)\" ] && [ -z \"$(losetup -a)\" ]",
        60,
    )?;
    lab.finish()
}

fn verify(lab: &mut Lab, way: &Way) -> Result<()> {
    let name = way.name;
    lab.in_guest(
        "g",
        &format!("[ $(cat /sys/block/{name}/queue/max_segments) -gt 11 ]"),
        30,
    )
    .context("no indirect requests")?;
    // Each block once, in random order, in sizes from a page to beyond the longest request; flushes between.
    let said = lab.in_guest(
        "g",
        &format!(
            "fio --name=verify --filename=/dev/{name} --size={IMAGE_MIB}m --rw=randwrite --bsrange=4k-1m --blockalign=4k \
             --ioengine=libaio --iodepth=16 --direct=1 --thread --fsync=256 --end_fsync=1 --verify=crc32c --do_verify=1 \
             --verify_fatal=1 --verify_state_save=0 --allow_mounted_write=1 | grep -E \"err=|READ:|WRITE:|verify:\""
        ),
        1200,
    )?;
    ensure!(
        said.contains("err= 0") && said.contains("READ:"),
        "fio: {said}"
    );
    println!("{} as {name}:\n{said}", way.host);
    same_on_both_sides(lab, way)?;
    let statistics = format!(
        "cd /sys/bus/xen-backend/devices/vbd-$(xm domid g)-{}/statistics && echo counts $(cat f_req ds_req); cd /root",
        way.number
    );
    let discards = lab
        .in_guest(
            "g",
            &format!("[ $(cat /sys/block/{name}/queue/discard_max_bytes) -gt 0 ]"),
            30,
        )
        .is_ok();
    if discards {
        lab.in_guest(
            "g",
            &format!("blkdiscard -o 67108864 -l 67108864 /dev/{name} && sync"),
            120,
        )?;
        same_on_both_sides(lab, way)?;
    }
    println!("{} as {name}: discards {discards}", way.host);
    let counts = lab.sh(&statistics)?;
    let mut counts = counts.split_whitespace().skip(1);
    ensure!(counts.next() != Some("0"), "no flush reached the back end");
    ensure!(
        !discards || counts.next() != Some("0"),
        "no discard reached the back end"
    );
    Ok(())
}

/// What the guest reads is what dom0 reads, neither from a cache.
fn same_on_both_sides(lab: &mut Lab, way: &Way) -> Result<()> {
    let read = |file: &str| {
        format!(
            "echo 3 > /proc/sys/vm/drop_caches; echo sum $(dd if={file} bs=1M count={IMAGE_MIB} 2>/dev/null | md5sum)"
        )
    };
    let guest = lab.in_guest("g", &read(&format!("/dev/{}", way.name)), 1800)?;
    let dom0 = lab.sh_in(&read(way.file), 1800)?;
    ensure!(
        sum(&guest)? == sum(&dom0)?,
        "the guest reads {guest}, dom0 {dom0}"
    );
    Ok(())
}

fn sum(text: &str) -> Result<&str> {
    text.split_whitespace()
        .find(|word| word.len() == 32 && word.bytes().all(|c| c.is_ascii_hexdigit()))
        .with_context(|| format!("no sum in {text:?}"))
}
