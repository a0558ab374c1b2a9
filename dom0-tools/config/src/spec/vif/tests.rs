//! Tests of this module.

use super::*;
use proptest::prelude::*;

#[test]
fn usual_interfaces() {
    assert_eq!(parse(""), Ok(VifSpec::default()));
    let vif =
        parse("mac=00:16:3e:01:02:0a, bridge=xenbr0,vifname=web0,ip=10.0.0.1 10.0.0.2,mtu=1500")
            .expect("a vif");
    assert_eq!(vif.mac, Some([0, 0x16, 0x3e, 1, 2, 10]));
    assert_eq!(vif.bridge.as_deref(), Some("xenbr0"));
    assert_eq!(vif.ip, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        (vif.mtu, vif.vifname.as_deref()),
        (Some(1500), Some("web0"))
    );
}

#[test]
fn the_old_spelling_is_taken() {
    let vif = parse("type=ioemu, mac=00-16-3e-0-0-1, bridge=br0, accel=x").expect("a vif");
    assert_eq!(vif.mac, Some([0, 0x16, 0x3e, 0, 0, 1]));
}

#[test]
fn networks_of_our_own() {
    let vif = parse("network=private:blue,vlan=10p/20,antispoof=mac").expect("a vif");
    assert_eq!(vif.network, Some(VifNetwork::Private("blue".into())));
    assert_eq!(vif.vlan.map(|it| it.to_string()).as_deref(), Some("10p/20"));
    assert_eq!(vif.antispoof, Some(AntiSpoof::Mac));
    let nat = parse("network=nat").expect("a vif");
    assert_eq!(nat.network, Some(VifNetwork::Nat));
}

#[test]
fn rates() {
    let rate = |text| parse(text).map(|vif| vif.rate.map(|r| (r.bytes, r.interval_us)));
    assert_eq!(rate("rate=10Mb/s"), Ok(Some((62_500, 50_000))));
    assert_eq!(rate("rate=1MB/s@20ms"), Ok(Some((20_000, 20_000))));
    assert_eq!(rate("rate=250KB/s@1s"), Ok(Some((250_000, 1_000_000))));
    for bad in [
        "rate=fast",
        "rate=10",
        "rate=10Mb",
        "rate=1b/s",
        "rate=9999999999999999999GB/s",
        "rate=1MB/s@x",
    ] {
        assert!(rate(bad).is_err(), "{bad}");
    }
}

#[test]
fn mistakes_are_named() {
    for text in [
        "mac=1:2:3",
        "mac=01:00:00:00:00:00",
        "colour=red",
        "alone",
        "vifname=a/b",
        "type=x",
        "mtu=1",
        "network=foo",
        "network=private:",
        "network=private:much-too-long",
        "network=nat,bridge=br0",
        "antispoof=maybe",
        "vlan=5000",
        "ip=10.0.0",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_rate_panics(text in "[0-9]{0,20}[KMGbB]{0,2}/?s?@?[0-9]{0,11}[mu]?s?") {
        let _ = parse(&format!("rate={text}"));
    }
}
