//! The walk of a guest's own page tables: guest-linear to guest-physical addresses (APM volume 2,
//! chapter 5; SDM volume 3, chapter 4). No paging, 32-bit, PAE and 4-level paging; large pages;
//! rights by NX, U/S, R/W, SMEP and SMAP.
//!
//! A walk sets no accessed or dirty bits: the hypervisor reads on the guest's behalf, and the guest
//! cannot tell.
//! [`crate::shadow::fault`], which walks in the CPU's place, sets them itself.
//!
//! Bits of entries that must be zero fault as on a CPU, with the same error code.
//!
//! All that is read is an allegation of the guest: an entry is read once, and an address in it may
//! lead nowhere.

use bitflags::bitflags;
use oxen_core::seams::GuestMemory;
use oxen_types::paging::PagingMode;
use oxen_types::{Gaddr, Vaddr};

use crate::bits::{
    CR0_PG, CR0_WP, CR4_LA57, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_NX,
};

/// Guest-physical memory. Page tables lie in RAM only.
pub trait PhysRead {
    /// Reads an aligned word; `None` if there is no RAM.
    fn read_u64(&self, at: Gaddr) -> Option<u64>;
    /// Reads bytes within one page. False if there is no RAM.
    fn read_bytes(&self, at: Gaddr, into: &mut [u8]) -> bool {
        (at.raw()..).zip(into).all(|(at, byte)| {
            let quad = self.read_u64(Gaddr::new(at & !7));
            quad.map(|quad| *byte = (quad >> (8 * (at & 7))) as u8)
                .is_some()
        })
    }
    /// Reads an aligned half of a word; `None` if there is no RAM.
    fn read_u32(&self, at: Gaddr) -> Option<u32> {
        let quad = self.read_u64(Gaddr::new(at.raw() & !7))?;
        Some((quad >> ((at.raw() & 4) * 8)) as u32)
    }
}

impl PhysRead for dyn GuestMemory + '_ {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        self.read_word(at).ok()
    }

    fn read_bytes(&self, at: Gaddr, into: &mut [u8]) -> bool {
        self.read(at, into).is_ok()
    }
}

bitflags! {
    /// The kind of an access, in the bits of a page fault's error code.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Access: u32 {
        /// A write; a read if not.
        const WRITE = 1 << 1;
        /// At CPL 3.
        const USER = 1 << 2;
        /// An instruction fetch.
        const FETCH = 1 << 4;
    }
}

impl Access {
    /// A read at CPL 0 to 2.
    pub const READ: Self = Self::empty();
}

/// The limits of a processor's page walk, as CPUID shows them to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bits of a physical address.
    pub phys_bits: u32,
    /// Pages of 1 GiB exist.
    pub pages_1g: bool,
}

/// The registers that rule translation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paging {
    /// The guest's CR0.
    pub cr0: u64,
    /// The guest's CR3.
    pub cr3: u64,
    /// The guest's CR4.
    pub cr4: u64,
    /// The guest's EFER.
    pub efer: u64,
    /// RFLAGS.AC, which suspends SMAP.
    pub ac: bool,
    /// The limits that CPUID shows.
    pub limits: Limits,
}

impl Paging {
    /// The mode of the guest's page tables.
    pub fn mode(&self) -> PagingMode {
        if self.cr0 & CR0_PG == 0 {
            PagingMode::Off
        } else if self.efer & EFER_LMA != 0 {
            PagingMode::Long
        } else if self.cr4 & CR4_PAE != 0 {
            PagingMode::Pae
        } else {
            PagingMode::Bits32
        }
    }
}

/// Why an address has no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkError {
    /// The guest's tables refuse: #PF with this error code.
    Fault {
        /// The error code that the CPU would push.
        code: u32,
    },
    /// The address is not canonical: #GP.
    NotCanonical,
    /// A table lies where there is no RAM.
    BadTable(Gaddr),
    /// A paging mode that CPUID does not offer: 5 levels.
    Unsupported,
}

/// A translation: the address, and the bytes from it to the end of its page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The guest-physical address.
    pub gpa: Gaddr,
    /// Bytes from `gpa` to the end of its page.
    pub left_in_page: u64,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NX: u64 = 1 << 63;

const CODE_PRESENT: u32 = 1;
const CODE_RESERVED: u32 = 1 << 3;

/// One level of a mode.
struct Level {
    /// The size of the memory behind an entry, as a power of two.
    shift: u32,
    /// The number of a table's entries, as a power of two.
    bits: u32,
    /// An entry may map a large page.
    large: bool,
}

const fn level(shift: u32, bits: u32, large: bool) -> Level {
    Level { shift, bits, large }
}

const LONG: [Level; 4] = [
    level(39, 9, false),
    level(30, 9, true),
    level(21, 9, true),
    level(12, 9, false),
];
const PAE: [Level; 3] = [level(30, 2, false), level(21, 9, true), level(12, 9, false)];
const BITS32: [Level; 2] = [level(22, 10, true), level(12, 10, false)];

