//! Copies against entries that change, and ranges that do not fit (the classes of XSA-500 and
//! XSA-523).

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Gfn};
use proptest::prelude::*;

use super::{Grants, HOLE, PERMIT, copy_ptr, pair};
use crate::grant::Status;
use crate::testing::PAGE;

/// A copy takes nothing from a use of the entry that came before it, and is still there.
#[test]
fn a_pinned_entry_that_says_something_else_gives_what_it_says_now() {
    let (_world, a, b) = pair();
    a.write(3 * PAGE, b"three");
    a.write(4 * PAGE, b"four.");
    a.set_entry(9, PERMIT, 2, 3);
    let handle = b.map(1, 9, HOLE, 0).expect("mapped");
    let op = abi::GnttabCopy {
        source: copy_ptr(9, 1, 0),
        dest: copy_ptr(5, DomainId::SELF.0, 0),
        len: 5,
        flags: abi::GNTCOPY_SOURCE_GREF,
        ..Zeroable::zeroed()
    };
    // The guest points the entry elsewhere while it is in use.
    a.set_entry(9, PERMIT, 2, 4);
    assert_eq!(b.copy(op), 0);
    assert_eq!(&b.read::<[u8; 5]>(5 * PAGE), b"four.");
    assert_eq!(&b.read::<[u8; 5]>(HOLE * PAGE), b"three");
    // To a page that is not its own: of nobody's, of the hypervisor's, borrowed from another
    // domain.
    b.set_entry(7, PERMIT, 1, 6);
    let borrowed = a.map(2, 7, HOLE, 0).expect("mapped");
    for gfn in [5000, super::TABLE as u32, HOLE as u32, u32::MAX] {
        a.set_entry(9, PERMIT, 2, gfn);
        assert_eq!(b.copy(op), Status::BadPage as i16, "{gfn}");
    }
    // To another domain, or to a kind that there is not here (transitive grants): no access.
    for (flags, to) in [(PERMIT, 3), (PERMIT + 2, 2), (0, 2)] {
        a.set_entry(9, flags, to, 4);
        assert_eq!(b.copy(op), Status::GeneralError as i16);
    }
    assert_eq!(&b.read::<[u8; 5]>(5 * PAGE), b"four.", "nothing more came");
    assert_eq!(a.domain.grants.usage(), (1, 1), "the mappings only");
    assert_eq!(b.unmap(handle, HOLE), 0);
    assert_eq!(a.unmap(borrowed, HOLE), 0);
    assert_eq!(a.domain.grants.usage(), (0, 0));
    assert!(b.domain.memory.lookup(Gfn::new(HOLE)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the ranges: within both pages, or refused as a whole. Of each page only the range
    /// changes.
    #[test]
    fn a_copy_stays_within_its_ranges(
        from in prop_oneof![0u16..4200, any::<u16>()],
        to in prop_oneof![0u16..4200, any::<u16>()],
        len in prop_oneof![0u16..4200, any::<u16>()],
        granted in 0u16..4,
    ) {
        let (_world, a, b) = pair();
        let pattern: std::vec::Vec<u8> = (0..PAGE).map(|i| (i % 251) as u8 + 1).collect();
        a.write_all(3 * PAGE, &pattern);
        b.write_all(6 * PAGE, &pattern);
        a.set_entry(9, PERMIT, 2, 3);
        a.set_entry(10, PERMIT, 2, 5);
        let (source, by_source) = match granted & 1 {
            0 => (copy_ptr(6, DomainId::SELF.0, from), 0),
            _ => (copy_ptr(9, 1, from), abi::GNTCOPY_SOURCE_GREF),
        };
        let (dest, by_dest, target) = match granted & 2 {
            0 => (copy_ptr(5, DomainId::SELF.0, to), 0, &b),
            _ => (copy_ptr(10, 1, to), abi::GNTCOPY_DEST_GREF, &a),
        };
        let op = abi::GnttabCopy { source, dest, len, flags: by_source | by_dest, ..Zeroable::zeroed() };
        let fits = |at: u16| u64::from(at) + u64::from(len) <= PAGE;
        let status = b.copy(op);
        prop_assert_eq!(status == 0, fits(from) && fits(to), "{}", status);
        let mut expected = std::vec![0u8; 3 * PAGE as usize];
        if status == 0 {
            let (from, to, len) = (usize::from(from), usize::from(to), usize::from(len));
            expected[PAGE as usize + to..][..len].copy_from_slice(&pattern[from..][..len]);
        }
        let mut got = std::vec![0u8; 3 * PAGE as usize];
        let start = oxen_types::Gaddr::new(4 * PAGE);
        target.domain.memory.read(start, &mut got).expect("RAM");
        if granted & 2 == 0 {
            // The page behind it is the source of copies that are not granted.
            expected[2 * PAGE as usize..].copy_from_slice(&pattern);
        }
        prop_assert!(got == expected, "bytes beside the range");
        prop_assert_eq!(a.domain.grants.usage(), (0, 0));
    }
}
