//! Identifiers that name things inside the hypervisor or across its ABI.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(
            /// The raw number.
            pub $raw,
        );

        impl $name {
            /// The number as an index.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// A domain's number (`domid_t`).
    DomainId(u16)
}
id! {
    /// A virtual CPU's number within its domain.
    VcpuId(u32)
}
id! {
    /// A physical CPU, numbered densely from 0 (the boot CPU) in the order of bring-up.
    CpuId(u32)
}
id! {
    /// An event channel port of one domain.
    Port(u32)
}
id! {
    /// An index into one domain's grant table.
    GrantRef(u32)
}

/// The special values of `domid_t`, from xen/xen.h.
impl DomainId {
    /// The privileged domain that the hypervisor starts.
    pub const DOM0: Self = Self(0);
    /// Domain numbers from here on are special and never name a domain.
    pub const FIRST_RESERVED: Self = Self(0x7ff0);
    /// The caller itself.
    pub const SELF: Self = Self(0x7ff0);
    /// Owner of what is not RAM (DOMID_IO).
    pub const IO: Self = Self(0x7ff1);
    /// Owner of the hypervisor's own frames (DOMID_XEN).
    pub const XEN: Self = Self(0x7ff2);
    /// Owner of shared pages (DOMID_COW).
    pub const COW: Self = Self(0x7ff3);
    /// No domain (DOMID_INVALID).
    pub const INVALID: Self = Self(0x7ff4);
    /// The idle domain (DOMID_IDLE).
    pub const IDLE: Self = Self(0x7fff);

    /// Whether the number can name a domain.
    pub const fn is_ordinary(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}
