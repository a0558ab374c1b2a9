//! Control and debug registers, TLB and port instructions, thinly.
#![allow(unsafe_code)] // privileged instructions

use core::arch::asm;
use oxen_types::{Maddr, Vaddr};

macro_rules! register {
    ($read:ident, $write:ident, $name:literal) => {
        pub fn $read() -> u64 {
            let value;
            // SAFETY: reading this register has no effect.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            value
        }

        /// # Safety
        /// The value is valid for the CPU and keeps what the hypervisor relies on.
        pub unsafe fn $write(value: u64) {
            // SAFETY: by the contract above.
            unsafe {
                asm!(concat!("mov ", $name, ", {}"), in(reg) value,
                    options(nostack, preserves_flags));
            }
        }
    };
}

register!(cr0, set_cr0, "cr0");
register!(cr2, set_cr2, "cr2");
register!(cr3, set_cr3_raw, "cr3");
register!(cr4, set_cr4, "cr4");
register!(dr0, set_dr0, "dr0");
register!(dr1, set_dr1, "dr1");
register!(dr2, set_dr2, "dr2");
register!(dr3, set_dr3, "dr3");
register!(dr6, set_dr6, "dr6");
register!(dr7, set_dr7, "dr7");

pub mod bits {
    pub const CR0_MP: u64 = 1 << 1;
    pub const CR0_EM: u64 = 1 << 2;
    pub const CR0_TS: u64 = 1 << 3;
    pub const CR0_NE: u64 = 1 << 5;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR4_DE: u64 = 1 << 3;
    pub const CR4_MCE: u64 = 1 << 6;
    pub const CR4_PGE: u64 = 1 << 7;
    pub const CR4_OSFXSR: u64 = 1 << 9;
    pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
    pub const CR4_UMIP: u64 = 1 << 11;
    pub const CR4_VMXE: u64 = 1 << 13;
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    pub const CR4_SMEP: u64 = 1 << 20;
    pub const CR4_SMAP: u64 = 1 << 21;
    pub const EFER: u32 = 0xc000_0080;
    pub const EFER_SCE: u64 = 1 << 0;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_NXE: u64 = 1 << 11;
    pub const EFER_SVME: u64 = 1 << 12;
}

/// The root of the page tables in use.
pub fn page_table_root() -> Maddr {
    Maddr::new(cr3() & 0x000f_ffff_ffff_f000)
}

/// Installs other page tables; flushes what is not global.
///
/// # Safety
/// They map everything that this CPU goes on to use at the same addresses: code, stack, data.
pub unsafe fn set_page_table_root(root: Maddr) {
    // SAFETY: by the contract above.
    unsafe { set_cr3_raw(root.raw()) }
}

/// Drops this CPU's translation of one page.
pub fn invlpg(addr: Vaddr) {
    // SAFETY: only forgets cached translations.
    unsafe { asm!("invlpg [{}]", in(reg) addr.raw(), options(nostack, preserves_flags)) }
}

/// Drops all of this CPU's translations, global ones too.
pub fn flush_tlb_local() {
    let value = cr4();
    // SAFETY: same values again; each change of PGE flushes everything.
    unsafe {
        if value & bits::CR4_PGE != 0 {
            set_cr4(value & !bits::CR4_PGE);
            set_cr4(value);
        } else {
            set_cr3_raw(cr3());
        }
    }
}

pub fn interrupts_enabled() -> bool {
    let flags: u64;
    // SAFETY: reads the flags by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) }
    flags & 1 << 9 != 0
}

pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC is not restricted here (CR4.TSD clear). LFENCE keeps it from running early.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high,
            options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// A random number of the CPU's own, if it has a source of such (RDRAND).
pub fn random() -> Option<u64> {
    const RDRAND: u32 = 1 << 30;
    if cpuid(1, 0).ecx & RDRAND == 0 {
        return None;
    }
    let (number, valid): (u64, u8);
    // SAFETY: the instruction is there, and changes the register and flags only.
    unsafe {
        core::arch::asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) valid, options(nomem, nostack));
    }
    (valid != 0).then_some(number)
}

pub fn cpuid(leaf: u32, subleaf: u32) -> core::arch::x86_64::CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, subleaf)
}

pub fn pause() {
    core::hint::spin_loop();
}

/// Stops this CPU for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: with interrupts off only NMIs wake it, and then it halts again.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// Sets an extended control register.
///
/// # Safety
/// CR4.OSXSAVE is on, and the CPU allows the value (CPUID leaf 0xd).
pub unsafe fn xsetbv(register: u32, value: u64) {
    // SAFETY: by the contract above.
    unsafe {
        asm!("xsetbv", in("ecx") register, in("eax") value as u32,
            in("edx") (value >> 32) as u32, options(nomem, nostack, preserves_flags));
    }
}

/// Writes back and empties all caches.
pub fn wbinvd() {
    // SAFETY: no effect but on time.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) }
}

macro_rules! port {
    ($read:ident, $write:ident, $type:ty, $reg:tt) => {
        /// # Safety
        /// Reading the port has no side effect that breaks the hypervisor.
        pub unsafe fn $read(port: u16) -> $type {
            let value;
            // SAFETY: by the contract above.
            unsafe {
                asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            value
        }

        /// # Safety
        /// The device behind the port does nothing with the value that breaks the hypervisor.
        pub unsafe fn $write(port: u16, value: $type) {
            // SAFETY: by the contract above.
            unsafe {
                asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value,
                    options(nostack, preserves_flags));
            }
        }
    };
}

port!(inb, outb, u8, "al");
port!(inw, outw, u16, "ax");
port!(inl, outl, u32, "eax");
