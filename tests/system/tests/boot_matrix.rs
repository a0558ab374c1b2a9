//! Oxen starts by each of GRUB's ways, from BIOS and UEFI, with few and more CPUs, with dom0 on
//! less memory than lies below 4 GiB, on exactly that, on more, and on nearly all; and neither log
//! has anything to complain of.

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use system_tests::BAD_LINES;
use system_tests::runner::run;

const SCRIPT: &str = "nproc; grep MemTotal /proc/meminfo; cat /sys/hypervisor/type; \
    ls /sys/bus/pci/devices | wc -l; dmesg | grep -c 'Xen PVH'; \
    echo --; dmesg | grep -E 'WARNING:|BUG|unchecked MSR|lost interrupt|nobody cared|self-detected stall|Call Trace'; \
    echo --; xm info; xm list";

struct Row<'a> {
    options: &'a [&'a str],
    cpus: u32,
    mib: u64,
    dom0_mib: u64,
}

/// QEMU's machine of more than 2.75 GiB has so much of it below 4 GiB.
const LOW: u64 = 2048;
/// MiB that the hypervisor keeps: tables, the unpacked kernel, dom0's modules.
const KEPT: u64 = 200;

fn check(row: &Row<'_>) -> Result<()> {
    let cpus = row.cpus.to_string();
    let dom0 = format!("{}M", row.dom0_mib);
    let machine = format!("{}M", row.mib);
    let mut options = vec!["--cpus", &cpus, "--dom0-mem", &dom0, "--mem", &machine];
    options.extend(row.options);
    let run = run(&options, SCRIPT, 240)?;
    let tail = || {
        run.console
            .lines()
            .rev()
            .take(40)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
            .join("\n")
    };
    ensure!(
        run.status == 0,
        "status {}:\n{}\n{}",
        run.status,
        run.output,
        tail()
    );
    let parts: Vec<_> = run.output.split("--\n").collect();
    ensure!(parts.len() == 3, "unexpected output:\n{}", run.output);
    let facts: Vec<_> = parts[0].lines().collect();
    ensure!(
        facts.first() == Some(&cpus.as_str()),
        "dom0 has other CPUs: {facts:?}"
    );
    let total: u64 = Regex::new(r"MemTotal:\s+(\d+) kB")?
        .captures(parts[0])
        .context("no MemTotal")?[1]
        .parse()?;
    // The kernel keeps some for itself; with little memory that is relatively much.
    let given = row.dom0_mib * 1024;
    ensure!(
        total <= given && total >= given - given / 8 - 80 * 1024,
        "dom0 has {total} KiB of {given}"
    );
    ensure!(facts.get(2) == Some(&"xen"), "{facts:?}");
    let devices: u32 = facts.get(3).context("no count of devices")?.parse()?;
    ensure!(devices >= 4, "{devices} PCI devices");
    ensure!(parts[1].is_empty(), "dom0's log: {}", parts[1]);
    ensure!(parts[2].contains("Domain-0"), "xm list: {}", parts[2]);
    let bad = Regex::new(BAD_LINES)?;
    let line = run
        .console
        .lines()
        // GRUB on UEFI warns of the missing video mode that multiboot 1 could ask for.
        .filter(|line| !line.contains("no console will be available to OS"))
        .find(|line| bad.is_match(line) && !line.contains("dmesg"));
    ensure!(line.is_none(), "the console holds: {line:?}");
    let complaint = Regex::new(r"\(OXEN\) \[[ 0-9.]*\] (error|warning): ")?;
    let line = run.console.lines().find(|line| complaint.is_match(line));
    ensure!(line.is_none(), "the hypervisor complains: {line:?}");
    // Each option is named in the log.
    ensure!(
        run.console.contains(&format!("dom0_mem={dom0}")),
        "the command line is not in the log"
    );
    Ok(())
}

#[test]
fn bios_multiboot2_one_cpu_512m() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot2"],
        cpus: 1,
        mib: 4096,
        dom0_mib: 512,
    })
}

#[test]
fn bios_multiboot1_compressed_two_cpus_all_low_memory() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot1-gz"],
        cpus: 2,
        mib: 2 * LOW,
        dom0_mib: LOW,
    })
}

#[test]
fn bios_multiboot2_compressed_four_cpus_more_than_low_memory() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot2-gz"],
        cpus: 4,
        mib: 5120,
        dom0_mib: LOW + 1024,
    })
}

#[test]
fn bios_multiboot1_two_cpus_nearly_all() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot1"],
        cpus: 2,
        mib: 4096,
        dom0_mib: 4096 - KEPT,
    })
}

#[test]
fn uefi_multiboot2_one_cpu_512m() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot2", "--uefi"],
        cpus: 1,
        mib: 4096,
        dom0_mib: 512,
    })
}

#[test]
fn uefi_multiboot1_two_cpus_all_low_memory() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot1", "--uefi"],
        cpus: 2,
        mib: LOW + 1024,
        dom0_mib: LOW,
    })
}

#[test]
fn uefi_multiboot2_compressed_four_cpus_more_than_low_memory() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot2-gz", "--uefi"],
        cpus: 4,
        mib: 4096,
        dom0_mib: LOW + 1024,
    })
}

#[test]
fn uefi_multiboot1_compressed_two_cpus_nearly_all() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot1-gz", "--uefi"],
        cpus: 2,
        mib: 4096,
        dom0_mib: 4096 - KEPT - 50,
    })
}

/// As many CPUs as the largest servers of our time have cores in one socket: all of them start, and
/// dom0 with some of them, then with a vcpu on each.
#[test]
#[ignore = "long: 64 CPUs on one thread of the emulator; ./x soak sixty"]
fn soak_sixty_four_cpus() -> Result<()> {
    const CPUS: &str = "64";
    for vcpus in ["2", CPUS] {
        let options = [
            "--cpus",
            CPUS,
            "--dom0-cpus",
            vcpus,
            "--mem",
            "6G",
            "--dom0-mem",
            "3G",
            "--small",
        ];
        let script = "nproc; xm info | grep nr_cpus; xm debug-keys q; xm dmesg | grep -cE ' (error|warning): '";
        let run = run(&options, script, 1800)?;
        let facts: Vec<_> = run.output.split_whitespace().collect();
        ensure!(
            facts == [vcpus, "nr_cpus", ":", CPUS, "0"],
            "status {}: {}",
            run.status,
            run.output
        );
    }
    Ok(())
}
