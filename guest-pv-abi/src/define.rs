//! How the ABI's items are declared: once, for the hypervisor, the tools and the test that compares
//! them with the C headers. What stands in an `abi!` block is listed in that module's `LAYOUT`, so
//! nothing can be declared without being compared.
//!
//! - `abi_struct!`: `#[repr(C)]` structures in which any bytes are valid. The C type's name is
//!   given; fields have their C names unless `as` says otherwise; `_pad...` fields are ours.
//!   `before` names the C field at which the structure ends here.
//! - `abi_consts!`: numbers, named as in C but in upper case. `=>` gives a C expression where no C
//!   identifier of that name exists.
//! - `abi_texts!`: strings, named likewise.
//! - `abi_extra!`: numbers that the 4.17 headers lack, each with its reason.

/// One file of the ABI.
macro_rules! abi {
    ($($kind:ident! { $($body:tt)* })*) => {
        $($kind! { @item $($body)* })*

        /// The declarations of this module, for the comparison with the C headers.
        #[doc(hidden)]
        pub const LAYOUT: &[&[$crate::layout::Item]] = &[$($kind! { @layout $($body)* }),*];
    };
}

macro_rules! abi_struct {
    (@item $(
        $(#[$doc:meta])*
        pub struct $name:ident = $c:literal, $size:literal $(before $until:literal)? {
            $($(#[$fdoc:meta])* pub $field:ident $(as $cfield:literal)? : $ty:ty),* $(,)?
        }
    )*) => {$(
        $(#[$doc])*
        #[doc = ""]
        #[doc = concat!("C: `", $c, "`.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
    (@layout $(
        $(#[$doc:meta])*
        pub struct $name:ident = $c:literal, $size:literal $(before $until:literal)? {
            $($(#[$fdoc:meta])* pub $field:ident $(as $cfield:literal)? : $ty:ty),* $(,)?
        }
    )*) => {
        &[$($crate::layout::Item::Struct {
            name: stringify!($name),
            c: $c,
            size: size_of::<$name>(),
            until: [$($until,)? ""][0],
            fields: &[$($crate::layout::Field {
                name: stringify!($field),
                c: [$($cfield,)? stringify!($field)][0],
                offset: core::mem::offset_of!($name, $field),
                size: size_of::<$ty>(),
            }),*],
        }),*]
    };
}

macro_rules! abi_consts {
    (@item $ty:ty: $($(#[$doc:meta])* $name:ident = $value:expr $(=> $c:literal)?;)*) => {
        $($(#[$doc])* pub const $name: $ty = $value;)*
    };
    (@layout $ty:ty: $($(#[$doc:meta])* $name:ident = $value:expr $(=> $c:literal)?;)*) => {
        &[$($crate::layout::Item::Const {
            name: stringify!($name),
            c: [$($c,)? ""][0],
            value: $name as i128,
        }),*]
    };
}

macro_rules! abi_extra {
    (@item $ty:ty: $($(#[$doc:meta])+ $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $ty = $value;)*
    };
    (@layout $ty:ty: $($(#[$doc:meta])+ $name:ident = $value:expr;)*) => {
        &[$($crate::layout::Item::Extra { name: stringify!($name) }),*]
    };
}

/// As `abi_struct!`, for structures without any alignment.
macro_rules! abi_packed {
    (@item $(
        $(#[$doc:meta])*
        pub struct $name:ident = $c:literal, $size:literal {
            $($(#[$fdoc:meta])* pub $field:ident $(as $cfield:literal)? : $ty:ty),* $(,)?
        }
    )*) => {$(
        $(#[$doc])*
        #[doc = ""]
        #[doc = concat!("C: `", $c, "`.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C, packed)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
    (@layout $($body:tt)*) => { abi_struct! { @layout $($body)* } };
}

macro_rules! abi_texts {
    (@item $($(#[$doc:meta])* $name:ident = $value:expr $(=> $c:literal)?;)*) => {
        $($(#[$doc])* pub const $name: &str = $value;)*
    };
    (@layout $($(#[$doc:meta])* $name:ident = $value:expr $(=> $c:literal)?;)*) => {
        &[$($crate::layout::Item::Text { name: stringify!($name), c: [$($c,)? ""][0], value: $name }),*]
    };
}