/// An entry that a walk went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The entry's address.
    pub at: Gaddr,
    /// The entry as it was read.
    pub entry: u64,
    /// The entry has no accessed bit: one of PAE's top level.
    pub bare: bool,
}

/// The result of a walk: the page, its rights and the way to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The translation of the address.
    pub place: Translation,
    /// The page's size as a power of two.
    pub shift: u32,
    rights: u64,
    no_execute: bool,
    /// The page is global, and CR4.PGE is set.
    pub global: bool,
    /// Bytes of an entry.
    pub entry_size: u8,
    /// The entries from the root down; the last is the page's own.
    pub steps: [Option<Step>; 4],
}

impl Found {
    /// Whether all entries on the way have U/S set.
    pub fn user(&self) -> bool {
        self.rights & USER != 0
    }
    /// Whether all entries on the way have R/W set.
    pub fn writable(&self) -> bool {
        self.rights & WRITABLE != 0
    }
    /// Whether no entry on the way has NX set.
    pub fn executable(&self) -> bool {
        !self.no_execute
    }
    /// Checks an access against the rights.
    ///
    /// # Errors
    /// `Err(code)` with the page fault's error code if the rights do not allow the access.
    pub fn check(&self, paging: &Paging, access: Access) -> Result<(), u32> {
        if paging.cr0 & CR0_PG == 0 || allowed(paging, access, self.rights, self.no_execute) {
            return Ok(());
        }
        let nx = paging.efer & EFER_NX != 0;
        Err(fault_code(paging, access, nx) | CODE_PRESENT)
    }
}

/// Translates one byte's address, for an access of some kind.
///
/// # Errors
/// `Fault` if the guest's tables do not allow the access, and as [`find`].
pub fn walk(
    mem: &(impl PhysRead + ?Sized),
    paging: &Paging,
    linear: Vaddr,
    access: Access,
) -> Result<Translation, WalkError> {
    let found = find(mem, paging, linear, access)?;
    match found.check(paging, access) {
        Ok(()) => Ok(found.place),
        Err(code) => Err(WalkError::Fault { code }),
    }
}

/// Finds the page of one byte's address, whoever may access it. `access` counts in error codes
/// only.
///
/// # Errors
/// `Fault` if an entry is absent or has a bit set that must be zero; `NotCanonical`; `BadTable` if
/// a table does not lie in RAM; `Unsupported` if the guest has 5-level paging on.
pub fn find(
    mem: &(impl PhysRead + ?Sized),
    paging: &Paging,
    linear: Vaddr,
    access: Access,
) -> Result<Found, WalkError> {
    let va = linear.raw();
    let low = va & 0xffff_ffff;
    match paging.mode() {
        PagingMode::Off => Ok(Found {
            place: translation(low, 12),
            shift: 12,
            rights: WRITABLE | USER,
            no_execute: false,
            global: false,
            entry_size: 0,
            steps: [None; 4],
        }),
        PagingMode::Long if paging.cr4 & CR4_LA57 != 0 => Err(WalkError::Unsupported),
        PagingMode::Long if (va as i64) << 16 >> 16 != va as i64 => Err(WalkError::NotCanonical),
        PagingMode::Long => descend(mem, paging, va, access, &LONG, PagingMode::Long),
        PagingMode::Pae => descend(mem, paging, low, access, &PAE, PagingMode::Pae),
        PagingMode::Bits32 => descend(mem, paging, low, access, &BITS32, PagingMode::Bits32),
    }
}

impl Paging {
    /// The bits of an entry that name a frame.
    fn frames(&self) -> u64 {
        ((1u64 << self.limits.phys_bits.clamp(32, 52)) - 1) & !0xfff
    }

    /// Whether an entry of this level may be a large page.
    fn has_large(&self, level: &Level, mode: PagingMode) -> bool {
        level.large
            && (mode != PagingMode::Bits32 || self.cr4 & CR4_PSE != 0)
            && (level.shift != 30 || self.limits.pages_1g)
    }

    /// The bits that must be zero in each present entry that has rights, of whatever level.
    fn reserved_everywhere(&self, mode: PagingMode) -> u64 {
        const ADDRESS: u64 = bits(12, 51);
        let beyond = ADDRESS & !self.frames();
        let no_execute = if self.efer & EFER_NX == 0 { NX } else { 0 };
        match mode {
            PagingMode::Bits32 => 0,
            PagingMode::Pae => beyond | no_execute | bits(52, 62),
            PagingMode::Long | PagingMode::Off => beyond | no_execute,
        }
    }

    /// The bits that must be zero in a present entry of this level (SDM volume 3, 4.3 to 4.5; APM
    /// volume 2, 5.3).
    #[inline(never)]
    fn reserved(&self, everywhere: u64, level: &Level, mode: PagingMode, leaf: bool) -> u64 {
        match (level.shift, mode) {
            (12, _) => everywhere,
            // PSE-36: bits 13 to 20 are address bits 32 to 39, as far as the CPU has those.
            (22, _) if leaf => bits(13, 21) & !((self.frames() >> 32 & 0xff) << 13),
            (22, _) => 0,
            // A top entry of PAE has no rights.
            (30, PagingMode::Pae) => everywhere | NX | bits(5, 8) | bits(1, 2),
            // A large page's address has zeros below its size, but for the bit that became PAT.
            (shift, _) if leaf => everywhere | bits(13, shift - 1),
            (21, _) => everywhere,
            _ => everywhere | LARGE,
        }
    }
}

