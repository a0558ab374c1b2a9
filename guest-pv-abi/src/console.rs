//! The console ring of a domain (xen/io/console.h). Indices run freely; a ring's size masks them.

abi! {
    abi_struct! {
        /// The console page: what the guest reads and what it writes.
        pub struct XenconsInterface = "struct xencons_interface", 3088 {
            pub input as "in": [u8; 1024],
            pub output as "out": [u8; 2048],
            pub in_cons: u32,
            pub in_prod: u32,
            pub out_cons: u32,
            pub out_prod: u32,
        }
    }
}
