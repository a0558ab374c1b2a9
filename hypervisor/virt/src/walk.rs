//! The walk of a guest's own page tables: guest linear to guest physical (APM volume 2, chapter 5;
//! SDM volume 3, chapter 4). No paging, 32-bit, PAE and 4-level; large pages; rights by NX, U/S,
//! R/W, SMEP and SMAP. Accessed and dirty bits are not set: the hypervisor reads on the guest's
//! behalf, and the guest cannot tell.
//!
//! Bits of entries that must be zero fault as they do on a CPU, with the error code that says so.
//!
//! Everything read is an allegation of the guest: an entry is read once, and any address in it
//! may lead nowhere.

use bitflags::bitflags;
use oxen_types::{Gaddr, Vaddr};

use crate::backend::Execution;
use crate::x86::{
    CR0_PG, CR0_WP, CR4_LA57, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_NX,
    RFLAGS_AC,
};

/// Guest physical memory, of which only RAM can hold page tables.
pub trait PhysRead {
    fn read_u64(&self, at: Gaddr) -> Option<u64>;
    /// Bytes within one page; false if it is no RAM.
    fn read_bytes(&self, at: Gaddr, into: &mut [u8]) -> bool {
        (at.raw()..).zip(into).all(|(at, byte)| {
            let quad = self.read_u64(Gaddr::new(at & !7));
            quad.map(|quad| *byte = (quad >> (8 * (at & 7))) as u8)
                .is_some()
        })
    }
    fn read_u32(&self, at: Gaddr) -> Option<u32> {
        let quad = self.read_u64(Gaddr::new(at.raw() & !7))?;
        Some((quad >> ((at.raw() & 4) * 8)) as u32)
    }
}

bitflags! {
    /// What an access wants, in the bits of a page fault's error code.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Access: u32 {
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const FETCH = 1 << 4;
    }
}

impl Access {
    pub const READ: Self = Self::empty();
}

/// What a processor's page walk depends on besides its registers: as CPUID tells the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bits of a physical address.
    pub phys_bits: u32,
    /// There are pages of 1 GiB.
    pub pages_1g: bool,
}

/// The registers that rule translation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paging {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// RFLAGS.AC, which suspends SMAP.
    pub ac: bool,
    pub limits: Limits,
}

