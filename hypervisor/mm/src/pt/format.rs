//! The formats of page-table entries: long mode (AMD's APM vol. 2, 5.3), nested paging (the same
//! bits, always "user", APM 15.25) and EPT (Intel's SDM vol. 3, 30.3.2).
//!
//! In all three, bits 52 to 55 of a leaf are software's: the tag. Accessed and dirty are set from
//! the start, so that hardware has no reason to write to an entry behind our back.

use oxen_types::Mfn;

/// Rights and memory type of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attrs {
    /// Writes are allowed.
    pub write: bool,
    /// Instruction fetches are allowed.
    pub exec: bool,
    /// Write-back; if not, uncached (a nested mapping lets the guest choose write-combining).
    pub cached: bool,
    /// Of a cached page: that the guest's PAT has no say in it. EPT alone can do that, and alone
    /// keeps it. On AMD's CPUs accesses that the guest made uncached look into the caches (APM vol.
    /// 2, 15.25.8).
    pub fixed: bool,
    /// Software's own value, 0 to 15.
    pub tag: u8,
}

/// An entry at some level, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// No entry.
    Absent,
    /// A link to a table of the next lower level.
    Table(Mfn),
    /// The first frame of the page.
    Leaf(Mfn, Attrs),
}

/// Level 1 holds 4 KiB pages, level 2 links to level 1 or holds 2 MiB pages, level 3 likewise (1
/// GiB), level 4 links only. An absent entry is 0.
pub trait Format: Send + Sync + 'static {
    /// Levels of tables, at most as many as the engine has room for.
    const LEVELS: u32 = 4;
    /// The entry of a page.
    fn leaf(mfn: Mfn, level: u32, attrs: Attrs) -> u64;
    /// The entry that links to a table.
    fn table(mfn: Mfn) -> u64;
    /// Takes an entry apart.
    fn decode(entry: u64, level: u32) -> Decoded;
    /// The table that an entry links to: what [`Format::decode`] says, for the way down, where only
    /// that matters.
    fn next(entry: u64, level: u32) -> Option<Mfn>;
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGE: u64 = 1 << 7;
const TAG_SHIFT: u32 = 52;
const TAG_MASK: u64 = 15;

fn tag_bits(tag: u8) -> u64 {
    (tag as u64 & TAG_MASK) << TAG_SHIFT
}

fn tag_of(entry: u64) -> u8 {
    (entry >> TAG_SHIFT & TAG_MASK) as u8
}

fn frame_of(entry: u64, level: u32) -> Mfn {
    let low_bits = super::pages_at(level) - 1;
    Mfn::new((entry & ADDRESS) >> 12 & !low_bits)
}

mod long {
    pub(super) const PRESENT: u64 = 1;
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const PWT: u64 = 1 << 3;
    pub(super) const PCD: u64 = 1 << 4;
    pub(super) const ACCESSED: u64 = 1 << 5;
    pub(super) const DIRTY: u64 = 1 << 6;
    pub(super) const NX: u64 = 1 << 63;
}

/// `USER` in each entry, and which PAT entry stands for "uncached" (as PWT and PCD), is all that
/// differs between our own tables and nested ones.
fn long_leaf(mfn: Mfn, level: u32, attrs: Attrs, user: u64, uncached: u64) -> u64 {
    use long::{ACCESSED, DIRTY, NX, PRESENT, WRITE};
    (mfn.base().raw() & ADDRESS)
        | PRESENT
        | ACCESSED
        | DIRTY
        | user
        | tag_bits(attrs.tag)
        | if level > 1 { LARGE } else { 0 }
        | if attrs.write { WRITE } else { 0 }
        | if attrs.exec { 0 } else { NX }
        | if attrs.cached { 0 } else { uncached }
}

fn long_table(mfn: Mfn, user: u64) -> u64 {
    (mfn.base().raw() & ADDRESS) | long::PRESENT | long::WRITE | long::ACCESSED | user
}

/// The next table, if the entry is present (has one of these bits) and maps no page.
#[inline]
fn next(entry: u64, level: u32, present: u64) -> Option<Mfn> {
    let links = entry & present != 0 && (level == 4 || (level > 1 && entry & LARGE == 0));
    links.then(|| Mfn::new((entry & ADDRESS) >> 12))
}

#[inline]
fn long_decode(entry: u64, level: u32) -> Decoded {
    if entry & long::PRESENT == 0 {
        return Decoded::Absent;
    }
    if level == 4 || (level > 1 && entry & LARGE == 0) {
        return Decoded::Table(frame_of(entry, 1));
    }
    let attrs = Attrs {
        write: entry & long::WRITE != 0,
        exec: entry & long::NX == 0,
        cached: entry & long::PCD == 0,
        fixed: false,
        tag: tag_of(entry),
    };
    Decoded::Leaf(frame_of(entry, level), attrs)
}

