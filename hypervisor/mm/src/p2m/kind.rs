//! The kind of what is mapped at a gfn, as rights and a tag of its page-table entry.

use oxen_core::seams::MapKind;

use crate::pt::Attrs;

const RAM: u8 = 1;
const XEN: u8 = 2;
const FOREIGN: u8 = 3;
const GRANT_RW: u8 = 4;
const GRANT_RO: u8 = 5;
const MMIO: u8 = 6;

/// The rules for rights that differ between domains and CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Large pages may be executed. Not on CPUs where a change of a page's size, while it is
    /// executed from, stops the machine (CVE-2018-12207, XSA-304): there the first fetch splits the
    /// page.
    pub large_exec: bool,
    /// The guest's PAT counts for RAM: for who has devices. For others RAM is write-back whatever
    /// they say. An uncached read would find what memory held before the caches were written back:
    /// others' data.
    pub guest_pat: bool,
}

impl Rules {
    /// Only its own RAM may a domain execute. Kinds that hold no frame reference are not cached.
    pub(super) fn attrs(self, kind: MapKind, level: u32) -> Attrs {
        let data = |tag| Attrs {
            write: true,
            exec: false,
            cached: true,
            fixed: !self.guest_pat,
            tag,
        };
        match kind {
            MapKind::Ram => Attrs {
                exec: level == 1 || self.large_exec,
                ..data(RAM)
            },
            MapKind::Xen => data(XEN),
            MapKind::Foreign => data(FOREIGN),
            MapKind::Grant { writable: true } => data(GRANT_RW),
            MapKind::Grant { writable: false } => Attrs {
                write: false,
                ..data(GRANT_RO)
            },
            MapKind::Mmio => Attrs {
                cached: false,
                fixed: false,
                ..data(MMIO)
            },
        }
    }
}

#[inline(always)]
pub(super) fn kind_of(attrs: Attrs) -> MapKind {
    match attrs.tag {
        RAM => MapKind::Ram,
        XEN => MapKind::Xen,
        FOREIGN => MapKind::Foreign,
        GRANT_RW => MapKind::Grant { writable: true },
        GRANT_RO => MapKind::Grant { writable: false },
        MMIO => MapKind::Mmio,
        _ => unreachable!("an entry of a p2m without a kind"),
    }
}

/// May the domain write it? Its entry may say no for a while: see `log`.
pub(super) fn may_write(kind: MapKind) -> bool {
    kind != MapKind::Grant { writable: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pt::{Ept, Format};
    use oxen_types::Mfn;

    const RULES: Rules = Rules {
        large_exec: true,
        guest_pat: true,
    };

    #[test]
    fn each_kind_has_its_own_tag() {
        let writable = |writable| Grant { writable };
        use MapKind::*;
        for kind in [Ram, Xen, Foreign, writable(true), writable(false), Mmio] {
            let attrs = RULES.attrs(kind, 1);
            assert_eq!(kind_of(attrs), kind);
            assert!(!attrs.exec || kind == Ram);
            assert_eq!(attrs.write, may_write(kind));
            assert!(!attrs.fixed);
        }
        assert!(!RULES.attrs(Mmio, 1).cached);
    }

    /// SDM vol. 3, 29.3.7: a guest's PAT may make its RAM uncached, unless bit 6 says no.
    #[test]
    fn only_devices_have_the_type_that_the_guest_says() {
        let rules = Rules {
            guest_pat: false,
            ..RULES
        };
        use MapKind::*;
        for kind in [Ram, Xen, Foreign, Grant { writable: true }] {
            let attrs = rules.attrs(kind, 1);
            assert!(attrs.fixed && attrs.cached, "{kind:?}");
            assert_eq!(Ept::leaf(Mfn::new(1), 1, attrs) >> 3 & 15, 8 | 6);
        }
        assert_eq!(Ept::leaf(Mfn::new(1), 1, rules.attrs(Mmio, 1)) >> 3 & 15, 0);
    }
}
