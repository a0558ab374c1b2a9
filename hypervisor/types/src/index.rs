//! Indices that a guest chose, under speculation.

/// `index` if it is below `len`, and 0 if not, without a branch.
///
/// A check of an index is a branch, which a CPU may predict wrongly. What it loads then, from where
/// the guest's number leads to, can be read out of the caches (Spectre variant 1, XSA-289). So a
/// number of a guest's that indexes a table is checked first and masked after that: within the
/// wrong path the load goes to the table's first entry. It costs nine instructions.
///
/// The first `black_box` keeps the compiler from concluding, from the check before, that the mask
/// is all ones; the second from making a branch of it. The language promises neither: that the mask
/// is there was seen in the machine code (`Domain::vcpu`).
#[inline(always)]
#[must_use]
pub fn masked(index: usize, len: usize) -> usize {
    let index = core::hint::black_box(index);
    // The highest bit is clear only if both are small enough: index, and len - 1 - index.
    let outside = index | len.wrapping_sub(1).wrapping_sub(index);
    let none = core::hint::black_box((outside as isize >> (usize::BITS - 1)) as usize);
    index & !none
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_becomes_zero() {
        for len in [0, 1, 2, 3, 64, 4096, usize::MAX >> 1] {
            for index in [0, 1, 2, 63, 64, 65, 4095, 4096, usize::MAX >> 1, usize::MAX] {
                let expected = if index < len { index } else { 0 };
                assert_eq!(masked(index, len), expected, "{index} of {len}");
            }
        }
    }
}
