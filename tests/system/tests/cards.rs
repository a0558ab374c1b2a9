//! Guests' network cards that come and go, mistakes, forged addresses, kills of xmd, and guests
//! that misbehave.

use anyhow::{Context, Result, ensure};
use system_tests::{Guest, LINUX_READY, Lab, plain};

#[test]
fn cards_come_and_go() -> Result<()> {
    let mut lab = Lab::start(&plain()?, "nets-hotplug")?;
    lab.sh(
        "ip link add br0 type bridge && ip addr add 192.0.2.1/24 dev br0 && ip link set br0 up",
    )?;
    let before = lab.traces()?;
    let demo = Guest::linux("demo").create(&mut lab)?;
    lab.guest_says(&demo, LINUX_READY, 90)?;
    let mistakes = [
        ("bridge=nothing", "no bridge nothing"),
        ("ip=1.2.3.4", "1.2.3.4 is none of"),
        ("antispoof=ip,bridge=br0", "no ip="),
        ("vlan=10,bridge=br0", "vlan_filtering"),
        ("gatewaydev=eth0", "routed"),
        ("colour=red", "unknown vif option"),
    ];
    for (card, cause) in mistakes {
        let outcome = lab.outcome(&format!("xm network-attach demo '{card}'"), 60)?;
        ensure!(
            outcome.status == 1 && outcome.output.contains(cause),
            "{card}: {}",
            outcome.output
        );
    }
    lab.sh_in(
        "xm network-attach demo bridge=br0,mac=00:16:3e:0a:0b:0c,ip=192.0.2.9,antispoof=ip,rate=2Mb/s,vifname=demo0,mtu=1400",
        60,
    )?;
    let list = lab.json("xm --json network-list demo")?;
    ensure!(
        list[0]["back"]["mac"] == "00:16:3e:0a:0b:0c" && list[0]["back_state"] == "connected",
        "{list}"
    );
    ensure!(lab.sh("cat /sys/class/net/demo0/mtu")? == "1400");
    let twice = lab.outcome(
        "xm network-attach demo bridge=br0,mac=00:16:3e:0a:0b:0c",
        60,
    )?;
    ensure!(
        twice.status == 1 && twice.output.contains("has that address"),
        "{}",
        twice.output
    );
    lab.in_guest(
        &demo,
        "ip addr add 192.0.2.9/24 dev eth0; ip link set eth0 up; ping -c 2 -W 2 192.0.2.1",
        40,
    )?;
    slow(&mut lab)?;
    for forgery in [
        "ip link set eth0 down; ip link set eth0 address 00:16:3e:0a:0b:0d; ip link set eth0 up",
        "ip link set eth0 down; ip link set eth0 address 00:16:3e:0a:0b:0c; ip link set eth0 up; ip addr flush dev eth0; ip addr add 192.0.2.77/24 dev eth0",
    ] {
        lab.in_guest(&demo, &format!("{forgery}; ! ping -c 2 -W 1 192.0.2.1"), 40)
            .context("a forged address passed")?;
    }
    lab.sh_in("xm network-detach demo 0", 60)?;
    ensure!(lab.json("xm --json network-list demo")? == serde_json::json!([]));
    lab.until("! ip link show demo0", 20)?;

    // On and off, the last time while nobody is there to answer.
    for _ in 0..3 {
        lab.sh_in(
            "xm network-attach demo network=private:blue && xm network-detach demo eth0",
            90,
        )?;
    }
    lab.sh_in("xm network-attach demo network=private:blue && xm pause demo && xm network-detach --force demo 0 && xm unpause demo", 90)?;
    lab.in_guest(&demo, "true", 20)?;
    eight(&mut lab)?;
    killed(&mut lab)?;
    lab.destroy(&demo)?;
    lab.leaves_only(&before)?;
    lab.finish()
}

/// A mebibyte at two megabits a second, less what may go at once, takes more than three seconds.
fn slow(lab: &mut Lab) -> Result<()> {
    lab.sh("(nc -l -p 5001 | wc -c > /tmp/n) & sleep 0.3")?;
    let said = lab.in_guest(
        "demo",
        "from=$(cut -d. -f1 /proc/uptime); dd if=/dev/zero bs=64k count=16 2>/dev/null | nc 192.0.2.1 5001; echo took $(($(cut -d. -f1 /proc/uptime) - from)) s",
        60,
    )?;
    lab.until("grep -q 1048576 /tmp/n", 20)?;
    let took = said
        .lines()
        .find_map(|line| line.strip_prefix("took ")?.strip_suffix(" s")?.parse().ok());
    ensure!(took >= Some(2), "{said}");
    Ok(())
}

