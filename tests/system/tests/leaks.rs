//! Guests come and go by the hundred, and die ten at once: free memory and the hypervisor's heap are then
//! what they were before, to the page.

use anyhow::{Context, Result, ensure};
use system_tests::{Guest, Lab, Totals, plain};

const ROUNDS: u32 = 100;
/// dom0's own timers and queues come and go in the heap. A hundred guests that left no more than the
/// smallest object each would show beyond this.
const HEAP_NOISE: u64 = 8 * ROUNDS as u64 - 1;

#[test]
fn a_hundred_guests_leave_nothing() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "leaks")?;
    let guest = Guest::test("brief", "test=hello")
        .ends("destroy")
        .set("vcpus", "2");
    let path = guest.write(&mut lab)?;
    // The first ones fill caches of daemons and of dom0's kernel, and tables of dom0 grow to what ten
    // guests need.
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
    same(&before, &after).with_context(|| format!("after {ROUNDS} rounds"))?;

    ten_at_once(&mut lab)?;
    let after = settled(&mut lab)?;
    same(&before, &after).context("after ten at once")?;
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

fn same(before: &Totals, after: &Totals) -> Result<()> {
    ensure!(
        after.free_frames == before.free_frames
            && after.store == before.store
            && after.heap_bytes.abs_diff(before.heap_bytes) <= HEAP_NOISE,
        "{before:?} became {after:?}"
    );
    Ok(())
}

/// The totals once nothing of the last guest is on its way out.
fn settled(lab: &mut Lab) -> Result<Totals> {
    lab.until("[ $(xm --json list | grep -c '\"domain\"') = 1 ]", 20)?;
    lab.sh("sleep 1")?;
    lab.totals()
}
