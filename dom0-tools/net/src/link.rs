//! Network devices and bridges, by rtnetlink(7).

use crate::Mac;
use crate::netlink::Netlink;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// The kernel's multicast group for devices that come, change and go.
const GROUP_LINK: u32 = 1;
/// The VLAN that a bridge puts every new port into.
const DEFAULT_VLAN: u16 = 1;

/// The properties of a network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub mtu: u32,
    /// The index of the bridge whose port the device is.
    pub bridge: Option<u32>,
    /// Whether a bridge separates VLANs; `None` for other devices.
    pub vlan_filtering: Option<bool>,
}

impl Link {
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.vlan_filtering.is_some()
    }
}

/// A change of a device. Properties that are `None` stay.
#[derive(Debug, Clone, Default)]
pub struct Change<'a> {
    /// A new name; the device must be down.
    pub name: Option<&'a str>,
    pub mtu: Option<u32>,
    pub mac: Option<Mac>,
    /// The index of the bridge whose port the device becomes.
    pub bridge: Option<u32>,
    pub up: Option<bool>,
}

/// The kernel's devices.
pub struct Links {
    netlink: Netlink,
}

impl Links {
    /// # Errors
    /// `io::Error` if the kernel refuses the socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_ROUTE)?,
        })
    }

    /// # Errors
    /// `io::Error` of the kernel, but not if there is no such device.
    pub fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        match self
            .netlink
            .ask_for(RouteNetlinkMessage::GetLink(message), 0)
        {
            Ok(Some(RouteNetlinkMessage::NewLink(answer))) => Ok(Some(read(&answer))),
            Ok(_) => Err(io::Error::other("the kernel's answer is of another kind")),
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is such a device.
    ///
    /// # Errors
    /// `io::Error` if the device does not appear in time, or of the kernel.
    pub fn wait_for(&mut self, name: &str, limit: Duration) -> io::Result<Link> {
        let news = News::listen()?;
        let end = Instant::now() + limit;
        loop {
            if let Some(link) = self.find(name)? {
                return Ok(link);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            news.wait(left)?;
        }
    }

    /// Makes a bridge, or finds an existing one.
    ///
    /// # Errors
    /// `io::Error` of the kernel, or if another kind of device has that name.
    pub fn make_bridge(&mut self, name: &str, mac: Mac) -> io::Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            // A bridge keeps an address that is set here; else it would take that of a port.
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        let made = self.netlink.ask(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match self.find(name)? {
            Some(link) if link.is_bridge() => Ok(link),
            Some(_) => Err(io::Error::other(
                "there is a device of that name that is no bridge",
            )),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// # Errors
    /// `io::Error` of the kernel, but not if there is no such device.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        let Some(link) = self.find(name)? else {
            return Ok(());
        };
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        self.netlink.ask(RouteNetlinkMessage::DelLink(message), 0)
    }

    /// # Errors
    /// `io::Error` of the kernel.
    pub fn change(&mut self, index: u32, change: &Change<'_>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let name = change
            .name
            .map(|name| LinkAttribute::IfName(name.to_owned()));
        let mac = change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
        message.attributes = [
            name,
            change.mtu.map(LinkAttribute::Mtu),
            mac,
            change.bridge.map(LinkAttribute::Controller),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let Some(up) = change.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up {
                LinkFlags::Up
            } else {
                LinkFlags::empty()
            };
        }
        self.netlink.ask(RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Makes a bridge separate VLANs.
    ///
    /// # Errors
    /// `io::Error` of the kernel.
    pub fn filter_vlans(&mut self, bridge: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = bridge;
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])),
        ])];
        self.netlink.ask(RouteNetlinkMessage::NewLink(message), 0)
    }

    /// Puts a bridge port into these VLANs, and takes it out of the default one.
    ///
    /// # Errors
    /// `io::Error` of the kernel.
    pub fn set_vlans(
        &mut self,
        port: u32,
        untagged: Option<u16>,
        tagged: &[u16],
    ) -> io::Result<()> {
        let both = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        let all = untagged
            .map(|id| (id, both))
            .into_iter()
            .chain(tagged.iter().map(|id| (*id, BridgeVlanInfoFlags::empty())));
        if untagged != Some(DEFAULT_VLAN) && !tagged.contains(&DEFAULT_VLAN) {
            let none = BridgeVlanInfoFlags::empty();
            let message = vlan_message(port, DEFAULT_VLAN, none);
            self.netlink.ask(RouteNetlinkMessage::DelLink(message), 0)?;
        }
        for (id, flags) in all {
            let message = vlan_message(port, id, flags);
            self.netlink.ask(RouteNetlinkMessage::SetLink(message), 0)?;
        }
        Ok(())
    }

    /// The names of all devices.
    ///
    /// # Errors
    /// `io::Error` of the kernel.
    pub fn names(&mut self) -> io::Result<Vec<String>> {
        self.names_of(|_| true)
    }

    /// The names of a bridge's ports.
    ///
    /// # Errors
    /// `io::Error` of the kernel.
    pub fn ports(&mut self, bridge: u32) -> io::Result<Vec<String>> {
        let port = LinkAttribute::Controller(bridge);
        self.names_of(|link| link.attributes.contains(&port))
    }

    fn names_of(&mut self, wanted: impl Fn(&LinkMessage) -> bool) -> io::Result<Vec<String>> {
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut names = Vec::new();
        for answer in self.netlink.list(all)? {
            if let RouteNetlinkMessage::NewLink(link) = answer
                && wanted(&link)
            {
                names.extend(
                    link.attributes
                        .iter()
                        .find_map(|attribute| match attribute {
                            LinkAttribute::IfName(name) => Some(name.clone()),
                            _ => None,
                        }),
                );
            }
        }
        Ok(names)
    }

    /// Gives a device an address. No error if the device has it already.
    ///
    /// # Errors
    /// `io::Error` of the kernel.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self
            .netlink
            .ask(RouteNetlinkMessage::NewAddress(message), flags)
        {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}

fn vlan_message(port: u32, vid: u16, flags: BridgeVlanInfoFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = port;
    let vlan = AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
    message
        .attributes
        .push(LinkAttribute::AfSpecBridge(vec![vlan]));
    message
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        mtu: 0,
        bridge: None,
        vlan_filtering: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.bridge = Some(*index),
            LinkAttribute::LinkInfo(infos) => link.vlan_filtering = filtering(infos),
            _ => {}
        }
    }
    link
}

fn filtering(infos: &[LinkInfo]) -> Option<bool> {
    if !infos.contains(&LinkInfo::Kind(InfoKind::Bridge)) {
        return None;
    }
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
        _ => None,
    });
    let on = data
        .into_iter()
        .flatten()
        .any(|info| *info == InfoBridge::VlanFiltering(true));
    Some(on)
}

/// Notifications of devices that come, change or go.
pub struct News {
    socket: Socket,
}

impl News {
    /// # Errors
    /// `io::Error` if the kernel refuses the socket.
    pub fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(GROUP_LINK)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Returns at the next notification, or after that time.
    ///
    /// # Errors
    /// `io::Error` of the kernel.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(limit).ok();
        let mut set = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut set, timeout.as_ref()) {
            Err(Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        // The content does not matter: the caller looks for itself. Lost notifications count as
        // one.
        let mut buffer = Vec::with_capacity(4096);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0).map_err(errno) {
                Ok(_) | Err(Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
