//! Bounded walks of the two capability lists of a function (PCI 3.0 section 6.7, PCIe "Extended
//! Capabilities"). A list that loops or leaves its space ends there.

use alloc::vec::Vec;

use super::host::{PciHost, Sbdf};
use super::regs::*;

/// One capability: where it starts, and its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Capability {
    pub(super) at: u16,
    pub(super) id: u16,
}

/// 48 is all that fit between 0x40 and 0xff.
const MAX_LEGACY: usize = 48;
/// As above for 0x100 to 0xfff, each at least 8 bytes.
const MAX_EXTENDED: usize = 480;

/// `head` is the register that points to the first one.
pub(super) fn legacy(sbdf: Sbdf, head: u16, host: &mut impl PciHost) -> Vec<Capability> {
    let mut list: Vec<Capability> = Vec::new();
    let status = host.config_read(sbdf, STATUS, 2);
    if status == 0xffff || status & STATUS_CAP_LIST == 0 {
        return list;
    }
    let mut at = host.config_read(sbdf, head, 1) as u16 & 0xfc;
    while at >= 0x40 && list.len() < MAX_LEGACY && !list.iter().any(|c| c.at == at) {
        let header = host.config_read(sbdf, at, 2) as u16;
        list.push(Capability {
            at,
            id: header & 0xff,
        });
        at = header >> 8 & 0xfc;
    }
    list
}

pub(super) fn extended(sbdf: Sbdf, host: &mut impl PciHost) -> Vec<Capability> {
    let mut list: Vec<Capability> = Vec::new();
    let mut at = 0x100;
    while at >= 0x100 && list.len() < MAX_EXTENDED && !list.iter().any(|c| c.at == at) {
        let header = host.config_read(sbdf, at, 4);
        if header == 0 || header == u32::MAX {
            break;
        }
        list.push(Capability {
            at,
            id: header as u16,
        });
        at = (header >> 20) as u16 & 0xffc;
    }
    list
}