/// The hypervisor's own tables: supervisor pages; uncached is PAT entry 3 (UC).
pub struct Host;

impl Format for Host {
    fn leaf(mfn: Mfn, level: u32, attrs: Attrs) -> u64 {
        long_leaf(mfn, level, attrs, 0, long::PCD | long::PWT)
    }
    fn table(mfn: Mfn) -> u64 {
        long_table(mfn, 0)
    }
    #[inline]
    fn decode(entry: u64, level: u32) -> Decoded {
        long_decode(entry, level)
    }
    #[inline]
    fn next(entry: u64, level: u32) -> Option<Mfn> {
        next(entry, level, long::PRESENT)
    }
}

/// AMD's nested tables: all guest accesses count as user accesses; uncached is PAT entry 2 (UC-),
/// over which the guest's own write-combining wins.
pub struct Npt;

impl Format for Npt {
    fn leaf(mfn: Mfn, level: u32, attrs: Attrs) -> u64 {
        long_leaf(mfn, level, attrs, long::USER, long::PCD)
    }
    fn table(mfn: Mfn) -> u64 {
        long_table(mfn, long::USER)
    }
    #[inline]
    fn decode(entry: u64, level: u32) -> Decoded {
        long_decode(entry, level)
    }
    #[inline]
    fn next(entry: u64, level: u32) -> Option<Mfn> {
        next(entry, level, long::PRESENT)
    }
}

/// A vcpu's shadow: its guest's pages as the CPU's own tables hold them. Bits 52 to 62 are 0, as
/// the CPU also walks them with three levels, where these are reserved. The tag's lowest bit is the
/// CPU's "user", the next is kept in bit 9 and says "global for the guest" (the CPU is told of no
/// global page); uncached is PAT entry 2 (UC-).
pub struct Shadow;

impl Shadow {
    /// The tag of a page that user code may access.
    pub const USER: u8 = 1;
    /// The tag of a global page.
    pub const GLOBAL: u8 = 2;
    const GLOBAL_BIT: u64 = 1 << 9;
}

impl Format for Shadow {
    fn leaf(mfn: Mfn, level: u32, attrs: Attrs) -> u64 {
        let flag = |tag, bit| if attrs.tag & tag != 0 { bit } else { 0 };
        let user = flag(Self::USER, long::USER) | flag(Self::GLOBAL, Self::GLOBAL_BIT);
        long_leaf(mfn, level, Attrs { tag: 0, ..attrs }, user, long::PCD)
    }
    fn table(mfn: Mfn) -> u64 {
        long_table(mfn, long::USER)
    }
    #[inline]
    fn decode(entry: u64, level: u32) -> Decoded {
        match long_decode(entry, level) {
            Decoded::Leaf(mfn, attrs) => {
                let flag = |bit, tag| if entry & bit != 0 { tag } else { 0 };
                let tag = flag(long::USER, Self::USER) | flag(Self::GLOBAL_BIT, Self::GLOBAL);
                Decoded::Leaf(mfn, Attrs { tag, ..attrs })
            }
            other => other,
        }
    }
    #[inline]
    fn next(entry: u64, level: u32) -> Option<Mfn> {
        next(entry, level, long::PRESENT)
    }
}

/// Intel's extended page tables.
pub struct Ept;

impl Ept {
    const READ: u64 = 1;
    const WRITE: u64 = 1 << 1;
    const EXEC: u64 = 1 << 2;
    const TYPE_SHIFT: u32 = 3;
    const WRITE_BACK: u64 = 6 << Self::TYPE_SHIFT;
    const TYPE_MASK: u64 = 7 << Self::TYPE_SHIFT;
    /// The guest's PAT is ignored.
    const IGNORE_PAT: u64 = 1 << 6;
    const ACCESSED_DIRTY: u64 = 3 << 8;
}

