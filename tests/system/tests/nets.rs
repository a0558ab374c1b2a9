//! Guests' networks: cards on NAT, bridges and private networks with the stock drivers on both
//! sides, data checked on every way.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use oxen_harness::{Nic, NicModel};
use system_tests::{Guest, LINUX_READY, Lab, machine, with_tools};

/// The sizes of the suite's run and of `./x soak`'s.
struct Size {
    name: &'static str,
    mib: usize,
    /// Of streams both ways.
    seconds: u64,
    /// By iperf3, which only soaks have; else by nc.
    iperf: bool,
    life: u64,
}

#[test]
fn two_guests_dom0_and_the_world_talk() -> Result<()> {
    talk(&Size {
        name: "nets",
        mib: 4,
        seconds: 5,
        iperf: false,
        life: 900,
    })
}

#[test]
#[ignore = "200 MiB four times: takes many minutes under emulation"]
fn soak_io_nets_fetch() -> Result<()> {
    talk(&Size {
        name: "nets-fetch",
        mib: 200,
        seconds: 20,
        iperf: false,
        life: 7200,
    })
}

#[test]
#[ignore = "needs iperf3, which ./x soak fetches; three times 20 s"]
fn soak_io_nets_iperf() -> Result<()> {
    talk(&Size {
        name: "nets-iperf",
        mib: 1,
        seconds: 20,
        iperf: true,
        life: 1800,
    })
}

fn talk(size: &Size) -> Result<()> {
    let mib = size.mib;
    let mut machine = machine("dom0_mem=1G", "")?;
    if size.iperf {
        with_tools(&mut machine)?;
    }
    let served = Served::start(mib << 20)?;
    machine.nics.push(Nic::new(NicModel::Virtio));
    let mut lab = Lab::start_for(&machine, size.name, size.life)?;
    lab.until("ip route | grep -q ^default", 30)?;
    if size.iperf {
        lab.prepare_tools()?;
    }
    let before = lab.traces()?;
    for name in ["a", "b"] {
        let guest = match size.iperf {
            true => Guest::with_tools(name),
            false => Guest::linux(name),
        };
        guest
            .set("vcpus", "2")
            .set("cmdline", "\"console=hvc0 quiet\"")
            .set("vif", "[\"\", \"network=private:blue\"]")
            .create(&mut lab)?;
    }
    for name in ["a", "b"] {
        lab.guest_says(name, LINUX_READY, 120)?;
    }
    let mut addresses = Vec::new();
    for name in ["a", "b"] {
        let list = lab.json(&format!("xm --json network-list {name}"))?;
        let address = list[0]["back"]["ip"].as_str().context("no address")?;
        // By DHCP, as told.
        lab.in_guest(
            name,
            &format!("n=0; until ip addr show eth0 | grep -q {address}/24; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.3; done"),
            60,
        )?;
        addresses.push(address.to_owned());
    }
    let [a, b] = &addresses[..] else {
        unreachable!()
    };

    // Everybody reaches everybody.
    lab.in_guest(
        "a",
        &format!("ping -c 2 -W 5 {b} && ping -c 2 -W 5 10.87.0.1"),
        60,
    )?;
    lab.in_guest(
        "b",
        &format!("ping -c 2 -W 5 {a} && ping -c 2 -W 5 10.87.0.1"),
        60,
    )?;
    lab.sh_in(&format!("ping -c 2 -W 5 {a} && ping -c 2 -W 5 {b}"), 60)?;
    lab.in_guest(
        "a",
        "ip addr add 192.0.2.1/24 dev eth1 && ip link set eth1 up",
        20,
    )?;
    lab.in_guest(
        "b",
        "ip addr add 192.0.2.2/24 dev eth1 && ip link set eth1 up && ping -c 2 -W 5 192.0.2.1",
        40,
    )?;
    let queues = lab.in_guest(
        "a",
        "echo queues $(ls -d /sys/class/net/eth0/queues/tx-* | wc -l)",
        20,
    )?;
    ensure!(queues.contains("queues 2"), "{queues}");

    // From the world, through NAT.
    let seconds = 60 + 4 * mib as u64;
    let sum = lab.in_guest(
        "a",
        &format!("nc 10.0.2.2 {} </dev/null | md5sum", served.port),
        seconds,
    )?;
    ensure!(
        sum.contains(&served.md5),
        "the world sent {}, not:\n{sum}",
        served.md5
    );

    // From guest to guest, both ways, by both networks.
    for (from, to, address) in [
        ("a", "b", b.as_str()),
        ("b", "a", a.as_str()),
        ("a", "b", "192.0.2.2"),
    ] {
        lab.in_guest(
            to,
            "rm -f /tmp/sum; (sleep 900 | nc -l -p 5001 | md5sum > /tmp/sum) & sleep 0.3",
            20,
        )?;
        let sent = lab.in_guest(
            from,
            &format!(
                "dd if=/dev/zero bs=64k count={} 2>/dev/null | tr '\\\\0' 'x' | nc {address} 5001",
                mib * 16
            ),
            seconds,
        );
        sent.with_context(|| format!("{from} to {to}"))?;
        let sum = lab.in_guest(to, "n=0; until grep -q . /tmp/sum; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.3; done; cat /tmp/sum", 60)?;
        let want = md5(&vec![b'x'; mib << 20])?;
        ensure!(
            sum.contains(&want),
            "{from} to {to} by {address}: not {want} but {sum}"
        );
    }
    let names = ["a", "b"];
    let carriers = names.map(|name| carrier(&mut lab, name));
    if size.iperf {
        iperf(&mut lab, size.seconds)?;
    } else {
        streams(&mut lab, size.seconds)?;
    }
    for (name, before) in names.into_iter().zip(carriers) {
        let (before, after) = (before?, carrier(&mut lab, name)?);
        ensure!(
            before == after && after.starts_with("1 "),
            "{name}: carrier and its changes were {before}, are {after}"
        );
    }
    vlans(&mut lab)?;
    for name in ["a", "b"] {
        let bad = lab.in_guest(
            name,
            "! dmesg | grep -E \"WARNING:|BUG:|Call Trace|Oops|[ :]stall|hung task\"",
            20,
        );
        bad.with_context(|| format!("the log of {name}"))?;
        lab.sh_in(&format!("xm shutdown -w --timeout 60 {name}"), 90)?;
    }
    lab.leaves_only(&before)?;
    lab.finish()
}

