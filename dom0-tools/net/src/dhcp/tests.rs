//! Tests of this module.

use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [0, 0x16, 0x3e, 1, 2, 3];
const MINE: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 5);

fn service() -> Service {
    Service {
        subnet: "10.87.0.1/24".parse().expect("a subnet"),
        name_servers: vec![Ipv4Addr::new(10, 0, 2, 3)],
        mtu: 1500,
    }
}

fn request(kind: DhcpMessageType) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: EthernetAddress(MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

/// The kind and address of the reply.
fn ask(request: &DhcpRepr<'_>) -> Option<(DhcpMessageType, Ipv4Addr)> {
    let mut bytes = vec![0; request.buffer_len()];
    request
        .emit(&mut DhcpPacket::new_unchecked(&mut bytes[..]))
        .expect("it fits");
    let known = |mac: Mac| (mac == Mac(MAC)).then_some(MINE);
    let answer = service().answer(&bytes, known)?;
    let packet = DhcpPacket::new_checked(&answer[..]).expect("a packet");
    let answer = DhcpRepr::parse(&packet).expect("an answer");
    assert_eq!(answer.transaction_id, 0x1234_5678);
    assert_eq!(answer.server_identifier, Some(service().subnet.host));
    if answer.message_type != DhcpMessageType::Nak {
        assert_eq!(answer.router, Some(service().subnet.host));
        assert_eq!(answer.dns_servers.as_ref().map(|list| list.len()), Some(1));
    }
    Some((answer.message_type, answer.your_ip))
}

#[test]
fn the_usual_way() {
    let offer = ask(&request(DhcpMessageType::Discover));
    assert_eq!(offer, Some((DhcpMessageType::Offer, MINE)));
    let mut choose = request(DhcpMessageType::Request);
    choose.requested_ip = Some(MINE);
    choose.server_identifier = Some(service().subnet.host);
    assert_eq!(ask(&choose), Some((DhcpMessageType::Ack, MINE)));
    let mut renew = request(DhcpMessageType::Request);
    renew.client_ip = MINE;
    assert_eq!(ask(&renew), Some((DhcpMessageType::Ack, MINE)));
}

#[test]
fn what_is_not_ours() {
    let mut other = request(DhcpMessageType::Request);
    other.requested_ip = Some(Ipv4Addr::new(10, 87, 0, 6));
    let none = Ipv4Addr::UNSPECIFIED;
    assert_eq!(ask(&other), Some((DhcpMessageType::Nak, none)));
    let mut elsewhere = request(DhcpMessageType::Request);
    elsewhere.server_identifier = Some(Ipv4Addr::new(10, 87, 0, 9));
    assert_eq!(ask(&elsewhere), None);
    let mut stranger = request(DhcpMessageType::Discover);
    stranger.client_hardware_address = EthernetAddress([2; 6]);
    assert_eq!(ask(&stranger), None);
    assert_eq!(ask(&request(DhcpMessageType::Release)), None);
    assert_eq!(service().answer(&[1; 40], |_| Some(MINE)), None);
}

#[test]
fn servers_of_a_resolv_conf() {
    let text = "# x\nsearch a\nnameserver 127.0.0.53\nnameserver 10.0.2.3\n nameserver fe80::1\n";
    assert_eq!(name_servers(text), [Ipv4Addr::new(10, 0, 2, 3)]);
}

proptest! {
    #[test]
    fn no_datagram_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        // Let most get past the first look.
        if let Some(cookie) = bytes.get_mut(236..240) {
            cookie.copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        }
        if let Some(start) = bytes.get_mut(0..3) {
            start.copy_from_slice(&[1, 1, 6]);
        }
        let _ = service().answer(&bytes, |_| Some(MINE));
    }
}
