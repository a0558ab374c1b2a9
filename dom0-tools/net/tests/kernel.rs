//! Against the real kernel, in network namespaces of their own, so that the machine's network is
//! left alone. Where namespaces cannot be made (no root, a strict container), these tests say so
//! and pass.

use oxen_net::firewall::{Firewall, Guard};
use oxen_net::link::{Change, Links};
use oxen_net::network::{NAT_BRIDGE, Settings};
use oxen_net::port::{self, Port};
use oxen_net::{Mac, Network, nat};
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// Runs the calling test again in a namespace; true in there. The namespace has its own /sys and
/// /proc/sys/net.
fn inside(test: &str) -> bool {
    if std::env::var_os("OXEN_NET_NAMESPACE").is_some() {
        return true;
    }
    let probe = Command::new("unshare").args(["-rnm", "true"]).output();
    if !probe.is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: no network namespaces here");
        return false;
    }
    let program = std::env::current_exe().expect("our own path");
    let done = Command::new("unshare")
        .arg("-rnm")
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("OXEN_NET_NAMESPACE", "1")
        .output()
        .expect("unshare runs");
    let text =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}");
    false
}

/// A command of the shell; its output.
fn sh(command: &str) -> String {
    let done = Command::new("sh")
        .args(["-c", command])
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command}: {text}{errors}");
    text
}

fn succeeds(command: &str) -> bool {
    Command::new("sh")
        .args(["-c", command])
        .output()
        .is_ok_and(|done| done.status.success())
}

/// A guest's card: one end of a pair has the name that the kernel's back end gives, the other is in
/// a namespace of its own, with the guest's addresses.
fn guest(name: &str, device: &str, mac: &str, address: &str) {
    sh(&format!(
        "ip netns add {name} && ip link add {device} type veth peer name eth0 netns {name} && \
         ip -n {name} link set eth0 address {mac} up && ip -n {name} addr add {address} dev eth0"
    ));
}

fn private_network() {
    // `ip netns` wants a directory of its own to mount in.
    sh("mount -t tmpfs none /run && mkdir -p /run/netns && mount -t sysfs none /sys || true");
    sh("ip link set lo up");
}

fn vif(text: &str) -> oxen_config::VifSpec {
    oxen_config::spec::vif::parse(text).expect("a vif")
}

/// Does a TCP connection from there get an answer, be it a refusal? `to` may have the address to
/// come from before it.
fn reaches(guest: &str, to: &str) -> bool {
    let probe = Command::new("ip")
        .args(["netns", "exec", guest])
        .arg(std::env::current_exe().expect("our own path"))
        .args(["--exact", "probe"])
        .env("OXEN_NET_PROBE", to)
        .output();
    probe.is_ok_and(|done| done.status.success())
}

/// The first connection of all: devices that were just started may take a second to forward.
fn comes_to_reach(guest: &str, to: &str) -> bool {
    (0..5).any(|_| reaches(guest, to))
}

/// Not a test of its own: the other half of [`reaches`].
#[test]
fn probe() {
    let Ok(words) = std::env::var("OXEN_NET_PROBE") else {
        return;
    };
    let mut words = words
        .rsplit(' ')
        .map(|word| word.parse::<IpAddr>().expect("an address"));
    let to = words.next().expect("a target");
    let socket =
        Socket::new(Domain::for_address((to, 9).into()), Type::STREAM, None).expect("a socket");
    if let Some(from) = words.next() {
        socket
            .bind(&SocketAddr::from((from, 0)).into())
            .expect("our own address");
    }
    let answer = socket.connect_timeout(&SocketAddr::from((to, 9)).into(), Duration::from_secs(1));
    match answer {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => panic!("{error}"),
        _ => {}
    }
}

