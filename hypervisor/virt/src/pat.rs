//! The memory types that page tables name: PAT as after reset (SDM volume 3, 12.12.4; APM volume 2,
//! 7.8). The hypervisor's own tables and the nested ones count on its entries 2 and 3; firmware, or
//! a kernel before us, may have left others.
#![allow(unsafe_code, reason = "writes PAT")]

use core::arch::asm;

use oxen_arch::cpu::msr::{rdmsr, wrmsr};
use oxen_arch::cpu::regs::wbinvd;

use crate::x86::{MSR_PAT, PAT_RESET};

/// The value that has to be written, if any.
fn change(current: u64) -> Option<u64> {
    (current != PAT_RESET).then_some(PAT_RESET)
}

/// On the CPU that runs this. All CPUs with long mode have PAT.
pub(crate) fn program() {
    // SAFETY: caches are written back on both sides and translations dropped, so that no line keeps
    // a type that its page has no more; what was mapped uncached is uncached by the new value too.
    unsafe {
        if let Some(value) = change(rdmsr(MSR_PAT)) {
            wbinvd();
            wrmsr(MSR_PAT, value);
            asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack));
            wbinvd();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_our_page_tables_are_programmed_where_they_are_others() {
        assert_eq!(change(PAT_RESET), None);
        // As Linux leaves it before a kexec: entry 1 is write-combining.
        assert_eq!(change(0x0407_0506_0007_0106), Some(PAT_RESET));
        // The entries that mean UC- and UC.
        assert_eq!(PAT_RESET >> 16 & 0xffff, 0x0007);
    }
}
