//! Frame numbers and addresses: machine (`Mfn`, `Maddr`), guest physical (`Gfn`, `Gaddr`), and
//! linear (`Vaddr`: ours or a guest's).

use core::fmt;

/// The size of a page as a power of two.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// The offset bits within a page.
pub const PAGE_MASK: u64 = PAGE_SIZE as u64 - 1;

macro_rules! address {
    ($(#[$doc:meta])* $addr:ident / $frame:ident, $tag:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $addr(u64);

        #[doc = concat!("The number of the page frame that a `", stringify!($addr), "` lies in.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $frame(u64);

        impl $addr {
            /// Makes one of a raw number, whatever that is.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }
            /// The raw number.
            pub const fn raw(self) -> u64 {
                self.0
            }
            /// The page frame that the address lies in.
            pub const fn frame(self) -> $frame {
                $frame(self.0 >> PAGE_SHIFT)
            }
            /// Bytes from the start of the page.
            pub const fn page_offset(self) -> usize {
                (self.0 & PAGE_MASK) as usize
            }
            /// Whether the address is the first of a page.
            pub const fn is_page_aligned(self) -> bool {
                self.0 & PAGE_MASK == 0
            }
            /// The address so many bytes further on; `None` past the end of the number space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
            /// Bytes from `base` up to `self`, if `self` does not lie below it.
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }
        }

        impl $frame {
            /// Makes one of a raw number, whatever that is.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }
            /// The raw number.
            pub const fn raw(self) -> u64 {
                self.0
            }
            /// The address of the frame's first byte. Bits above the address space are lost.
            pub const fn base(self) -> $addr {
                $addr(self.0 << PAGE_SHIFT)
            }
            /// The address at `offset` bytes into the frame; only the low 12 bits of it count.
            pub const fn at(self, offset: usize) -> $addr {
                $addr(self.0 << PAGE_SHIFT | (offset as u64 & PAGE_MASK))
            }
            /// The frame so many frames further on; `None` past the end of the number space.
            pub const fn checked_add(self, frames: u64) -> Option<Self> {
                match self.0.checked_add(frames) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
            /// Frames from `base` up to `self`, if `self` does not lie below it.
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }
            /// Whether the frame is the first of a naturally aligned block of 2^order frames.
            pub const fn is_aligned(self, order: u32) -> bool {
                self.0.trailing_zeros() >= order
            }
        }

        impl fmt::Debug for $addr {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($tag, "a:{:#x}"), self.0)
            }
        }
        impl fmt::Debug for $frame {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($tag, "fn:{:#x}"), self.0)
            }
        }
    };
}

address! {
    /// A machine (host physical) address.
    Maddr / Mfn, "m"
}
address! {
    /// A guest physical address, of whichever domain the context names.
    Gaddr / Gfn, "g"
}

/// A linear (virtual) address: a guest's, under its own page tables, or ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vaddr(u64);

impl Vaddr {
    /// Makes one of a raw number, whatever that is.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn raw(self) -> u64 {
        self.0
    }
    /// Bytes from the start of the page.
    pub const fn page_offset(self) -> usize {
        (self.0 & PAGE_MASK) as usize
    }
    /// The address so many bytes further on; `None` past the end of the number space.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl fmt::Debug for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "va:{:#x}", self.0)
    }
}