/// Whether the link is up, and how often it changed.
fn carrier(lab: &mut Lab, name: &str) -> Result<String> {
    let command =
        "cat /sys/class/net/eth1/carrier /sys/class/net/eth1/carrier_changes | xargs echo carrier";
    told(&lab.in_guest(name, command, 20)?, "carrier")
}

/// iperf3's own figures, one way, the other, and both at once.
fn iperf(lab: &mut Lab, seconds: u64) -> Result<()> {
    lab.in_guest("b", "iperf3 -s -D && sleep 1", 30)?;
    for (way, streams) in [("", 1), ("-R", 1), ("--bidir", 2)] {
        let said = lab.in_guest(
            "a",
            &format!("iperf3 -c 192.0.2.2 -f m -t {seconds} {way}"),
            4 * seconds + 60,
        )?;
        let arrived: Vec<_> = said.lines().filter(|it| it.contains("receiver")).collect();
        println!("iperf3 {way}: {arrived:#?}");
        ensure!(
            arrived.len() == streams && arrived.iter().all(|it| !it.contains(" 0.00 ")),
            "iperf3 {way}: {said}"
        );
    }
    lab.in_guest("b", "killall iperf3", 20).map(drop)
}

/// TCP both ways at once, as fast as it goes: data arrive to the end.
fn streams(lab: &mut Lab, seconds: u64) -> Result<()> {
    for name in ["a", "b"] {
        lab.in_guest(
            name,
            "rm -f /tmp/n; (sleep 900 | nc -l -p 5002 | wc -c > /tmp/n) & sleep 0.3",
            20,
        )?;
    }
    for (from, to) in [("a", "192.0.2.2"), ("b", "192.0.2.1")] {
        lab.in_guest(
            from,
            &format!("(timeout {seconds} cat /dev/zero | nc {to} 5002) >/dev/null 2>&1 & true"),
            20,
        )?;
    }
    for name in ["a", "b"] {
        let seen = lab.in_guest(
            name,
            "until grep -q . /tmp/n; do sleep 0.3; done; echo arrived $(cat /tmp/n)",
            seconds + 60,
        )?;
        let bytes: u64 = told(&seen, "arrived")?.parse()?;
        println!("{name} got {} kB/s for {seconds} s", bytes / 1000 / seconds);
        ensure!(bytes > 64 << 10, "{name} got {bytes} bytes in {seconds} s");
    }
    Ok(())
}

