//! The rules of the toolset's networks, in tables called `oxen` (`nft list ruleset` shows them), by
//! nfnetlink. Each change is one transaction of the kernel: all of it, or nothing.
//!
//! - table `ip oxen`: the NAT network's way out, and no uninvited way in;
//! - table `netdev oxen`: a chain for each guarded card, named after its device. It sees each frame
//!   that the guest sends before the bridge does.

use crate::Mac;
use crate::expression::{
    ACCEPT, ARP_SENDER_IP, ARP_SENDER_MAC, DROP, ETHER_SOURCE, Expression, ICMP6_TARGET,
    ICMP6_TYPE, IP_DESTINATION, IP_PROTOCOL, IP_SOURCE, IP6_NEXT_HEADER, IP6_SOURCE, Key, Op,
    PORTS, device, is_uninvited, masquerade, meta, network, payload, verdict,
};
use crate::netlink::Netlink;
use crate::network::Subnet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DevHookNumber, Hook, InetHookNumber, NfTablesMessage,
    RuleAttribute, RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

const TABLE: &str = "oxen";
/// Names of nftables' subsystem and of priorities (linux/netfilter/nfnetlink.h,
/// linux/netfilter_ipv4.h).
const NFTABLES: u16 = 10;
const SOURCE_NAT: u32 = 100;

const ARP: [u8; 2] = [0x08, 0x06];
const IP4: [u8; 2] = [0x08, 0x00];
const IP6: [u8; 2] = [0x86, 0xdd];
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// From a DHCP client to a server.
const DHCP_PORTS: [u8; 4] = [0, 68, 0, 67];

/// The addresses that a guest may use as its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    pub mac: Mac,
    /// None: any address.
    pub addresses: Option<Vec<IpAddr>>,
}

/// The kernel's packet filter.
pub struct Firewall {
    netlink: Netlink,
}

impl Firewall {
    /// # Errors
    /// `io::Error` if the kernel refuses the socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_NETFILTER).map_err(explain)?,
        })
    }

    /// Sets the rules of the NAT network, in place of previous ones.
    ///
    /// # Errors
    /// `io::Error` if the kernel refuses, as when a module is missing.
    pub fn set_nat(&mut self, bridge: &str, subnet: Subnet) -> io::Result<()> {
        let mut change = Transaction::new(NetfilterProtoFamily::IPv4);
        change.table();
        change.chain(
            "postrouting",
            "nat",
            inet(InetHookNumber::PostRouting, SOURCE_NAT),
        );
        change.chain("forward", "filter", inet(InetHookNumber::Forward, 0));
        let (mask, base) = (subnet.mask().octets(), subnet.base().octets());
        change.rule(
            "postrouting",
            [
                network(IP_SOURCE, Op::Equal, mask, base),
                network(IP_DESTINATION, Op::NotEqual, mask, base),
                device(Key::Oifname, Op::NotEqual, bridge),
                masquerade(),
            ],
        );
        change.rule(
            "forward",
            [
                device(Key::Oifname, Op::Equal, bridge),
                device(Key::Iifname, Op::NotEqual, bridge),
                is_uninvited(),
                verdict(DROP),
            ],
        );
        self.commit(change)
    }

    /// Sets a guard that passes only frames that a card's guest may send.
    ///
    /// # Errors
    /// `io::Error` if the kernel refuses, as when there is no such device or a module is missing.
    pub fn set_guard(&mut self, port: &str, guard: &Guard) -> io::Result<()> {
        let mut change = Transaction::new(NetfilterProtoFamily::NetDev);
        change.table();
        let hook = vec![
            Hook::Number(DevHookNumber::Ingress.into()),
            Hook::Priority(0),
            Hook::NetDeviceName(port.to_owned()),
        ];
        change.chain(port, "filter", hook);
        for rule in guard_rules(guard) {
            change.rule(port, [rule]);
        }
        self.commit(change)
    }

    fn commit(&mut self, change: Transaction) -> io::Result<()> {
        self.netlink.ask_at_once(change.finish()).map_err(explain)
    }
}

/// Removes a card's guard. No error if there is none, or if the kernel supports none.
///
/// # Errors
/// `io::Error` of the kernel.
pub fn remove_guard(port: &str) -> io::Result<()> {
    let attributes = vec![
        ChainAttribute::Table(TABLE.to_owned()),
        ChainAttribute::Name(port.to_owned()),
    ];
    let mut change = Transaction::new(NetfilterProtoFamily::NetDev);
    change.add(NfTablesMessage::DeleteChain(ChainMessage { attributes }), 0);
    let removed = Netlink::open(NETLINK_NETFILTER)
        .and_then(|mut netlink| netlink.ask_at_once(change.finish()));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_unknown(&error) => Ok(()),
        other => other,
    }
}

/// The kernel does not know the object.
fn is_unknown(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::OPNOTSUPP, Errno::PROTONOSUPPORT].contains(&errno))
}

fn explain(error: io::Error) -> io::Error {
    match is_unknown(&error) {
        true => io::Error::other(
            "this kernel has not all that nftables needs (modules nf_tables, nft_masq, nft_ct)",
        ),
        false => error,
    }
}

