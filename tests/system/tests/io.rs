//! A gigabyte through each of dom0's disk drivers, by fio with its own checks: `./x soak io`.

use anyhow::{Context, Result, ensure};
use oxen_harness::{Disk, DiskBus};
use system_tests::{Guest, LINUX_READY, Lab, machine, with_tools};

/// Each disk's size; a file system of that size holds an image of [`IMAGE_MIB`].
const DISK_MIB: u64 = 1280;
const IMAGE_MIB: u64 = 1024;
/// Where a discard begins, and how long it is.
const HOLE_MIB: u64 = 64;
/// A gigabyte written and read by fio.
const PASS: u64 = 1200;
const LIFE: u64 = 3600;

/// dom0's disk, what it is given to the guest as, and under which name.
struct Way {
    host: &'static str,
    bus: DiskBus,
    disk: &'static str,
    /// The file by which dom0 reads the disk.
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
#[ignore = "three gigabytes written, and checked on both sides: takes many minutes"]
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

/// The work that fio writes and checks: each block once, in random order, in sizes from a page to
/// beyond the longest request, with flushes between. Each block holds its own offset and checksum.
fn job(file: &str, more: &str) -> String {
    format!(
        "fio --name=verify --filename={file} --size={IMAGE_MIB}m --rw=randwrite --bsrange=4k-1m --blockalign=4k \
         --ioengine=libaio --iodepth=16 --direct=1 --thread --fsync=256 --verify=crc32c --verify_fatal=1 \
         --verify_state_save=0 --allow_mounted_write=1 {more} | grep -E \"err=|READ:|WRITE:|verify:\""
    )
}

/// fio has read all that the job wrote.
fn passed(said: &str) -> Result<()> {
    ensure!(
        said.contains("err= 0") && said.contains("READ:") && !said.contains("failed"),
        "fio: {said}"
    );
    Ok(())
}

fn verify(lab: &mut Lab, way: &Way) -> Result<()> {
    let name = way.name;
    lab.in_guest(
        "g",
        &format!("[ $(cat /sys/block/{name}/queue/max_segments) -gt 11 ]"),
        30,
    )
    .context("no indirect requests")?;
    let device = format!("/dev/{name}");
    let said = lab.in_guest("g", &job(&device, "--end_fsync=1 --do_verify=1"), PASS)?;
    passed(&said)?;
    println!("{} as {name}:\n{said}", way.host);
    // dom0 makes the same job's blocks up again, and finds them on its own disk.
    let said = lab.sh_in(&job(way.file, "--verify_only"), PASS)?;
    passed(&said).context("dom0")?;
    println!("{} in dom0:\n{said}", way.host);
    let discards = lab
        .in_guest(
            "g",
            &format!("[ $(cat /sys/block/{name}/queue/discard_max_bytes) -gt 0 ]"),
            30,
        )
        .is_ok();
    if discards {
        discard(lab, way)?;
    }
    println!("{} as {name}: discards {discards}", way.host);
    let counts = lab.sh(&format!(
        "cd /sys/bus/xen-backend/devices/vbd-$(xm domid g)-{}/statistics && echo counts $(cat f_req ds_req); cd /root",
        way.number
    ))?;
    let mut counts = counts.split_whitespace().skip(1);
    ensure!(counts.next() != Some("0"), "no flush reached the back end");
    ensure!(
        !discards || counts.next() != Some("0"),
        "no discard reached the back end"
    );
    Ok(())
}

/// A discarded range is discarded on both sides, and nothing beside it.
fn discard(lab: &mut Lab, way: &Way) -> Result<()> {
    let around = [(HOLE_MIB - 8, 8), (HOLE_MIB, HOLE_MIB), (2 * HOLE_MIB, 8)];
    let mut before = Vec::new();
    for (at, len) in around {
        before.push(same_on_both_sides(lab, way, at, len)?);
    }
    lab.in_guest(
        "g",
        &format!(
            "blkdiscard -o $(({HOLE_MIB} << 20)) -l $(({HOLE_MIB} << 20)) /dev/{} && sync",
            way.name
        ),
        120,
    )?;
    for (part, (at, len)) in around.into_iter().enumerate() {
        let after = same_on_both_sides(lab, way, at, len)?;
        let kept = before.get(part) == Some(&after);
        ensure!(
            kept == (at != HOLE_MIB),
            "{len} MiB at {at}: {before:?} before the discard, {after} then"
        );
    }
    Ok(())
}

/// Checks that guest and dom0 read the same there, neither from a cache. Returns the checksum.
fn same_on_both_sides(lab: &mut Lab, way: &Way, at: u64, mib: u64) -> Result<String> {
    let read = |file: &str| {
        format!(
            "echo 3 > /proc/sys/vm/drop_caches; echo sum $(dd if={file} bs=1M skip={at} count={mib} 2>/dev/null | md5sum)"
        )
    };
    let guest = lab.in_guest("g", &read(&format!("/dev/{}", way.name)), 300)?;
    let dom0 = lab.sh_in(&read(way.file), 300)?;
    let sum_of = sum(&guest)?;
    ensure!(
        sum_of == sum(&dom0)?,
        "the guest reads {guest}, dom0 {dom0}"
    );
    Ok(sum_of.to_owned())
}

fn sum(text: &str) -> Result<&str> {
    text.split_whitespace()
        .find(|word| word.len() == 32 && word.bytes().all(|c| c.is_ascii_hexdigit()))
        .with_context(|| format!("no sum in {text:?}"))
}
