//! Every mistake gives one clear line, a status that is not 0, and leaves nothing behind: no
//! domain, no node of the store, no page.

use anyhow::{Result, ensure};
use system_tests::{Guest, Lab, plain};

/// Each mistake: its name, the configuration's changes, and the words of the error line.
fn mistakes() -> Vec<(&'static str, Guest, &'static str)> {
    let good = || Guest::test("bad", "test=hello");
    let kernel = |path: &str| good().set("kernel", &format!("\"{path}\""));
    vec![
        ("missing kernel", kernel("/boot/nothing"), "/boot/nothing"),
        ("truncated kernel", kernel("/tmp/truncated"), "truncated"),
        (
            "truncated bzImage",
            kernel("/tmp/short-vmlinuz"),
            "short-vmlinuz",
        ),
        ("not a kernel", kernel("/etc/passwd"), "passwd"),
        ("no note", kernel("/bin/busybox"), "busybox"),
        (
            "missing ramdisk",
            good().set("ramdisk", "\"/boot/nothing\""),
            "/boot/nothing",
        ),
        ("too much memory", good().set("memory", "999999"), "memory"),
        ("too little memory", good().set("memory", "1"), "memory"),
        ("too many vcpus", good().set("vcpus", "4000"), "vcpus"),
        (
            "name in use",
            good().set("name", "\"neighbour\""),
            "neighbour",
        ),
        (
            "dom0's name",
            good().set("name", "\"Domain-0\""),
            "Domain-0",
        ),
        ("syntax", good().set("vcpus", "= ="), "bad.cfg:"),
        ("unknown key", good().set("memroy", "64"), "memroy"),
        ("wrong type", good().set("memory", "\"much\""), "memory"),
        ("not pvh", good().set("type", "\"floppy\""), "type"),
    ]
}

#[test]
fn mistakes_are_told_in_one_line_and_leave_nothing() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "bad-input")?;
    lab.sh("head -c 3000 /boot/test-guest > /tmp/truncated; head -c 900000 /boot/vmlinuz > /tmp/short-vmlinuz")?;
    Guest::test("neighbour", "test=echo").create(&mut lab)?;
    lab.guest_says("neighbour", "READY", 20)?;
    let before = lab.totals()?;
    let mut faults = Vec::new();
    for (what, guest, word) in mistakes() {
        let path = guest.write(&mut lab)?;
        let outcome = lab.outcome(&format!("xm create -q {path}"), 60)?;
        let text = outcome.output.trim();
        let errors = text.lines().filter(|line| !line.contains("warning:"));
        if outcome.status == 0 || !text.contains(word) || errors.count() > 3 {
            faults.push(format!(
                "{what}: status {}, printed:\n{text}",
                outcome.status
            ));
        }
        if lab.domains()?.len() != 2 {
            faults.push(format!("{what}: a domain is left"));
        }
    }
    for (command, word) in [
        ("xm create /nowhere.cfg", "/nowhere.cfg"),
        ("xm destroy nobody", "nobody"),
        ("xm console nobody", "nobody"),
        ("xm pause 77", "77"),
        ("xm shutdown nobody", "nobody"),
        ("xm rename nobody other", "nobody"),
        ("xm rename neighbour Domain-0", "Domain-0"),
        ("xm destroy 0", "0"),
        ("xm frobnicate", "frobnicate"),
        ("xm create", "FILE"),
        // Longer than a line of the shell may be typed.
        (
            "xm create -q /etc/xen/bad.cfg \"type='pvh'\" \"cmdline='$(head -c 2100 /dev/zero | tr '\\0' x)'\"",
            "its kernel takes 2047",
        ),
        (
            "xm sched-credit -d neighbour",
            "xl's sched-credit is not there yet",
        ),
        (
            "xm network-detach neighbour 00:16:3e:01:02:03",
            "of that address",
        ),
    ] {
        let outcome = lab.outcome(command, 30)?;
        if outcome.status == 0 || !outcome.output.contains(word) {
            faults.push(format!(
                "{command}: status {}, printed:\n{}",
                outcome.status, outcome.output
            ));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n--\n"));
    let after = lab.totals()?;
    ensure!(
        after.free_frames == before.free_frames,
        "pages are lost: {before:?} became {after:?}"
    );
    ensure!(
        after.store == before.store,
        "nodes are left: {before:?} became {after:?}"
    );
    lab.answers("neighbour", "still")?;
    lab.destroy("neighbour")?;
    lab.finish()
}

#[test]
fn without_daemons_or_rights_one_line_says_so() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "bad-daemons")?;
    let path = Guest::test("bad", "test=hello").write(&mut lab)?;
    let refused = lab.outcome(
        "echo 'nobody:x:99:99::/:/bin/sh' >> /etc/passwd; chmod 755 /root; su nobody -c 'xm list'",
        30,
    )?;
    ensure!(
        refused.status != 0 && refused.output.contains("xm:"),
        "{refused:?}"
    );
    for daemon in ["xenstored", "xmd"] {
        lab.sh(&format!(
            "touch /run/oxen/{daemon}.stop; kill -9 $(cat /run/oxen/{daemon}.pid); sleep 1"
        ))?;
        let outcome = lab.outcome(&format!("xm create -q {path}"), 60)?;
        ensure!(
            outcome.status != 0 && outcome.output.contains(daemon),
            "without {daemon}: {outcome:?}"
        );
        let errors = outcome
            .output
            .lines()
            .filter(|line| line.starts_with("xm:"))
            .count();
        ensure!(errors >= 1, "no line of xm's: {outcome:?}");
    }
    Ok(())
}
