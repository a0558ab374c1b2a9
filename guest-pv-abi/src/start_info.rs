//! The start information of a PVH kernel (xen/arch-x86/hvm/start_info.h): EBX holds the physical
//! address of an `HvmStartInfo`.

abi! {
    abi_consts! { u32:
        XEN_HVM_START_MAGIC_VALUE = 0x336e_c578;
        XEN_HVM_MEMMAP_TYPE_RAM = 1;
        XEN_HVM_MEMMAP_TYPE_RESERVED = 2;
        XEN_HVM_MEMMAP_TYPE_ACPI = 3;
        XEN_HVM_MEMMAP_TYPE_NVS = 4;
        XEN_HVM_MEMMAP_TYPE_UNUSABLE = 5;
        XEN_HVM_MEMMAP_TYPE_DISABLED = 6;
        XEN_HVM_MEMMAP_TYPE_PMEM = 7;
    }

    abi_struct! {
        /// The start info. `memmap_paddr` and what follows exist from version 1 on.
        pub struct HvmStartInfo = "struct hvm_start_info", 56 {
            pub magic: u32,
            pub version: u32,
            pub flags: u32,
            pub nr_modules: u32,
            pub modlist_paddr: u64,
            pub cmdline_paddr: u64,
            pub rsdp_paddr: u64,
            pub memmap_paddr: u64,
            pub memmap_entries: u32,
            pub reserved: u32,
        }

        /// A module, such as the initrd.
        pub struct HvmModlistEntry = "struct hvm_modlist_entry", 32 {
            pub paddr: u64,
            pub size: u64,
            pub cmdline_paddr: u64,
            pub reserved: u64,
        }

        /// A range of the memory map. `kind` is one of E820's types.
        pub struct HvmMemmapTableEntry = "struct hvm_memmap_table_entry", 24 {
            pub addr: u64,
            pub size: u64,
            pub kind as "type": u32,
            pub reserved: u32,
        }
    }
}