/// The bits from `first` to `last`.
const fn bits(first: u32, last: u32) -> u64 {
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

fn descend(
    mem: &(impl PhysRead + ?Sized),
    paging: &Paging,
    va: u64,
    access: Access,
    levels: &[Level],
    mode: PagingMode,
) -> Result<Found, WalkError> {
    let frame_mask = paging.frames();
    let everywhere = paging.reserved_everywhere(mode);
    let nx = paging.efer & EFER_NX != 0;
    let code = fault_code(paging, access, nx);
    let mut table = match mode {
        PagingMode::Bits32 => paging.cr3 & 0xffff_f000,
        PagingMode::Pae => paging.cr3 & 0xffff_ffe0,
        PagingMode::Long | PagingMode::Off => paging.cr3 & frame_mask,
    };
    let mut rights = WRITABLE | USER;
    let mut no_execute = false;
    let mut steps = [None; 4];
    for (depth, level) in levels.iter().enumerate() {
        let index = va >> level.shift & ((1 << level.bits) - 1);
        let (at, entry) = read_entry(mem, table, index, mode)?;
        if entry & PRESENT == 0 {
            return Err(WalkError::Fault { code });
        }
        // The four top entries of PAE have no rights of their own.
        let pdpte = mode == PagingMode::Pae && depth == 0;
        if let Some(step) = steps.get_mut(depth) {
            let bare = pdpte;
            *step = Some(Step { at, entry, bare });
        }
        if !pdpte {
            rights &= entry;
            no_execute |= nx && entry & NX != 0;
        }
        // One test settles nearly all entries of nearly all guests.
        let plain = entry & (everywhere | LARGE) == 0 && mode == PagingMode::Long;
        let leaf =
            level.shift == 12 || (!plain && entry & LARGE != 0 && paging.has_large(level, mode));
        if !plain && entry & paging.reserved(everywhere, level, mode, leaf) != 0 {
            return Err(WalkError::Fault {
                code: code | CODE_PRESENT | CODE_RESERVED,
            });
        }
        if !leaf {
            table = match mode {
                PagingMode::Bits32 => entry & 0xffff_f000,
                _ => entry & frame_mask,
            };
            continue;
        }
        let offset_mask = (1u64 << level.shift) - 1;
        let base = match mode {
            // PSE-36: bits 13-20 of the entry are bits 32-39 of the address.
            PagingMode::Bits32 if level.shift == 22 => {
                (entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32) & frame_mask
            }
            PagingMode::Bits32 => entry & 0xffff_f000,
            _ => entry & frame_mask & !offset_mask,
        };
        return Ok(Found {
            place: translation(base | va & offset_mask, level.shift),
            shift: level.shift,
            rights,
            no_execute,
            global: entry & GLOBAL != 0 && paging.cr4 & CR4_PGE != 0,
            entry_size: if mode == PagingMode::Bits32 { 4 } else { 8 },
            steps,
        });
    }
    Err(WalkError::Unsupported)
}

fn read_entry(
    mem: &(impl PhysRead + ?Sized),
    table: u64,
    index: u64,
    mode: PagingMode,
) -> Result<(Gaddr, u64), WalkError> {
    let (at, entry) = match mode {
        PagingMode::Bits32 => {
            let at = Gaddr::new(table + index * 4);
            (at, mem.read_u32(at).map(u64::from))
        }
        _ => {
            let at = Gaddr::new(table + index * 8);
            (at, mem.read_u64(at))
        }
    };
    entry
        .map(|entry| (at, entry))
        .ok_or(WalkError::BadTable(at))
}

fn fault_code(paging: &Paging, access: Access, nx: bool) -> u32 {
    let mut code = access & (Access::WRITE | Access::USER);
    if access.contains(Access::FETCH) && (nx || paging.cr4 & CR4_SMEP != 0) {
        code |= Access::FETCH;
    }
    code.bits()
}

fn allowed(paging: &Paging, access: Access, rights: u64, no_execute: bool) -> bool {
    let user_page = rights & USER != 0;
    let user = access.contains(Access::USER);
    if user && !user_page {
        return false;
    }
    if access.contains(Access::FETCH) {
        let smep = !user && user_page && paging.cr4 & CR4_SMEP != 0;
        return !no_execute && !smep;
    }
    if !user && user_page && paging.cr4 & CR4_SMAP != 0 && !paging.ac {
        return false;
    }
    let protected = user || paging.cr0 & CR0_WP != 0;
    !access.contains(Access::WRITE) || rights & WRITABLE != 0 || !protected
}

fn translation(address: u64, shift: u32) -> Translation {
    let size = 1u64 << shift;
    Translation {
        gpa: Gaddr::new(address),
        left_in_page: size - (address & (size - 1)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
