//! Which functions exist: a walk over all numbers, so that it needs no trust in bridges.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::host::{PciHost, Sbdf};
use super::regs::{HEADER_MULTI, HEADER_TYPE, VENDOR};

/// All functions of the buses given, in order. The hardware domain's devices, at boot.
pub fn scan(segment: u16, buses: RangeInclusive<u8>, host: &mut impl PciHost) -> Vec<Sbdf> {
    let mut found = Vec::new();
    for bus in buses {
        for device in 0..32 {
            let first = Sbdf::new(segment, bus, device, 0);
            if !answers(first, host) {
                continue;
            }
            found.push(first);
            if !is_multi(first, host) {
                continue;
            }
            for function in 1..8 {
                let sbdf = Sbdf::new(segment, bus, device, function);
                if answers(sbdf, host) {
                    found.push(sbdf);
                }
            }
        }
    }
    found
}

/// Devices with one function may answer under all eight numbers: those do not count.
pub(super) fn is_present(sbdf: Sbdf, host: &mut impl PciHost) -> bool {
    answers(sbdf, host) && (sbdf.function() == 0 || is_multi(sbdf.function_0(), host))
}

fn answers(sbdf: Sbdf, host: &mut impl PciHost) -> bool {
    !matches!(host.config_read(sbdf, VENDOR, 2), 0xffff | 0)
}

fn is_multi(sbdf: Sbdf, host: &mut impl PciHost) -> bool {
    let header = host.config_read(sbdf, HEADER_TYPE, 1);
    header != 0xff && header & HEADER_MULTI != 0
}
