//! The command lines that README.md and docs/ show, run as they stand there (`oxen_harness::shown`
//! has the list).

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use oxen_harness::images;
use oxen_harness::shown::{self, How};
use oxen_harness::{Nic, NicModel};
use system_tests::{LINUX_READY, Lab, plain, turn};

/// Those for the host, one machine after another.
#[test]
#[ignore = "minutes: a machine for each line; ./x soak shown"]
fn soak_shown_on_the_host() -> Result<()> {
    let _turn = turn::alone();
    for line in shown::shown()? {
        let Some(How::Host(more)) = shown::how(&line) else {
            continue;
        };
        let command = format!("{line}{more}");
        println!("{command}");
        let status = Command::new("sh")
            .args(["-c", &format!("timeout 900 {command}")])
            .current_dir(images::root())
            .stdin(Stdio::null())
            .status()
            .context("no shell")?;
        ensure!(status.success(), "{command}: {status}");
    }
    Ok(())
}

/// Those for dom0, at one prompt, in the order of the list.
#[test]
#[ignore = "minutes: a dozen guests; ./x soak shown"]
fn soak_shown_in_dom0() -> Result<()> {
    let mut machine = plain()?;
    machine.nics = vec![Nic::new(NicModel::Virtio)];
    let mut lab = Lab::start_for(&machine, "shown", 1800)?;
    let shown = shown::shown()?;
    let listed = shown::LIST.iter().map(|(line, _)| *line);
    let others = shown.iter().map(String::as_str);
    let others = others.filter(|line| !shown::LIST.iter().any(|(text, _)| text == line));
    for line in listed.chain(others) {
        match shown::how(line) {
            Some(How::Dom0(before)) => {
                println!("{line}");
                if !before.is_empty() {
                    lab.sh_in(before, 180)?;
                }
                lab.sh_in(line, 180)
                    .with_context(|| format!("{line:?} of the text failed"))?;
            }
            Some(How::Console(before)) => {
                println!("{line}");
                lab.sh_in(before, 60)?;
                at_the_console(&mut lab, line)?;
            }
            _ => {}
        }
    }
    lab.sh_in("xm destroy demo; xm destroy big; true", 60)?;
    lab.finish()
}

/// A command that ends at the guest's console.
fn at_the_console(lab: &mut Lab, line: &str) -> Result<()> {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(240);
    lab.vm.send(&format!("{line}\n"))?;
    lab.vm.expect(LINUX_READY, LIMIT)?;
    lab.vm.send("\x1d")?;
    lab.vm.send("\n")?;
    lab.sh("true").map(drop)
}