#[test]
fn a_private_network_lives_with_its_ports() {
    if !inside("a_private_network_lives_with_its_ports") {
        return;
    }
    private_network();
    let settings = Settings::default();
    guest("a", "vif1.0", "00:16:3e:00:00:0a", "10.9.0.1/24");
    guest("b", "vif2.0", "00:16:3e:00:00:0b", "10.9.0.2/24");
    let plan = |mac: u8, domain| {
        let mac = Mac([0, 0x16, 0x3e, 0, 0, mac]);
        Port::plan(&vif("network=private:blue"), mac, domain, 0, &settings).expect("a plan")
    };
    let (a, b) = (plan(10, 1), plan(11, 2));
    assert_eq!(a.network, Network::Private("blue".into()));
    a.plug().expect("plugged");
    b.plug().expect("plugged");
    assert!(comes_to_reach("a", "10.9.0.2"));
    assert!(
        !sh("ip addr show dev xmp-blue").contains("inet"),
        "the host keeps out"
    );
    port::unplug("vif1.0", "xmp-blue", Some(a.mac)).expect("unplugged");
    sh("ip link del vif1.0");
    assert!(succeeds("ip link show xmp-blue"), "b is still on it");
    port::unplug("vif2.0", "xmp-blue", Some(b.mac)).expect("unplugged");
    assert!(
        !succeeds("ip link show xmp-blue"),
        "the last one takes it along"
    );
    port::unplug("vif2.0", "xmp-blue", Some(b.mac)).expect("once more is no error");
}

#[test]
fn forged_addresses_do_not_pass() {
    if !inside("forged_addresses_do_not_pass") {
        return;
    }
    private_network();
    let settings = Settings::default();
    sh(
        "ip link add xenbr9 type bridge && ip link set xenbr9 up && ip addr add 10.9.0.254/24 dev xenbr9",
    );
    guest("a", "vif1.0", "00:16:3e:00:00:0a", "10.9.0.1/24");
    let mac = Mac([0, 0x16, 0x3e, 0, 0, 10]);
    let spec = vif("bridge=xenbr9,ip=10.9.0.1 fd00::1,antispoof=ip,mtu=1400,vifname=web0");
    let port = Port::plan(&spec, mac, 1, 0, &settings).expect("a plan");
    port.plug().expect("plugged");
    let link = Links::open()
        .and_then(|mut links| links.find("web0"))
        .expect("an answer")
        .expect("renamed");
    assert_eq!(link.mtu, 1400);
    assert!(comes_to_reach("a", "10.9.0.254"), "as itself");
    sh("ip -n a addr add 10.9.0.7/24 dev eth0");
    assert!(!reaches("a", "10.9.0.7 10.9.0.254"), "as another");
    assert!(
        !succeeds("ip neigh show 10.9.0.7 | grep -q lladdr"),
        "nobody learnt of it"
    );
    sh(
        "ip -n a addr add fd00::1/64 dev eth0 nodad; ip -n a addr add fd00::7/64 dev eth0 nodad; ip addr add fd00::fe/64 dev xenbr9 nodad",
    );
    assert!(comes_to_reach("a", "fd00::1 fd00::fe"), "by IPv6 as itself");
    assert!(!reaches("a", "fd00::7 fd00::fe"), "by IPv6 as another");
    sh("ip -n a link set eth0 down && ip -n a link set eth0 address 00:16:3e:00:00:99 up");
    assert!(!reaches("a", "10.9.0.254"), "with another card's address");
    port::unplug("web0", "xenbr9", Some(mac)).expect("unplugged");
    assert!(comes_to_reach("a", "10.9.0.254"), "without its guard");
    let guard = Guard {
        mac,
        addresses: None,
    };
    let mut firewall = Firewall::open().expect("a socket");
    firewall.set_guard("web0", &guard).expect("set");
    firewall.set_guard("web0", &guard).expect("set again");
    assert!(!reaches("a", "10.9.0.254"));
    sh(
        "ip -n a link set eth0 down && ip -n a link set eth0 address 00:16:3e:00:00:0a up && ip -n a addr replace 10.9.0.7/24 dev eth0",
    );
    assert!(
        comes_to_reach("a", "10.9.0.7 10.9.0.254"),
        "any IP address with the right MAC"
    );
}

