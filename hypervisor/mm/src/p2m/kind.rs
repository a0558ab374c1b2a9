//! What stands at a gfn, as rights and a tag of its page-table entry.

use oxen_core::ports::MapKind;

use crate::pt::Attrs;

const RAM: u8 = 1;
const XEN: u8 = 2;
const FOREIGN: u8 = 3;
const GRANT_RW: u8 = 4;
const GRANT_RO: u8 = 5;
const MMIO: u8 = 6;

/// Only its own RAM may a domain execute. Kinds that hold no frame reference are not cached.
pub(super) fn attrs_of(kind: MapKind) -> Attrs {
    let data = |tag| Attrs {
        write: true,
        exec: false,
        cached: true,
        tag,
    };
    match kind {
        MapKind::Ram => Attrs {
            exec: true,
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
            ..data(MMIO)
        },
    }
}

pub(super) fn kind_of(attrs: Attrs) -> MapKind {
    match attrs.tag {
        RAM => MapKind::Ram,
        XEN => MapKind::Xen,
        FOREIGN => MapKind::Foreign,
        GRANT_RW => MapKind::Grant { writable: true },
        GRANT_RO => MapKind::Grant { writable: false },
        MMIO => MapKind::Mmio,
        tag => unreachable!("p2m entry with tag {tag}"),
    }
}

/// May the domain write it? Its entry may say no for a while: see `log`.
pub(super) fn may_write(kind: MapKind) -> bool {
    attrs_of(kind).write
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_tag() {
        let writable = |writable| MapKind::Grant { writable };
        use MapKind::*;
        for kind in [Ram, Xen, Foreign, writable(true), writable(false), Mmio] {
            assert_eq!(kind_of(attrs_of(kind)), kind);
            assert!(!attrs_of(kind).exec || kind == Ram);
        }
        assert!(!attrs_of(writable(false)).write && !attrs_of(Mmio).cached);
    }
}
