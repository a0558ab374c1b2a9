//! Expressions of nftables' rules, as the kernel takes them: load a value into a register, compare,
//! end with a verdict (nft(8), "EXPRESSIONS").

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta,
    MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

pub(crate) type Expression = ListAttribute<ExpressionAttribute>;

pub(crate) use netlink_packet_netfilter::nftables::{MetaKey as Key, Operator as Op};

/// NF_DROP and NF_ACCEPT of linux/netfilter.h.
pub(crate) const DROP: u32 = 0;
pub(crate) const ACCEPT: u32 = 1;

/// The place of a field in a frame (`enum nft_payload_bases`), with offset and length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

pub(crate) const ETHER_SOURCE: Field = field(LINK, 6, 6);
pub(crate) const ARP_SENDER_MAC: Field = field(NETWORK, 8, 6);
pub(crate) const ARP_SENDER_IP: Field = field(NETWORK, 14, 4);
pub(crate) const IP_PROTOCOL: Field = field(NETWORK, 9, 1);
pub(crate) const IP_SOURCE: Field = field(NETWORK, 12, 4);
pub(crate) const IP_DESTINATION: Field = field(NETWORK, 16, 4);
pub(crate) const IP6_NEXT_HEADER: Field = field(NETWORK, 6, 1);
pub(crate) const IP6_SOURCE: Field = field(NETWORK, 8, 16);
/// Source and destination port.
pub(crate) const PORTS: Field = field(TRANSPORT, 0, 4);
pub(crate) const ICMP6_TYPE: Field = field(TRANSPORT, 0, 1);
pub(crate) const ICMP6_TARGET: Field = field(TRANSPORT, 8, 16);

const fn field(base: u32, offset: u32, length: u32) -> Field {
    Field {
        base,
        offset,
        length,
    }
}

const REGISTER: Register = Register::Reg1;

/// Loads part of the frame and compares it.
pub(crate) fn payload(field: Field, operator: Operator, value: &[u8]) -> Vec<Expression> {
    let load = Expressions::Payload(vec![
        Payload::DestinationRegister(REGISTER),
        Payload::Base(field.base),
        Payload::Offset(field.offset),
        Payload::Len(field.length),
    ]);
    vec![load.into(), compare(operator, value)]
}

/// Loads an IPv4 address and compares its network.
pub(crate) fn network(
    field: Field,
    operator: Operator,
    mask: [u8; 4],
    value: [u8; 4],
) -> Vec<Expression> {
    let mut words = payload(field, operator, &value);
    words.insert(1, bits(&mask));
    words
}

/// Loads a property of the packet and compares it.
pub(crate) fn meta(key: MetaKey, operator: Operator, value: &[u8]) -> Vec<Expression> {
    let load = Expressions::Meta(vec![Meta::DestinationRegister(REGISTER), Meta::Key(key)]);
    vec![load.into(), compare(operator, value)]
}

/// Compares the name of a device.
pub(crate) fn device(key: MetaKey, operator: Operator, name: &str) -> Vec<Expression> {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    meta(key, operator, &padded)
}

/// Matches packets of no known connection: neither established (2) nor related (4).
pub(crate) fn is_uninvited() -> Vec<Expression> {
    // NFTA_CT_DREG, and NFTA_CT_KEY with NFT_CT_STATE.
    let attributes = vec![
        DefaultNla::new(1, u32::from(REGISTER).to_be_bytes().to_vec()),
        DefaultNla::new(2, 0u32.to_be_bytes().to_vec()),
    ];
    let load = Expressions::Other {
        expression_type: "ct".to_owned(),
        attributes,
    };
    let zero = compare(Operator::Equal, &0u32.to_ne_bytes());
    vec![load.into(), bits(&6u32.to_ne_bytes()), zero]
}

pub(crate) fn verdict(code: u32) -> Vec<Expression> {
    let code = VerdictAttribute::Code(Verdict::Other(code));
    let set = Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![code])),
    ]);
    vec![set.into()]
}

/// Gives the packet the address of the device that it leaves by.
pub(crate) fn masquerade() -> Vec<Expression> {
    let masq = Expressions::Other {
        expression_type: "masq".to_owned(),
        attributes: Vec::new(),
    };
    vec![masq.into()]
}

fn compare(operator: Operator, value: &[u8]) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(REGISTER),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
    .into()
}

fn bits(mask: &[u8]) -> Expression {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(REGISTER),
        Bitwise::DestinationRegister(REGISTER),
        Bitwise::Length(u32::try_from(mask.len()).unwrap_or_default()),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
    ])
    .into()
}
