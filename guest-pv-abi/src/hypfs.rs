//! The hypervisor's file system (xen/hypfs.h).

abi! {
    abi_consts! { u32:
        XEN_HYPFS_VERSION = 1;
        XEN_HYPFS_MAX_PATHLEN = 1024;
        XEN_HYPFS_TYPE_DIR = 0;
        XEN_HYPFS_TYPE_BLOB = 1;
        XEN_HYPFS_TYPE_STRING = 2;
        XEN_HYPFS_TYPE_UINT = 3;
        XEN_HYPFS_TYPE_INT = 4;
        XEN_HYPFS_TYPE_BOOL = 5;
        XEN_HYPFS_ENC_PLAIN = 0;
        XEN_HYPFS_ENC_GZIP = 1;
        XEN_HYPFS_OP_GET_VERSION = 0;
        XEN_HYPFS_OP_READ = 1;
        XEN_HYPFS_OP_WRITE_CONTENTS = 2;
    }

    abi_struct! {
        /// The header of an entry's content.
        pub struct HypfsDirentry = "struct xen_hypfs_direntry", 12 {
            pub kind as "type": u8,
            pub encoding: u8,
            pub pad: u16,
            pub content_len: u32,
            pub max_write_len: u32,
        }

    }
}
