//! Log-dirty mode: what a guest wrote since the last look, by its own CPUs and through the
//! hypervisor, is what the bitmap says, page by page.

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use system_tests::{Guest, Lab, plain};

/// The guest's region is the bitmap's end: gfns 0x1000 to 0x2000.
const PAGES: u32 = 0x2000;
const DIGITS: &str = "1025-2048";

#[test]
fn the_bitmap_is_what_the_guest_wrote() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "log-dirty")?;
    let before = lab.totals_after_a_guest()?;
    // Nested paging, and shadows.
    for hap in ["1", "0"] {
        for vcpus in [1, 4] {
            guest(&mut lab, hap, vcpus).with_context(|| format!("hap={hap}, {vcpus} vcpus"))?;
        }
    }
    let after = lab.totals()?;
    ensure!(
        after.free_frames == before.free_frames && after.store == before.store,
        "{before:?} became {after:?}"
    );
    lab.finish()
}

fn guest(lab: &mut Lab, hap: &str, vcpus: u32) -> Result<()> {
    let name = Guest::test("dirty", "test=dirty")
        .set("memory", "64")
        .set("vcpus", &vcpus.to_string())
        .set("hap", hap)
        .create(lab)?;
    lab.guest_says(&name, &format!("READY cpus={vcpus}"), 30)?;
    lab.sh(&format!("xm log-dirty on {name}"))?;
    let again = lab.outcome(&format!("xm log-dirty on {name}"), 30)?;
    ensure!(again.status != 0, "it is on already");
    round(lab, &name, 1)?;
    // Off and on again, in the middle of its life.
    lab.sh(&format!("xm log-dirty off {name}"))?;
    write(lab, &name, 5)?;
    let clean = bitmap(lab, &name, "peek")?;
    ensure!(clean.chars().all(|digit| digit == '0'));
    lab.sh(&format!("xm log-dirty on {name}"))?;
    round(lab, &name, 6)?;
    let check = "xm console --send 'check\\n' --expect '(PASS|FAIL) dirty' --timeout 30 dirty";
    lab.sh_in(check, 60)?;
    ensure!(lab.guest_log(&name)?.contains("PASS dirty wrong=0"));
    lab.destroy(&name)?;
    lab.sh(&format!("rm -f /var/log/xen/console/guest-{name}.log*"))?;
    Ok(())
}

fn round(lab: &mut Lab, name: &str, seed: u32) -> Result<()> {
    // Whatever was written until now; the clock's areas are written all the time.
    bitmap(lab, name, "clean")?;
    let wrote = write(lab, name, seed)?;
    let peeked = bitmap(lab, name, "peek")?;
    let cleaned = bitmap(lab, name, "clean")?;
    ensure!(
        peeked == wrote,
        "seed {seed}: the guest wrote\n{wrote}\nthe bitmap says\n{peeked}"
    );
    ensure!(
        cleaned == wrote,
        "seed {seed}: peeking changed\n{wrote}\nto\n{cleaned}"
    );
    Ok(())
}

/// Has the guest write pages; the region's bitmap as the guest says.
fn write(lab: &mut Lab, name: &str, seed: u32) -> Result<String> {
    lab.sh_in(
        &format!(
            "xm console --send 'write {seed}\\n' --expect 'WROTE seed={seed} ' --timeout 60 {name}"
        ),
        90,
    )?;
    let log = lab.guest_log(name)?;
    let lines: Vec<_> = Regex::new(r"MAP \d ([0-9a-f]{128})")?
        .captures_iter(&log)
        .map(|found| found[1].to_owned())
        .collect();
    ensure!(lines.len() >= 8, "it printed:\n{log}");
    Ok(lines[lines.len() - 8..].concat())
}

/// The region's bitmap as the hypervisor says.
fn bitmap(lab: &mut Lab, name: &str, how: &str) -> Result<String> {
    let found = lab.sh(&format!(
        "xm --json log-dirty {how} {name} --pages {PAGES} | grep -o '\"bitmap\": *\"[0-9a-f]*' | sed 's/.*\"//' | cut -c{DIGITS}"
    ))?;
    Ok(found.trim().to_owned())
}
