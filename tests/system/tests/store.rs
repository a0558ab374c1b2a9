//! The store as one guest fills it: refused at its quota, named in the log, unnoticed by its
//! neighbour; and the programs under the names that scripts know.

use anyhow::{Result, ensure};
use system_tests::{Guest, LINUX_READY, Lab, plain};

/// Writes 1,100 nodes by the kernel's own way to the store, and counts the refusals. They are in
/// the answers: who does not read those sees none. XS_WRITE is 11, the payload has 15 bytes.
const FILL: &str = concat!(
    "exec 3<>/dev/xen/xenbus; n=0; no=0; while [ $n -lt 1100 ]; do ",
    r"printf '\\013\\000\\000\\000\\001\\000\\000\\000\\000\\000\\000\\000\\017\\000\\000\\000",
    r"data/d%02d/%04d\\000v' $((n / 40)) $n >&3; ",
    r"case $(dd bs=64 count=1 <&3 2>/dev/null | tr -d '\\000') in *ENOSPC*) no=$((no + 1)) ;; esac; ",
    "n=$((n + 1)); done; exec 3>&-; echo refused=$no"
);

#[test]
fn a_guest_that_fills_the_store_is_refused_at_its_quota() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "store")?;
    let full = Guest::linux("full").create(&mut lab)?;
    let neighbour = Guest::test("neighbour", "test=echo").create(&mut lab)?;
    lab.guest_says(&full, LINUX_READY, 90)?;
    lab.answers(&neighbour, "before")?;
    let output = lab.in_guest(&full, FILL, 300)?;
    let mut refused = output.lines().filter_map(|line| {
        let (_, count) = line.trim().split_once("refused=")?;
        count.trim().parse::<u32>().ok()
    });
    let refused = refused.next_back().unwrap_or(0);
    ensure!(
        (100..=160).contains(&refused),
        "{refused} of 1100 refused:\n{output}"
    );
    let usage = lab.sh("xenstore-control quota $(xm domid full)")?;
    let nodes = usage.lines().find_map(|line| {
        line.strip_prefix("nodes")?
            .trim_matches([' ', ':'])
            .parse()
            .ok()
    });
    ensure!(
        nodes.is_some_and(|nodes: u32| (999..=1000).contains(&nodes)),
        "{usage}"
    );
    let said = lab.sh("cat /var/log/xenstored.log")?;
    for words in [
        "is over its soft quota of nodes",
        "is refused at its quota: nodes ",
    ] {
        ensure!(said.contains(words), "{words:?} is not in the log:\n{said}");
    }
    // Nobody else has noticed, and new guests come.
    lab.answers(&neighbour, "after")?;
    let third = Guest::test("third", "test=hello").create(&mut lab)?;
    ensure!(lab.end_of(&third, 20)? == "poweroff");

    // What scripts call.
    lab.sh(
        "xenstore-write /tool/a/b 'some text' && [ \"$(xenstore-read /tool/a/b)\" = 'some text' ]",
    )?;
    lab.sh("xenstore-exists /tool/a/b && xenstore-list /tool/a | grep -x b")?;
    lab.sh("xenstore-chmod /tool/a/b n0 r1 && xenstore-ls -p /tool/a | grep -F '(n0,r1)'")?;
    lab.sh("xenstore-watch -n 1 /tool/a && xenstore-rm /tool/a && ! xenstore-exists /tool/a")?;
    // A limit that is changed holds at once, also over a restart.
    lab.sh("xenstore-control quota set nodes 900")?;
    let pid = lab.sh("cat /run/oxen/xenstored.pid")?;
    lab.sh(&format!("kill -9 {pid}"))?;
    lab.until("xenstore-control quota | grep -q '^nodes .* 900 '", 20)?;
    lab.answers(&neighbour, "later")?;
    for name in [full, neighbour, third] {
        lab.destroy(&name)?;
    }
    lab.finish()
}
