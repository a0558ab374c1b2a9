//! C unions are byte arrays here; this gives them typed views, by copy.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Typed access to the bytes of a union. A member that is larger than its union does not compile.
pub trait UnionBytes {
    /// The member `T`, which stands at the union's start.
    fn view<T: FromBytes + IntoBytes>(&self) -> T;

    /// Puts the member in; bytes beyond it stay as they are.
    fn store<T: IntoBytes + Immutable>(&mut self, member: &T);

    /// A union with this member, and zeroes beyond it.
    fn holding<T: IntoBytes + Immutable>(member: &T) -> Self;
}

impl<const N: usize> UnionBytes for [u8; N] {
    fn view<T: FromBytes + IntoBytes>(&self) -> T {
        const { assert!(size_of::<T>() <= N) };
        let mut member = T::new_zeroed();
        for (to, from) in member.as_mut_bytes().iter_mut().zip(self) {
            *to = *from;
        }
        member
    }

    fn store<T: IntoBytes + Immutable>(&mut self, member: &T) {
        const { assert!(size_of::<T>() <= N) };
        for (to, from) in self.iter_mut().zip(member.as_bytes()) {
            *to = *from;
        }
    }

    fn holding<T: IntoBytes + Immutable>(member: &T) -> Self {
        let mut union = [0; N];
        union.store(member);
        union
    }
}
