//! kill -9 of each daemon while guests run: the supervisor starts it again, lists and consoles are
//! right afterwards, and no guest has noticed.

use anyhow::{Result, ensure};
use system_tests::{Guest, LINUX_READY, Lab, plain};

#[test]
fn killed_daemons_come_back_and_no_guest_notices() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "daemons")?;
    let linux = Guest::linux("linux").create(&mut lab)?;
    let own = Guest::test("own", "test=echo").create(&mut lab)?;
    lab.guest_says(&linux, LINUX_READY, 90)?;
    lab.answers(&own, "before")?;
    let store = lab.totals()?.store;
    let names = |lab: &mut Lab| -> Result<Vec<String>> {
        Ok(lab
            .domains()?
            .iter()
            .map(|it| format!("{} {}", it["domain"], it["name"]))
            .collect())
    };
    let list = names(&mut lab)?;
    for daemon in [
        "xenstored",
        "xenconsoled",
        "xmd",
        "xenstored",
        "xmd",
        "xenconsoled",
    ] {
        let pid = lab.sh(&format!("cat /run/oxen/{daemon}.pid"))?;
        lab.sh(&format!("kill -9 {pid}"))?;
        lab.until(
            &format!("new=$(cat /run/oxen/{daemon}.pid) && [ \"$new\" != {pid} ] && kill -0 $new"),
            20,
        )?;
        lab.until("xm list >/dev/null 2>&1", 20)?;
        let now = names(&mut lab)?;
        ensure!(now == list, "after {daemon}: {now:?}, not {list:?}");
        lab.answers(&own, &format!("after-{daemon}"))?;
        lab.sh_in(
            &format!("xm console --send 'echo it is $((6 * 7)) {daemon}\\n' --expect 'it is 42 {daemon}' --timeout 20 linux"),
            60,
        )?;
    }
    let now = lab.totals()?.store;
    ensure!(now == store, "the store has {now:?}, not {store:?}");
    // A new guest, and the ends of the old ones, work as before.
    let third = Guest::test("third", "test=hello").create(&mut lab)?;
    ensure!(lab.end_of(&third, 20)? == "poweroff");
    lab.destroy(&third)?;
    lab.sh_in("xm shutdown -w --timeout 60 linux", 90)?;
    lab.destroy(&own)?;
    ensure!(lab.domains()?.len() == 1, "guests are left");
    lab.finish()
}