/// As many cards as a guest can have, each with an address of its own, which it has again the next
/// time.
fn eight(lab: &mut Lab) -> Result<()> {
    let attach = "xm network-attach demo network=private:blue";
    lab.sh_in(
        &format!("for n in 0 1 2 3 4 5 6 7; do {attach} || exit 1; done"),
        120,
    )?;
    let full = addresses(lab)?;
    let mut different = full.clone();
    different.sort();
    different.dedup();
    ensure!(
        different.len() == 8 && full.iter().all(|mac| mac.starts_with("00:16:3e:")),
        "{full:?}"
    );
    lab.in_guest("demo", "[ $(ls -d /sys/class/net/eth* | wc -l) = 8 ]", 20)?;
    let ninth = lab.outcome(attach, 60)?;
    ensure!(
        ninth.status == 1 && ninth.output.contains("it has 8 already"),
        "{}",
        ninth.output
    );
    lab.sh_in(
        "for n in 0 1 2 3 4 5 6 7; do xm network-detach demo $n || exit 1; done",
        120,
    )?;
    lab.sh_in(&format!("{attach} && {attach}"), 60)?;
    ensure!(
        addresses(lab)? == full[..2],
        "not the addresses of before: {full:?}"
    );
    lab.sh_in("xm network-detach demo 0 && xm network-detach demo 1", 60)
        .map(drop)
}

fn addresses(lab: &mut Lab) -> Result<Vec<String>> {
    let list = lab.json("xm --json network-list demo")?;
    let cards = list.as_array().context("no list")?;
    let mac = |card: &serde_json::Value| card["back"]["mac"].as_str().map(str::to_owned);
    cards
        .iter()
        .map(|card| mac(card).context("no address"))
        .collect()
}

/// A kill of xmd at any moment of an attach leaves the card whole or gone.
fn killed(lab: &mut Lab) -> Result<()> {
    for delay in ["0.05", "0.3"] {
        lab.outcome(
            &format!("(xm network-attach demo network=private:red >/dev/null 2>&1 &); sleep {delay}; kill -9 $(pidof xmd)"),
            30,
        )?;
        lab.until(
            "pidof xmd && [ -S /run/xen/xmd.sock ] && xm log -n 1 && xm --json network-list demo >/dev/null",
            30,
        )?;
        let list = lab.json("xm --json network-list demo")?;
        if list == serde_json::json!([]) {
            lab.until("[ ! -e /sys/class/net/xmp-red ]", 20)
                .with_context(|| format!("after {delay} s: a bridge without a card"))?;
            continue;
        }
        lab.in_guest(
            "demo",
            "n=0; until ip link set eth0 up; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.3; done",
            60,
        )?;
        lab.sh_in("xm network-detach demo 0", 60)?;
    }
    Ok(())
}

#[test]
fn a_hostile_card_harms_its_guest_only() -> Result<()> {
    hostile("nets-hostile", 2)
}

#[test]
#[ignore = "the same 100 times"]
fn soak_io_nets_hostile() -> Result<()> {
    hostile("nets-hostile-long", 100)
}

fn hostile(name: &str, rounds: u64) -> Result<()> {
    let mut lab = Lab::start_for(&plain()?, name, 900 + rounds * 60)?;
    let neighbour = Guest::linux("neighbour")
        .set("vif", "[\"\"]")
        .create(&mut lab)?;
    lab.guest_says(&neighbour, LINUX_READY, 90)?;
    let one = |lab: &mut Lab, seed: u64| -> Result<()> {
        let cards = "[\"antispoof=ip\", \"network=private:evil\"]";
        let arguments = format!("test=netfront seed={seed} seconds=1");
        let guest = Guest::test("evil", &arguments)
            .set("vif", cards)
            .ends("destroy");
        guest.create(lab)?;
        // It dies by itself, or spins on.
        lab.until(
            "grep -qE '^(PASS|FAIL)' /var/log/xen/console/guest-evil.log",
            40,
        )?;
        let log = lab.guest_log("evil")?;
        ensure!(
            log.contains("CONNECTED") && log.contains("PASS"),
            "seed {seed}: {log}"
        );
        let end = lab.outcome("xm destroy evil", 90)?;
        ensure!(
            end.status == 0 || end.output.contains("there is no domain of that name"),
            "seed {seed}: {}",
            end.output
        );
        lab.sh("rm -f /var/log/xen/console/guest-evil.log*")?;
        Ok(())
    };
    // The first one fills caches.
    one(&mut lab, 1)?;
    let (before, totals) = (lab.traces()?, lab.totals()?);
    for seed in 2..2 + rounds {
        one(&mut lab, seed)?;
        // Who is told that a guest is gone finds nothing of it.
        let after = lab.traces()?;
        ensure!(before == after, "seed {seed}: {before} became {after}");
        lab.vm.refuse(r"\(OXEN\).*(PANIC|panicked)")?;
    }
    lab.leaves_only(&before)?;
    let left = lab.totals()?;
    ensure!(
        left.free_frames == totals.free_frames && left.store == totals.store,
        "{totals:?} became {left:?}"
    );
    lab.in_guest(&neighbour, "ping -c 2 -W 5 10.87.0.1", 40)?;
    lab.destroy(&neighbour)?;
    lab.finish()
}
