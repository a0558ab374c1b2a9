//! The machine's CPUs as dom0 asks for them.

use guest_pv_abi as abi;
use oxen_types::{CpuId, Errno, Result};

use crate::control::domctl;
use crate::hypercall::{Call, Privileged};

/// APIC and ACPI ids of a CPU. A CPU beyond the last one is "invalid".
pub(super) fn info(call: &Call<'_>, _dom0: Privileged, ask: &mut abi::XenpfPcpuinfo) -> Result<()> {
    let platform = call.machine().platform;
    let cpus = platform.info().cpus;
    ask.max_present = cpus.saturating_sub(1);
    ask.flags = abi::XEN_PCPU_FLAGS_INVALID;
    (ask.apic_id, ask.acpi_id) = (0, 0);
    if ask.xen_cpuid < cpus {
        let ids = platform.firmware_cpu(CpuId(ask.xen_cpuid));
        (ask.apic_id, ask.acpi_id) = ids.ok_or(Errno::NoDev)?;
        ask.flags = abi::XEN_PCPU_FLAGS_ONLINE;
    }
    Ok(())
}

/// Vendor and model. dom0 sees the machine's own, so its CPUID tells them.
pub(super) fn version(
    call: &Call<'_>,
    _dom0: Privileged,
    ask: &mut abi::XenpfPcpuVersion,
) -> Result<()> {
    let cpus = call.machine().platform.info().cpus;
    ask.max_present = cpus.saturating_sub(1);
    ask.vendor_id = [0; 12];
    (ask.family, ask.model, ask.stepping) = (0, 0, 0);
    if ask.xen_cpuid < cpus {
        let vendor = domctl::leaf(call.domain(), 0).ok_or(Errno::NoDev)?;
        let words = [vendor.b, vendor.d, vendor.c];
        for (bytes, word) in ask.vendor_id.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let signature = domctl::leaf(call.domain(), 1).ok_or(Errno::NoDev)?.a;
        (ask.family, ask.model, ask.stepping) = decode(signature);
    }
    Ok(())
}

/// Family, model and stepping of CPUID leaf 1's EAX (AMD APM volume 3, appendix E.3.2; Intel SDM,
/// CPUID).
fn decode(signature: u32) -> (u32, u32, u32) {
    let (base_family, base_model) = (signature >> 8 & 0xf, signature >> 4 & 0xf);
    let extended = base_family == 0xf;
    let family = if extended {
        base_family + (signature >> 20 & 0xff)
    } else {
        base_family
    };
    let model = if extended || base_family == 6 {
        base_model | (signature >> 16 & 0xf) << 4
    } else {
        base_model
    };
    (family, model, signature & 0xf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        // EPYC 7xx1, Haswell, a 486.
        assert_eq!(decode(0x0080_0f12), (0x17, 1, 2));
        assert_eq!(decode(0x0003_06c3), (6, 0x3c, 3));
        assert_eq!(decode(0x0000_0480), (4, 8, 0));
    }
}
