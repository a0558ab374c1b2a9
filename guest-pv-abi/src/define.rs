//! How the ABI's items are declared.

/// `#[repr(C)]` structures that are any bytes: safe to copy in from a guest and out to it.
macro_rules! abi_struct {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident : $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq,
                 zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
    )*};
}

macro_rules! abi_consts {
    ($ty:ty: $($(#[$doc:meta])* $name:ident = $value:expr;)*) => {$(
        $(#[$doc])* pub const $name: $ty = $value;
    )*};
}
