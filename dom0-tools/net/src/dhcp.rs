//! The answers of a DHCP server (RFC 2131) that knows all its clients beforehand: nothing is
//! negotiated, each card has one address.

use crate::Mac;
use crate::network::Subnet;
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// Guests ask again after half of it, so a network that is set up anew reaches them.
const LEASE_SECONDS: u32 = 3600;
/// Options that smoltcp does not know.
const OPTION_BROADCAST: u8 = 28;
const OPTION_MTU: u8 = 26;
/// As many name servers as smoltcp passes on.
const MAX_SERVERS: usize = 3;

/// The settings that all clients share.
#[derive(Debug, Clone)]
pub struct Service {
    pub subnet: Subnet,
    pub name_servers: Vec<Ipv4Addr>,
    pub mtu: u16,
}

impl Service {
    /// The answer to a datagram, if it gets one. `address_of` knows the clients.
    pub fn answer(
        &self,
        datagram: &[u8],
        address_of: impl FnOnce(Mac) -> Option<Ipv4Addr>,
    ) -> Option<Vec<u8>> {
        let packet = DhcpPacket::new_checked(datagram).ok()?;
        let asked = DhcpRepr::parse(&packet).ok()?;
        let address = address_of(Mac(asked.client_hardware_address.0))?;
        let host = self.subnet.host;
        // Meant for another server.
        if asked.server_identifier.is_some_and(|server| server != host) {
            return None;
        }
        let kind = match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Inform => DhcpMessageType::Ack,
            DhcpMessageType::Request => {
                // What it asks for while it has none, or what it uses already.
                let wanted = asked.requested_ip.unwrap_or(asked.client_ip);
                if wanted == address {
                    DhcpMessageType::Ack
                } else {
                    DhcpMessageType::Nak
                }
            }
            _ => return None,
        };
        self.reply(kind, &asked, address)
    }

    fn reply(
        &self,
        kind: DhcpMessageType,
        asked: &DhcpRepr<'_>,
        address: Ipv4Addr,
    ) -> Option<Vec<u8>> {
        let host = self.subnet.host;
        let none = Ipv4Addr::UNSPECIFIED;
        let refused = kind == DhcpMessageType::Nak;
        let informs = asked.message_type == DhcpMessageType::Inform;
        let broadcast = self.subnet.broadcast().octets();
        let mtu = self.mtu.to_be_bytes();
        let options = [
            DhcpOption {
                kind: OPTION_BROADCAST,
                data: &broadcast,
            },
            DhcpOption {
                kind: OPTION_MTU,
                data: &mtu,
            },
        ];
        let servers = self
            .name_servers
            .iter()
            .copied()
            .take(MAX_SERVERS)
            .collect();
        let lease = (!refused && !informs).then_some(LEASE_SECONDS);
        let reply = DhcpRepr {
            message_type: kind,
            transaction_id: asked.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(asked.client_hardware_address.0),
            client_ip: if refused { none } else { asked.client_ip },
            your_ip: if refused || informs { none } else { address },
            server_ip: none,
            router: (!refused).then_some(host),
            subnet_mask: (!refused).then_some(self.subnet.mask()),
            relay_agent_ip: none,
            broadcast: asked.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(host),
            parameter_request_list: None,
            dns_servers: (!refused && !self.name_servers.is_empty()).then_some(servers),
            max_size: None,
            lease_duration: lease,
            renew_duration: None,
            rebind_duration: None,
            additional_options: if refused { &[] } else { &options },
        };
        let mut bytes = vec![0; reply.buffer_len()];
        let mut packet = DhcpPacket::new_unchecked(&mut bytes[..]);
        reply.emit(&mut packet).ok()?;
        // Old clients want no less than a BOOTP message (RFC 1542, 2.1).
        bytes.resize(bytes.len().max(300), 0);
        Some(bytes)
    }
}

/// The name servers of a resolv.conf(5) that guests can reach: the host's own loopback they cannot.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok())
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .take(MAX_SERVERS)
        .collect()
}

#[cfg(test)]
mod tests {
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

    /// The kind and address of the answer.
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
        let text =
            "# x\nsearch a\nnameserver 127.0.0.53\nnameserver 10.0.2.3\n nameserver fe80::1\n";
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
}
