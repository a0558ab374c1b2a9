//! Guest handles: addresses in the caller's linear address space.

/// Gives every type the address by which a guest hands it over.
pub trait Pointee {
    type Address;
}

impl<T: ?Sized> Pointee for T {
    type Address = u64;
}

/// `XEN_GUEST_HANDLE(T)`: the linear address of a `T` or of a list of them. It is a plain `u64`:
/// only the hypervisor's guest access may turn it into a typed pointer, and it checks it there.
pub type GuestHandle<T> = <T as Pointee>::Address;
