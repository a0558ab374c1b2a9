//! CPUs on which a guest can stop the machine by changing the size of a page that it executes from
//! (Intel's "Machine check error on page size change", CVE-2018-12207, XSA-304).
//!
//! The list of models is Intel's, as Xen reads it too: Core and Xeon CPUs up to Cascade Lake and
//! Comet Lake. Atom and Xeon Phi are not affected; a CPU that is not affected and has
//! ARCH_CAPABILITIES says so there. A model that is not in a list counts as affected.

use super::report::{ArchCaps, Report, Vendor};

/// Silvermont to Tremont, and the ones before.
const ATOM: &[u32] = &[
    0x1c, 0x26, 0x27, 0x35, 0x36, 0x37, 0x4a, 0x4c, 0x4d, 0x5a, 0x5c, 0x5d, 0x5f, 0x6e, 0x65, 0x75,
    0x7a, 0x86, 0x96, 0x9c,
];
const XEON_PHI: &[u32] = &[0x57, 0x85];

/// Bit 31 of CPUID 1, ECX: another hypervisor is below us.
const HYPERVISOR: u32 = 1 << 31;

/// `signature` and `features`: CPUID 1, EAX and ECX.
pub(crate) fn is_affected(report: &Report, signature: u32, features: u32) -> bool {
    let intel = report.vendor == Vendor::Intel && report.family == 6;
    let model = signature >> 4 & 0xf | signature >> 12 & 0xf0;
    intel
        // The tables that the CPU walks are those of the one below us.
        && features & HYPERVISOR == 0
        && !report.arch.contains(ArchCaps::IF_PSCHANGE_MC_NO)
        && !ATOM.contains(&model)
        && !XEON_PHI.contains(&model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affected(signature: u32) -> bool {
        let report = Report {
            vendor: Vendor::Intel,
            family: 6,
            ..Report::default()
        };
        is_affected(&report, signature, 0)
    }

    #[test]
    fn core_and_xeon_are_affected_until_they_say_no() {
        // Nehalem, Sandy Bridge, Haswell, Skylake-X and Cascade Lake, Coffee Lake, Comet Lake.
        for signature in [
            0x106a5, 0x206a7, 0x306c3, 0x50654, 0x50657, 0x906ea, 0xa0652,
        ] {
            assert!(affected(signature), "{signature:#x}");
        }
        // Bonnell, Silvermont, Goldmont, Tremont, Knights Landing.
        for signature in [0x106c2, 0x30678, 0x506c9, 0x90661, 0x50671] {
            assert!(!affected(signature), "{signature:#x}");
        }
    }

    #[test]
    fn others_are_not() {
        let report = Report {
            vendor: Vendor::Intel,
            family: 6,
            ..Report::default()
        };
        let says_no = Report {
            arch: ArchCaps::IF_PSCHANGE_MC_NO,
            ..report
        };
        let amd = Report {
            vendor: Vendor::Amd,
            ..report
        };
        assert!(is_affected(&report, 0x306c3, 0));
        assert!(!is_affected(&says_no, 0x50657, 0));
        assert!(!is_affected(&amd, 0x306c3, 0));
        assert!(!is_affected(&report, 0x306c3, HYPERVISOR));
    }
}