impl Paging {
    pub fn of(state: &Execution, limits: Limits) -> Self {
        Self {
            cr0: state.cr0,
            cr3: state.cr3,
            cr4: state.cr4,
            efer: state.efer,
            ac: state.rflags & RFLAGS_AC != 0,
            limits,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkError {
    /// The guest's tables refuse: #PF with this error code.
    Fault { code: u32 },
    /// The address is not canonical: #GP.
    NotCanonical,
    /// A table lies where there is no RAM.
    BadTable(Gaddr),
    /// A paging mode that we do not offer.
    Unsupported,
}

/// A translation: the address, and the bytes from it to the end of its page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    pub gpa: Gaddr,
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

struct Level {
    shift: u32,
    bits: u32,
    /// A large page may be mapped here.
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
const LEGACY: [Level; 2] = [level(22, 10, true), level(12, 10, false)];

/// An entry that the walk went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    pub at: Gaddr,
    pub entry: u64,
    /// It has no accessed bit of its own: a top entry of PAE.
    pub bare: bool,
}

/// All that a walk found: the page, its rights and the way to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub place: Translation,
    /// The page's size as a power of two.
    pub shift: u32,
    rights: u64,
    no_execute: bool,
    pub global: bool,
    /// Bytes of an entry.
    pub entry_size: u8,
    /// From the root down; the last is the page's own.
    pub steps: [Option<Step>; 4],
}

impl Found {
    pub fn user(&self) -> bool {
        self.rights & USER != 0
    }
    pub fn writable(&self) -> bool {
        self.rights & WRITABLE != 0
    }
    pub fn executable(&self) -> bool {
        !self.no_execute
    }
    /// May it be accessed so? If not, the error code of the fault.
    pub fn check(&self, paging: &Paging, access: Access) -> Result<(), u32> {
        if paging.cr0 & CR0_PG == 0 || allowed(paging, access, self.rights, self.no_execute) {
            return Ok(());
        }
        let nx = paging.efer & EFER_NX != 0;
        Err(fault_code(paging, access, nx) | CODE_PRESENT)
    }
}

/// Translates one byte's address.
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

/// Finds the page of one byte's address, whoever may access it; `access` is for the error code of what is
/// absent.
pub fn find(
    mem: &(impl PhysRead + ?Sized),
    paging: &Paging,
    linear: Vaddr,
    access: Access,
) -> Result<Found, WalkError> {
    let long = paging.efer & EFER_LMA != 0;
    let va = linear.raw();
    if paging.cr0 & CR0_PG == 0 {
        return Ok(Found {
            place: translation(va & 0xffff_ffff, 12),
            shift: 12,
            rights: WRITABLE | USER,
            no_execute: false,
            global: false,
            entry_size: 0,
            steps: [None; 4],
        });
    }
    if long && paging.cr4 & CR4_LA57 != 0 {
        return Err(WalkError::Unsupported);
    }
    let low = va & 0xffff_ffff;
    if long {
        if (va as i64) << 16 >> 16 != va as i64 {
            return Err(WalkError::NotCanonical);
        }
        descend(mem, paging, va, access, &LONG, Format::Long)
    } else if paging.cr4 & CR4_PAE != 0 {
        descend(mem, paging, low, access, &PAE, Format::Pae)
    } else {
        descend(mem, paging, low, access, &LEGACY, Format::Legacy)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Legacy,
    Pae,
    Long,
}

impl Paging {
    /// The bits of an entry that name a frame.
    fn frames(&self) -> u64 {
        ((1u64 << self.limits.phys_bits.clamp(32, 52)) - 1) & !0xfff
    }

    /// May an entry of this level be a large page?
    fn has_large(&self, level: &Level, format: Format) -> bool {
        level.large
            && (format != Format::Legacy || self.cr4 & CR4_PSE != 0)
            && (level.shift != 30 || self.limits.pages_1g)
    }

    /// The bits that must be zero in each present entry that has rights, of whatever level.
    fn reserved_everywhere(&self, format: Format) -> u64 {
        const ADDRESS: u64 = bits(12, 51);
        let beyond = ADDRESS & !self.frames();
        let no_execute = if self.efer & EFER_NX == 0 { NX } else { 0 };
        match format {
            Format::Legacy => 0,
            Format::Pae => beyond | no_execute | bits(52, 62),
            Format::Long => beyond | no_execute,
        }
    }

    /// The bits that must be zero in a present entry of this level (SDM volume 3, 4.3 to 4.5; APM volume 2, 5.3).
    #[inline(never)]
    fn reserved(&self, everywhere: u64, level: &Level, format: Format, leaf: bool) -> u64 {
        match (level.shift, format) {
            (12, _) => everywhere,
            // PSE-36: bits 13 to 20 are address bits 32 to 39, as far as the CPU has those.
            (22, _) if leaf => bits(13, 21) & !((self.frames() >> 32 & 0xff) << 13),
            (22, _) => 0,
            // A top entry of PAE has no rights.
            (30, Format::Pae) => everywhere | NX | bits(5, 8) | bits(1, 2),
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
    format: Format,
) -> Result<Found, WalkError> {
    let frame_mask = paging.frames();
    let everywhere = paging.reserved_everywhere(format);
    let nx = paging.efer & EFER_NX != 0;
    let code = fault_code(paging, access, nx);
    let mut table = match format {
        Format::Legacy => paging.cr3 & 0xffff_f000,
        Format::Pae => paging.cr3 & 0xffff_ffe0,
        Format::Long => paging.cr3 & frame_mask,
    };
    let mut rights = WRITABLE | USER;
    let mut no_execute = false;
    let mut steps = [None; 4];
    for (depth, level) in levels.iter().enumerate() {
        let index = va >> level.shift & ((1 << level.bits) - 1);
        let (at, entry) = read_entry(mem, table, index, format)?;
        if entry & PRESENT == 0 {
            return Err(WalkError::Fault { code });
        }
        // The four top entries of PAE have no rights of their own.
        let pdpte = format == Format::Pae && depth == 0;
        if let Some(step) = steps.get_mut(depth) {
            let bare = pdpte;
            *step = Some(Step { at, entry, bare });
        }
        if !pdpte {
            rights &= entry;
            no_execute |= nx && entry & NX != 0;
        }
        // Nearly all entries of nearly all guests, told at once.
        let plain = entry & (everywhere | LARGE) == 0 && format == Format::Long;
        let leaf =
            level.shift == 12 || (!plain && entry & LARGE != 0 && paging.has_large(level, format));
        if !plain && entry & paging.reserved(everywhere, level, format, leaf) != 0 {
            return Err(WalkError::Fault {
                code: code | CODE_PRESENT | CODE_RESERVED,
            });
        }
        if !leaf {
            table = match format {
                Format::Legacy => entry & 0xffff_f000,
                _ => entry & frame_mask,
            };
            continue;
        }
        let offset_mask = (1u64 << level.shift) - 1;
        let base = match format {
            // PSE-36: bits 13-20 of the entry are bits 32-39 of the address.
            Format::Legacy if level.shift == 22 => {
                (entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32) & frame_mask
            }
            Format::Legacy => entry & 0xffff_f000,
            _ => entry & frame_mask & !offset_mask,
        };
        return Ok(Found {
            place: translation(base | va & offset_mask, level.shift),
            shift: level.shift,
            rights,
            no_execute,
            global: entry & GLOBAL != 0 && paging.cr4 & CR4_PGE != 0,
            entry_size: if format == Format::Legacy { 4 } else { 8 },
            steps,
        });
    }
    Err(WalkError::Unsupported)
}

fn read_entry(
    mem: &(impl PhysRead + ?Sized),
    table: u64,
    index: u64,
    format: Format,
) -> Result<(Gaddr, u64), WalkError> {
    let (at, entry) = match format {
        Format::Legacy => {
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