/// The text that a command printed on a line behind a word. The echo of the command is not at a
/// line's start.
fn told(output: &str, word: &str) -> Result<String> {
    let line = output
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    let line = line.with_context(|| format!("no {word:?} in:\n{output}"))?;
    Ok(line.trim().to_owned())
}

/// Ports of one bridge reach each other in the same VLAN only, on a network of ours and on a bridge
/// of the administrator's, where dom0 itself is in VLAN 10.
fn vlans(lab: &mut Lab) -> Result<()> {
    lab.sh("ip link add lan0 type bridge && cd /sys/class/net/lan0/bridge && echo 10 > default_pvid && echo 1 > vlan_filtering && cd /root && ip addr add 198.51.100.3/24 dev lan0 && ip link set lan0 up")?;
    for (network, others) in [
        ("network=private:green", &[1][..]),
        ("bridge=lan0", &[1, 3]),
    ] {
        lab.sh_in(
            &format!(
                "xm network-attach a {network},vlan=10 && xm network-attach b {network},vlan=20"
            ),
            90,
        )?;
        address(lab, "a", 1)?;
        address(lab, "b", 2)?;
        for other in others {
            lab.in_guest("b", &format!("! ping -c 2 -W 2 198.51.100.{other}"), 40)
                .with_context(|| format!("{network}: another VLAN is reached"))?;
        }
        lab.sh_in(
            &format!("xm network-detach b eth2 && xm network-attach b {network},vlan=10"),
            90,
        )?;
        address(lab, "b", 2)?;
        for other in others {
            lab.in_guest("b", &format!("ping -c 2 -W 5 198.51.100.{other}"), 40)
                .with_context(|| network.to_owned())?;
        }
        lab.sh_in("xm network-detach a eth2 && xm network-detach b eth2", 90)?;
    }
    lab.sh("ip link del lan0").map(drop)
}

/// A guest's new card, up and with an address.
fn address(lab: &mut Lab, guest: &str, number: u32) -> Result<()> {
    let command = format!("ip addr add 198.51.100.{number}/24 dev eth2 && ip link set eth2 up");
    lab.in_guest(guest, &command, 20).map(drop)
}

/// Some bytes that are sent to whoever connects.
struct Served {
    port: u16,
    md5: String,
}

impl Served {
    fn start(len: usize) -> Result<Self> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let bytes: Vec<u8> = (0..len / 8).flat_map(|_| next()).collect();
        let md5 = md5(&bytes)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                // Who goes away early fails its own check.
                let _ = stream.write_all(&bytes);
            }
        });
        Ok(Self { port, md5 })
    }
}

fn md5(bytes: &[u8]) -> Result<String> {
    let file = std::env::temp_dir().join(format!("oxen-nets-{}", std::process::id()));
    std::fs::write(&file, bytes)?;
    let done = Command::new("md5sum").arg(&file).output()?;
    std::fs::remove_file(&file)?;
    let text = String::from_utf8(done.stdout)?;
    Ok(text
        .split(' ')
        .next()
        .context("md5sum prints nothing")?
        .to_owned())
}
