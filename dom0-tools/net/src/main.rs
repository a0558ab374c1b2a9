//! xnetd, the DHCP service of the NAT network.
#![forbid(unsafe_code)]
#![warn(unreachable_pub, unused_qualifications)]
#![warn(clippy::wildcard_imports, clippy::allow_attributes)]

use clap::Parser;
use oxen_net::dhcp::{Service, name_servers};
use oxen_net::lease::{DIRECTORY, Leases};
use oxen_net::link::{Link, Links, News};
use oxen_net::network::{NAT_BRIDGE, SETTINGS, Settings};
use oxen_net::{Error, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// How often the network's presence is checked, besides the kernel's notifications.
const LOOK: Duration = Duration::from_secs(30);

/// Tells guests on the NAT network their addresses (DHCP).
///
/// Runs in the foreground, in the privileged domain. The network is made when the first guest is
/// put on it; until then this waits. It keeps nothing: addresses are chosen by xmd, and read here.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The directory of the addresses given away
    #[arg(long, default_value = DIRECTORY)]
    leases: PathBuf,
    /// The host's settings
    #[arg(long, default_value = SETTINGS)]
    settings: PathBuf,
    /// Where the host's name servers stand
    #[arg(long, default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// The bridge that is served
    #[arg(long, default_value = NAT_BRIDGE)]
    bridge: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let error = match run(&args) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("xnetd: {error}");
    ExitCode::FAILURE
}

enum Never {}

fn run(args: &Args) -> Result<Never> {
    loop {
        let settings = Settings::read(&args.settings)?;
        let bridge = wait_for_bridge(&args.bridge)
            .map_err(|error| Error::new("cannot ask the kernel for its devices", error))?;
        let serve = serve(args, &settings, &bridge);
        if let Err(error) = serve {
            eprintln!("xnetd: {}: {error}", args.bridge);
        }
    }
}

fn wait_for_bridge(name: &str) -> io::Result<Link> {
    let news = News::listen()?;
    let mut links = Links::open()?;
    loop {
        if let Some(link) = links.find(name)? {
            return Ok(link);
        }
        news.wait(LOOK)?;
    }
}

/// Serves until the bridge is gone or replaced, which is the error.
fn serve(args: &Args, settings: &Settings, bridge: &Link) -> io::Result<()> {
    let socket = listen(&args.bridge)?;
    let leases = Leases::new(&args.leases);
    eprintln!("xnetd: serves {} on {}", settings.nat, args.bridge);
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let now = Links::open()?.find(&args.bridge)?;
                if now.is_none_or(|now| now.index != bridge.index) {
                    return Err(io::Error::other("the bridge is gone"));
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let service = Service {
            subnet: settings.nat,
            name_servers: name_servers(
                &std::fs::read_to_string(&args.resolv_conf).unwrap_or_default(),
            ),
            mtu: u16::try_from(bridge.mtu).unwrap_or(1500),
        };
        let known = |mac| leases.find(mac).ok().flatten();
        if let Some(answer) = service.answer(&buffer[..length], known) {
            // A client without an address can be reached by broadcast only.
            let to = match from.ip() {
                std::net::IpAddr::V4(address) if !address.is_unspecified() => address,
                _ => Ipv4Addr::BROADCAST,
            };
            if let Err(error) = socket.send_to(&answer, SocketAddrV4::new(to, CLIENT_PORT)) {
                eprintln!("xnetd: cannot answer {to}: {error}");
            }
        }
    }
}

fn listen(bridge: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(bridge.as_bytes()))?;
    socket.set_read_timeout(Some(LOOK))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER_PORT).into())?;
    Ok(socket.into())
}
