//! The machine's CPUs as dom0 asks for them.

use guest_pv_abi as abi;
use guest_pv_abi::UnionBytes;
use oxen_types::{CpuId, Errno};

use crate::control::domctl;
use crate::hypercall::{Answer, Call};

pub fn info(call: &Call<'_>, op: &mut abi::PlatformOp) -> Answer {
    let ask: abi::XenpfPcpuinfo = op.u.view();
    let platform = call.machine().platform;
    let cpus = platform.info().cpus;
    let mut answer = abi::XenpfPcpuinfo {
        max_present: cpus.saturating_sub(1),
        flags: abi::XEN_PCPU_FLAGS_INVALID,
        apic_id: 0,
        acpi_id: 0,
        ..ask
    };
    if ask.xen_cpuid < cpus {
        (answer.apic_id, answer.acpi_id) = platform
            .firmware_cpu(CpuId(ask.xen_cpuid))
            .ok_or(Errno::NoDev)?;
        answer.flags = abi::XEN_PCPU_FLAGS_ONLINE;
    }
    op.u.store(&answer);
    Ok(0)
}

/// Vendor and model. dom0 sees the machine's own, so its CPUID tells them.
pub fn version(call: &Call<'_>, op: &mut abi::PlatformOp) -> Answer {
    let ask: abi::XenpfPcpuVersion = op.u.view();
    let cpus = call.machine().platform.info().cpus;
    let mut answer = abi::XenpfPcpuVersion {
        max_present: cpus.saturating_sub(1),
        vendor_id: [0; 12],
        family: 0,
        model: 0,
        stepping: 0,
        ..ask
    };
    if ask.xen_cpuid < cpus {
        let vendor = domctl::leaf(call.domain(), 0).ok_or(Errno::NoDev)?;
        let words = [vendor.b, vendor.d, vendor.c];
        for (bytes, word) in answer.vendor_id.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let signature = domctl::leaf(call.domain(), 1).ok_or(Errno::NoDev)?.a;
        (answer.family, answer.model, answer.stepping) = decode(signature);
    }
    op.u.store(&answer);
    Ok(0)
}

/// Family, model and stepping of CPUID leaf 1's EAX (AMD APM volume 3, appendix E.3.2; Intel SDM, CPUID).
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
