//! Network interfaces, as in xl-network-configuration(5): `mac=...,bridge=...`, and what xm's files
//! say besides (`type=ioemu`, `accel=`), which is taken and has no effect. `network=` and
//! `antispoof=` are Oxen's own.

use super::pair;
use super::vlan::Vlans;
use serde::{Deserialize, Serialize};

/// One virtual interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VifSpec {
    /// Chosen by the daemon when absent.
    pub mac: Option<[u8; 6]>,
    pub bridge: Option<String>,
    /// Instead of a bridge: a network that the toolset makes.
    pub network: Option<VifNetwork>,
    pub vlan: Option<Vlans>,
    pub antispoof: Option<AntiSpoof>,
    pub gatewaydev: Option<String>,
    /// The interface's name in the backend.
    pub vifname: Option<String>,
    pub script: Option<String>,
    pub ip: Vec<String>,
    pub backend: Option<String>,
    pub model: Option<String>,
    pub rate: Option<Rate>,
    pub mtu: Option<u32>,
    pub devid: Option<u32>,
    /// Whether the guest may trust its backend.
    pub trusted: Option<bool>,
}

/// A network that the toolset makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VifNetwork {
    /// With DHCP, and a way out under the host's address.
    Nat,
    /// Of guests only, by name.
    Private(String),
}

/// Which of its own addresses a guest cannot forge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AntiSpoof {
    #[default]
    No,
    Mac,
    /// The card's MAC address and its IP addresses.
    Ip,
}

/// A limit on what the guest sends: so many bytes in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub bytes: u64,
    pub interval_us: u32,
}

/// Parses one specification; the empty one is an interface with all defaults.
///
/// # Errors
/// A `String` that names the part that is wrong.
pub fn parse(text: &str) -> Result<VifSpec, String> {
    let mut vif = VifSpec::default();
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let (key, Some(value)) = pair(word) else {
            return Err(format!("{word:?} is not of the form key=value"));
        };
        let text = Some(value.to_owned());
        match key {
            "mac" => vif.mac = Some(parse_mac(value)?),
            "bridge" => vif.bridge = text,
            "network" => vif.network = Some(parse_network(value)?),
            "vlan" => vif.vlan = Some(value.parse()?),
            "antispoof" => vif.antispoof = Some(parse_antispoof(value)?),
            "gatewaydev" => vif.gatewaydev = text,
            "vifname" => vif.vifname = Some(check_ifname(value)?),
            "script" => vif.script = text,
            "ip" => {
                vif.ip = value
                    .split_whitespace()
                    .map(check_ip)
                    .collect::<Result<_, _>>()?
            }
            "backend" => vif.backend = text,
            "model" => vif.model = text,
            "rate" => vif.rate = Some(parse_rate(value)?),
            "mtu" => vif.mtu = Some(number(key, value, 68, 65535)?),
            "devid" => vif.devid = Some(number(key, value, 0, 0xffff)?),
            "trusted" => vif.trusted = Some(number(key, value, 0, 1)? == 1),
            "type" if matches!(value, "vif" | "ioemu" | "netfront") => {}
            "type" => return Err(format!("type={value} is neither vif nor ioemu")),
            // Accepted and without effect: emulated cards and accelerations of long ago.
            "accel" | "policy" | "uuid" | "forwarddev" => {}
            _ => return Err(format!("unknown vif option {key:?}")),
        }
    }
    if vif.bridge.is_some() && vif.network.is_some() {
        return Err("bridge= and network= exclude each other".to_owned());
    }
    Ok(vif)
}

fn parse_network(text: &str) -> Result<VifNetwork, String> {
    /// The bridge's name is a little longer, and an interface's has 15 characters at most.
    const LONGEST: usize = 11;
    match text.split_once(':') {
        None if text == "nat" => Ok(VifNetwork::Nat),
        Some(("private", name))
            if (1..=LONGEST).contains(&name.len())
                && name
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_') =>
        {
            Ok(VifNetwork::Private(name.to_owned()))
        }
        _ => Err(format!(
            "network={text} is neither nat nor private:NAME (1 to {LONGEST} letters and digits)"
        )),
    }
}

fn parse_antispoof(text: &str) -> Result<AntiSpoof, String> {
    match text {
        "no" | "0" => Ok(AntiSpoof::No),
        "mac" => Ok(AntiSpoof::Mac),
        "ip" | "yes" | "1" => Ok(AntiSpoof::Ip),
        _ => Err(format!("antispoof={text} is none of no, mac and ip")),
    }
}

/// An address, perhaps with the length of its network.
fn check_ip(text: &str) -> Result<String, String> {
    let address = text.split('/').next().unwrap_or_default();
    match address.parse::<core::net::IpAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("ip={text} is no address")),
    }
}

fn number(key: &str, value: &str, least: u32, most: u32) -> Result<u32, String> {
    match value.parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!(
            "{key}={value} is not a number from {least} to {most}"
        )),
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("{text:?} is not a MAC address (as in 00:16:3e:12:34:56)");
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().ok_or_else(wrong)?;
        if part.is_empty() || part.len() > 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() {
        return Err(wrong());
    }
    if mac[0] & 1 != 0 {
        return Err(format!(
            "{text} is a multicast address: the first byte must be even"
        ));
    }
    Ok(mac)
}

/// Linux takes names of 1 to 15 bytes without `/` or blanks.
fn check_ifname(name: &str) -> Result<String, String> {
    let good =
        (1..=15).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if good && name != "." && name != ".." {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "vifname={name} is no interface name (1 to 15 characters)"
        ))
    }
}

/// `10Mb/s`, `250KB/s`, `1GB/s@20ms`: bits with a small b, bytes with a large one.
fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("rate={text} is not of the form 10Mb/s or 1MB/s@20ms");
    let (amount, interval) = text.split_once('@').unwrap_or((text, "50ms"));
    let amount = amount.strip_suffix("/s").ok_or_else(wrong)?;
    let (digits, unit) = amount.split_at(
        amount
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(wrong)?,
    );
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let (scale, bits) = match unit {
        "b" => (1, true),
        "Kb" => (1000, true),
        "Mb" => (1_000_000, true),
        "Gb" => (1_000_000_000, true),
        "B" => (1, false),
        "KB" => (1000, false),
        "MB" => (1_000_000, false),
        "GB" => (1_000_000_000, false),
        _ => return Err(wrong()),
    };
    let per_second = number.checked_mul(scale).ok_or_else(wrong)? / if bits { 8 } else { 1 };
    let (digits, scale) = match interval {
        i if i.ends_with("us") => (i.trim_end_matches("us"), 1),
        i if i.ends_with("ms") => (i.trim_end_matches("ms"), 1000),
        i => (i.strip_suffix('s').ok_or_else(wrong)?, 1_000_000),
    };
    let interval: u32 = digits
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(wrong)?;
    let bytes = u64::try_from(u128::from(per_second) * u128::from(interval) / 1_000_000)
        .map_err(|_| wrong())?;
    if bytes == 0 {
        return Err(format!("rate={text} lets nothing through"));
    }
    Ok(Rate {
        bytes,
        interval_us: interval,
    })
}

#[cfg(test)]
mod tests;