impl Format for Ept {
    fn leaf(mfn: Mfn, level: u32, attrs: Attrs) -> u64 {
        (mfn.base().raw() & ADDRESS)
            | Self::READ
            | Self::ACCESSED_DIRTY
            | tag_bits(attrs.tag)
            | if level > 1 { LARGE } else { 0 }
            | if attrs.write { Self::WRITE } else { 0 }
            | if attrs.exec { Self::EXEC } else { 0 }
            | if attrs.cached { Self::WRITE_BACK } else { 0 }
            | if attrs.fixed { Self::IGNORE_PAT } else { 0 }
    }
    fn table(mfn: Mfn) -> u64 {
        (mfn.base().raw() & ADDRESS) | Self::READ | Self::WRITE | Self::EXEC
    }
    #[inline]
    fn decode(entry: u64, level: u32) -> Decoded {
        if entry & (Self::READ | Self::WRITE | Self::EXEC) == 0 {
            return Decoded::Absent;
        }
        if level == 4 || (level > 1 && entry & LARGE == 0) {
            return Decoded::Table(frame_of(entry, 1));
        }
        let attrs = Attrs {
            write: entry & Self::WRITE != 0,
            exec: entry & Self::EXEC != 0,
            cached: entry & Self::TYPE_MASK == Self::WRITE_BACK,
            fixed: entry & Self::IGNORE_PAT != 0,
            tag: tag_of(entry),
        };
        Decoded::Leaf(frame_of(entry, level), attrs)
    }
    #[inline]
    fn next(entry: u64, level: u32) -> Option<Mfn> {
        next(entry, level, Self::READ | Self::WRITE | Self::EXEC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: Attrs = Attrs {
        write: true,
        exec: true,
        cached: true,
        fixed: false,
        tag: 0,
    };
    const DEVICE: Attrs = Attrs {
        write: true,
        exec: false,
        cached: false,
        fixed: false,
        tag: 9,
    };

    /// The very bits, from the manuals.
    #[test]
    fn entries_are_as_the_manuals_say() {
        let m = Mfn::new(0x12345);
        assert_eq!(Host::leaf(m, 1, RAM), 0x1234_5063);
        assert_eq!(Host::table(m), 0x1234_5023);
        assert_eq!(Npt::leaf(m, 1, RAM), 0x1234_5067);
        assert_eq!(Npt::leaf(Mfn::new(0x200), 2, RAM), 0x20_00e7);
        let user = Attrs {
            tag: Shadow::USER,
            ..RAM
        };
        let kernel = Attrs { tag: 0, ..RAM };
        assert_eq!(Shadow::leaf(m, 1, kernel), 0x1234_5063);
        assert_eq!(Shadow::leaf(m, 1, user), 0x1234_5067);
        let tag = Shadow::USER | Shadow::GLOBAL;
        let global = Attrs { tag, ..RAM };
        assert_eq!(Shadow::leaf(m, 1, global), 0x1234_5267);
        for attrs in [kernel, user, global] {
            let leaf = Shadow::leaf(m, 1, attrs);
            assert_eq!(Shadow::decode(leaf, 1), Decoded::Leaf(m, attrs));
        }
        assert_eq!(Npt::leaf(m, 1, DEVICE), 0x8090_0000_1234_5077);
        assert_eq!(Host::leaf(m, 1, DEVICE), 0x8090_0000_1234_507b);
        assert_eq!(Ept::leaf(m, 1, RAM), 0x1234_5337);
        assert_eq!(Ept::leaf(m, 1, DEVICE), 0x0090_0000_1234_5303);
        assert_eq!(Ept::leaf(Mfn::new(0x200), 2, RAM), 0x20_03b7);
        let fixed = Attrs { fixed: true, ..RAM };
        assert_eq!(Ept::leaf(m, 1, fixed), 0x1234_5377);
        assert_eq!(Npt::leaf(m, 1, fixed), Npt::leaf(m, 1, RAM));
        assert_eq!(Ept::table(m), 0x1234_5007);
    }

    fn round_trip<F: Format>(fixed: bool) {
        assert_eq!(F::decode(0, 1), Decoded::Absent);
        for level in 2..=4 {
            let table = F::table(Mfn::new(0xf_ffff_ffff));
            assert_eq!(F::next(table, level), Some(Mfn::new(0xf_ffff_ffff)));
            assert_eq!(F::next(0, level), None);
            assert_eq!(
                F::decode(table, level),
                Decoded::Table(Mfn::new(0xf_ffff_ffff))
            );
        }
        for bits in 0..128u8 {
            let attrs = Attrs {
                write: bits & 1 != 0,
                exec: bits & 2 != 0,
                cached: bits & 4 != 0,
                fixed,
                tag: bits >> 3,
            };
            for level in 1..=3 {
                let mfn = Mfn::new(0x5_5554_0000);
                assert_eq!(F::next(F::leaf(mfn, level, attrs), level), None);
                assert_eq!(
                    F::decode(F::leaf(mfn, level, attrs), level),
                    Decoded::Leaf(mfn, attrs)
                );
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        round_trip::<Host>(false);
        round_trip::<Npt>(false);
        round_trip::<Ept>(false);
        round_trip::<Ept>(true);
    }
}
