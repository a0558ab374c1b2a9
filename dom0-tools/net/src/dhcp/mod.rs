//! The replies of a DHCP server (RFC 2131) that knows all its clients beforehand: nothing is
//! negotiated, each card has one address.

use crate::Mac;
use crate::network::Subnet;
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// Guests renew after half of the time, so a change of the network reaches them.
const LEASE_SECONDS: u32 = 3600;
/// Options that smoltcp does not know.
const OPTION_BROADCAST: u8 = 28;
const OPTION_MTU: u8 = 26;
/// The most name servers that smoltcp passes on.
const MAX_SERVERS: usize = 3;

/// The settings that all clients share.
#[derive(Debug, Clone)]
pub struct Service {
    pub subnet: Subnet,
    pub name_servers: Vec<Ipv4Addr>,
    pub mtu: u16,
}

impl Service {
    /// The reply to a datagram, if there is one. `address_of` knows the clients.
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
                // The address that the client requests while it has none, or the one that it uses
                // already.
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

/// The name servers of a resolv.conf(5) that guests can reach: the host's loopback address is left
/// out.
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
mod tests;
