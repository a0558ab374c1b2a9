//! C unions are byte arrays here; this gives them typed views, by copy.

use bytemuck::Pod;

/// Typed access to the bytes of a union. A member that is larger than its union does not compile.
pub trait UnionBytes {
    /// The member `T`, which stands at the union's start.
    fn view<T: Pod>(&self) -> T;

    /// Puts the member in; bytes beyond it stay as they are.
    fn store<T: Pod>(&mut self, member: &T);

    /// A union with this member, and zeroes beyond it.
    fn holding<T: Pod>(member: &T) -> Self;
}

impl<const N: usize> UnionBytes for [u8; N] {
    fn view<T: Pod>(&self) -> T {
        const { assert!(size_of::<T>() <= N) };
        let mut member = T::zeroed();
        for (to, from) in bytemuck::bytes_of_mut(&mut member).iter_mut().zip(self) {
            *to = *from;
        }
        member
    }

    fn store<T: Pod>(&mut self, member: &T) {
        const { assert!(size_of::<T>() <= N) };
        for (to, from) in self.iter_mut().zip(bytemuck::bytes_of(member)) {
            *to = *from;
        }
    }

    fn holding<T: Pod>(member: &T) -> Self {
        let mut union = [0; N];
        union.store(member);
        union
    }
}

/// The structure at the start of `bytes`, and what follows it.
pub fn take_first<T: Pod>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (first, rest) = bytes.split_at_checked(size_of::<T>())?;
    Some((bytemuck::pod_read_unaligned(first), rest))
}