fn inet(hook: InetHookNumber, priority: u32) -> Vec<Hook> {
    vec![Hook::Number(hook.into()), Hook::Priority(priority)]
}

/// The last rule drops every frame that no other rule accepts.
fn guard_rules(guard: &Guard) -> Vec<Vec<Expression>> {
    let mac = &guard.mac.0;
    let protocol = |kind: [u8; 2]| meta(Key::EtherTypeProtocol, Op::Equal, &kind);
    let drop = || verdict(DROP);
    let accept = || verdict(ACCEPT);
    let forged_arp = payload(ARP_SENDER_MAC, Op::NotEqual, mac);
    let mut rules = vec![
        [payload(ETHER_SOURCE, Op::NotEqual, mac), drop()].concat(),
        [protocol(ARP), forged_arp, drop()].concat(),
    ];
    let Some(addresses) = &guard.addresses else {
        return rules;
    };
    let ip4 = |address: &IpAddr| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    };
    let mut ip6: Vec<_> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        })
        .collect();
    for address in addresses.iter().filter_map(ip4) {
        let source = address.octets();
        let arp = payload(ARP_SENDER_IP, Op::Equal, &source);
        let packet = payload(IP_SOURCE, Op::Equal, &source);
        rules.push([protocol(ARP), arp, accept()].concat());
        rules.push([protocol(IP4), packet, accept()].concat());
    }
    // A guest without an address may probe whether one is free, and request one.
    let nobody = Ipv4Addr::UNSPECIFIED.octets();
    let probe = payload(ARP_SENDER_IP, Op::Equal, &nobody);
    rules.push([protocol(ARP), probe, accept()].concat());
    rules.push(
        [
            protocol(IP4),
            payload(IP_SOURCE, Op::Equal, &nobody),
            payload(IP_PROTOCOL, Op::Equal, &[UDP]),
            payload(PORTS, Op::Equal, &DHCP_PORTS),
            accept(),
        ]
        .concat(),
    );
    if !ip6.is_empty() {
        ip6.push(guard.mac.link_local());
        let advertisement = || {
            [
                protocol(IP6),
                payload(IP6_NEXT_HEADER, Op::Equal, &[ICMP6]),
                payload(ICMP6_TYPE, Op::Equal, &[NEIGHBOUR_ADVERTISEMENT]),
            ]
            .concat()
        };
        for address in &ip6 {
            let target = payload(ICMP6_TARGET, Op::Equal, &address.octets());
            rules.push([advertisement(), target, accept()].concat());
        }
        rules.push([advertisement(), drop()].concat());
        for source in ip6.iter().map(|it| it.octets()).chain([[0; 16]]) {
            let packet = payload(IP6_SOURCE, Op::Equal, &source);
            rules.push([protocol(IP6), packet, accept()].concat());
        }
    }
    rules.push(drop());
    rules
}

/// Messages that the kernel takes as one transaction.
struct Transaction {
    family: NetfilterProtoFamily,
    messages: Vec<(NetfilterMessage, u16)>,
}

impl Transaction {
    fn new(family: NetfilterProtoFamily) -> Self {
        let mut new = Self {
            family,
            messages: Vec::new(),
        };
        new.mark(ControlMessage::BatchBegin);
        new
    }

    fn mark(&mut self, mark: ControlMessage) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES);
        self.messages.push((NetfilterMessage::new(header, mark), 0));
    }

    fn add(&mut self, message: NfTablesMessage, flags: u16) {
        let header = NetfilterHeader::new(self.family, 0, 0);
        let message = NetfilterMessage::new(header, message);
        self.messages.push((message, flags | NLM_F_ACK));
    }

    fn table(&mut self) {
        let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
        self.add(
            NfTablesMessage::NewTable(TableMessage { attributes }),
            NLM_F_CREATE,
        );
    }

    /// The chain, empty.
    fn chain(&mut self, name: &str, kind: &str, hook: Vec<Hook>) {
        let attributes = vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Policy(ACCEPT),
            ChainAttribute::Type(kind.to_owned()),
        ];
        self.add(
            NfTablesMessage::NewChain(ChainMessage { attributes }),
            NLM_F_CREATE,
        );
        self.add(NfTablesMessage::DeleteRule(rules_of(name)), 0);
    }

    fn rule(&mut self, chain: &str, words: impl IntoIterator<Item = Vec<Expression>>) {
        let words = words.into_iter().flatten().collect();
        let mut message = rules_of(chain);
        message.attributes.push(RuleAttribute::Expressions(words));
        self.add(
            NfTablesMessage::NewRule(message),
            NLM_F_CREATE | NLM_F_APPEND,
        );
    }

    fn finish(mut self) -> Vec<(NetfilterMessage, u16)> {
        self.mark(ControlMessage::BatchEnd);
        self.messages
    }
}

fn rules_of(chain: &str) -> RuleMessage {
    let attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
    ];
    RuleMessage { attributes }
}