#[test]
fn nat_lets_out_and_not_in() {
    if !inside("nat_lets_out_and_not_in") {
        return;
    }
    private_network();
    let settings = Settings::default();
    // The world: it has no route to the guests.
    sh(
        "ip netns add world && ip link add up0 type veth peer name eth0 netns world && ip addr add 198.51.100.2/24 dev up0 && \
        ip link set up0 up && ip -n world addr add 198.51.100.1/24 dev eth0 && ip -n world link set eth0 up",
    );
    let mac = Mac([0, 0x16, 0x3e, 0, 0, 10]);
    let port = Port::plan(&vif(""), mac, 1, 0, &settings).expect("a plan");
    assert_eq!(port.network, Network::Nat);
    let address = port.addresses[0];
    guest("a", "vif1.0", &mac.to_string(), &format!("{address}/24"));
    port.plug().expect("plugged");
    sh("ip -n a route add default via 10.87.0.1");
    assert!(comes_to_reach("a", "10.87.0.1"), "the host");
    assert!(reaches("a", "198.51.100.1"), "the world");
    nat::ensure(settings.nat).expect("again");
    assert!(reaches("a", "198.51.100.1"), "the world, set up twice");
    sh("ip -n world route add 10.87.0.0/24 via 198.51.100.2");
    assert!(!reaches("world", &address.to_string()), "no way in");
    port::unplug("vif1.0", NAT_BRIDGE, Some(mac)).expect("unplugged");
    assert!(sh("ls /run/xen/net/nat").is_empty(), "its address is free");
}

#[test]
fn vlans_are_kept_apart() {
    if !inside("vlans_are_kept_apart") {
        return;
    }
    private_network();
    let settings = Settings::default();
    if !succeeds("ip link add probe0 type bridge vlan_filtering 1") {
        eprintln!("skipped: this kernel's bridges know no VLANs");
        return;
    }
    sh(
        "ip link add plain0 type bridge && ip link add xenbr9 type bridge vlan_filtering 1 && ip link set xenbr9 up",
    );
    let error = Port::plan(&vif("bridge=plain0,vlan=10"), Mac([2; 6]), 1, 0, &settings)
        .expect_err("not there");
    assert!(error.to_string().contains("vlan_filtering"), "{error}");
    let error =
        Port::plan(&vif("bridge=none0"), Mac([2; 6]), 1, 0, &settings).expect_err("not there");
    assert!(error.to_string().contains("no bridge none0"), "{error}");
    for (n, vlan) in [(1u8, "10"), (2, "10"), (3, "20")] {
        guest(
            &format!("g{n}"),
            &format!("vif{n}.0"),
            &format!("00:16:3e:00:00:0{n}"),
            &format!("10.9.0.{n}/24"),
        );
        let mac = Mac([0, 0x16, 0x3e, 0, 0, n]);
        let spec = vif(&format!("bridge=xenbr9,vlan={vlan}"));
        Port::plan(&spec, mac, n.into(), 0, &settings)
            .expect("a plan")
            .plug()
            .expect("plugged");
    }
    assert!(comes_to_reach("g1", "10.9.0.2"), "in the same VLAN");
    assert!(!reaches("g1", "10.9.0.3"), "in another");
}

#[test]
fn devices_are_awaited() {
    if !inside("devices_are_awaited") {
        return;
    }
    private_network();
    let late = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(300));
        sh("ip link add late0 type veth peer name late1");
    });
    let mut links = Links::open().expect("a socket");
    let link = links
        .wait_for("late0", Duration::from_secs(20))
        .expect("it comes");
    late.join().expect("no panic");
    let error = links
        .wait_for("never0", Duration::from_millis(100))
        .expect_err("never");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let change = Change {
        mtu: Some(1400),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        up: Some(true),
        ..Change::default()
    };
    links.change(link.index, &change).expect("changed");
    assert_eq!(
        links.find("late0").expect("an answer").expect("there").mtu,
        1400
    );
    links.remove("late0").expect("removed");
    links.remove("late0").expect("once more is no error");
    assert_eq!(links.find("late0").expect("an answer"), None);
    sh("ip link add xmnat0 type veth peer name xm1");
    assert!(
        links.make_bridge("xmnat0", Mac([2; 6])).is_err(),
        "no bridge of that name"
    );
}
