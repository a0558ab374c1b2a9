//! Oxen starts by each of GRUB's ways, from BIOS and UEFI, with few and more CPUs, with little and much
//! memory for dom0; and neither log has anything to complain of.

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use system_tests::BAD_LINES;
use system_tests::runner::run;

const SCRIPT: &str = "nproc; grep MemTotal /proc/meminfo; cat /sys/hypervisor/type; dmesg | grep -c 'Xen PVH'; \
    echo --; dmesg | grep -E 'WARNING:|BUG|unchecked MSR|lost interrupt|nobody cared|self-detected stall|Call Trace'; \
    echo --; xm info; xm list";

struct Row<'a> {
    options: &'a [&'a str],
    cpus: u32,
    dom0_mib: u64,
}

fn check(row: &Row<'_>) -> Result<()> {
    let cpus = row.cpus.to_string();
    let dom0 = format!("{}M", row.dom0_mib);
    let machine = format!("{}M", row.dom0_mib + 1024);
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
        dom0_mib: 512,
    })
}

#[test]
fn bios_multiboot1_compressed_two_cpus() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot1-gz"],
        cpus: 2,
        dom0_mib: 1024,
    })
}

#[test]
fn uefi_multiboot2_compressed_four_cpus_3g() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot2-gz", "--uefi"],
        cpus: 4,
        dom0_mib: 3072,
    })
}

#[test]
fn uefi_multiboot1_two_cpus_2g() -> Result<()> {
    check(&Row {
        options: &["--entry", "multiboot1", "--uefi"],
        cpus: 2,
        dom0_mib: 2048,
    })
}
