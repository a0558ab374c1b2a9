//! Page tables of PV guests (xen/xen.h: mmu_update, mmuext_op, update_va_mapping).

abi! {
    abi_consts! { u32:
        MMU_NORMAL_PT_UPDATE = 0;
        MMU_MACHPHYS_UPDATE = 1;
        MMU_PT_UPDATE_PRESERVE_AD = 2;
        MMU_PT_UPDATE_NO_TRANSLATE = 3;
        MMUEXT_PIN_L1_TABLE = 0;
        MMUEXT_PIN_L2_TABLE = 1;
        MMUEXT_PIN_L3_TABLE = 2;
        MMUEXT_PIN_L4_TABLE = 3;
        MMUEXT_UNPIN_TABLE = 4;
        MMUEXT_NEW_BASEPTR = 5;
        MMUEXT_TLB_FLUSH_LOCAL = 6;
        MMUEXT_INVLPG_LOCAL = 7;
        MMUEXT_TLB_FLUSH_MULTI = 8;
        MMUEXT_INVLPG_MULTI = 9;
        MMUEXT_TLB_FLUSH_ALL = 10;
        MMUEXT_INVLPG_ALL = 11;
        MMUEXT_FLUSH_CACHE = 12;
        MMUEXT_SET_LDT = 13;
        MMUEXT_NEW_USER_BASEPTR = 15;
        MMUEXT_CLEAR_PAGE = 16;
        MMUEXT_COPY_PAGE = 17;
        MMUEXT_FLUSH_CACHE_GLOBAL = 18;
        MMUEXT_MARK_SUPER = 19;
        MMUEXT_UNMARK_SUPER = 20;
        UVMF_NONE = 0;
        UVMF_TLB_FLUSH = 1 << 0;
        UVMF_INVLPG = 1 << 1;
        UVMF_FLUSHTYPE_MASK = 3;
        UVMF_MULTI = 0;
        UVMF_LOCAL = 0;
        UVMF_ALL = 1 << 2;
    }

    abi_struct! {
        /// One update; the low bits of `ptr` say of what kind.
        pub struct MmuUpdate = "struct mmu_update", 16 {
            pub ptr: u64,
            pub val: u64,
        }

        /// One extended operation. `arg1` is a frame number or address, `arg2` a count, handle or
        /// frame.
        pub struct MmuextOp = "struct mmuext_op", 24 {
            pub cmd: u32,
            pub _pad: u32,
            pub arg1: u64,
            pub arg2: u64,
        }
    }
}
