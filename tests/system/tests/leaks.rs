//! Guests come and go by the hundred, and die ten at once: free memory and the hypervisor's heap
//! are then what they were before, to the page.

use anyhow::{Context, Result, ensure};
use system_tests::{Guest, Lab, Totals, plain};

const ROUNDS: u32 = 100;

#[test]
fn a_hundred_guests_leave_nothing() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "leaks")?;
    let guest = Guest::test("brief", "test=hello")
        .ends("destroy")
        .set("vcpus", "2");
    let path = guest.write(&mut lab)?;
    // The first ones fill caches of daemons and of dom0's kernel, and tables of dom0 grow to what
    // ten guests need.
    let rounds = |lab: &mut Lab, count: u32| {
        lab.sh_in(
            &format!("n=0; while [ $n -lt {count} ]; do xm create -q {path} || exit 1; until ! xm domid brief >/dev/null 2>&1; do :; done; n=$((n + 1)); done"),
            400,
        )
    };
    rounds(&mut lab, 3)?;
    ten_at_once(&mut lab)?;
    let before = settled(&mut lab)?;
    rounds(&mut lab, ROUNDS)?;
    let after = settled(&mut lab)?;
    before
        .same(&after)
        .with_context(|| format!("after {ROUNDS} rounds"))?;

    ten_at_once(&mut lab)?;
    let after = settled(&mut lab)?;
    before.same(&after).context("after ten at once")?;
    lab.finish()
}

fn ten_at_once(lab: &mut Lab) -> Result<()> {
    for number in 0..10 {
        Guest::test(&format!("many{number}"), "test=echo").create(lab)?;
    }
    ensure!(lab.domains()?.len() == 11);
    lab.sh_in(
        "xm destroy many0 many1 many2 many3 many4 many5 many6 many7 many8 many9",
        60,
    )?;
    ensure!(lab.domains()?.len() == 1, "guests are left");
    Ok(())
}

/// The totals once nothing of the last guest is on its way out.
fn settled(lab: &mut Lab) -> Result<Totals> {
    lab.until("[ $(xm --json list | grep -c '\"domain\"') = 1 ]", 20)?;
    lab.sh("sleep 1")?;
    lab.totals()
}
