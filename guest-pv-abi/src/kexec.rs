//! Kexec's numbers (xen/kexec.h).

abi! {
    abi_consts! { u32:
        KEXEC_TYPE_DEFAULT = 0;
        KEXEC_TYPE_CRASH = 1;
        KEXEC_CMD_KEXEC = 0;
        KEXEC_CMD_KEXEC_LOAD_V1 = 1;
        KEXEC_CMD_KEXEC_UNLOAD_V1 = 2;
        KEXEC_RANGE_MA_CRASH = 0;
        KEXEC_RANGE_MA_XEN = 1;
        KEXEC_RANGE_MA_CPU = 2;
        KEXEC_RANGE_MA_XENHEAP = 3;
        KEXEC_RANGE_MA_BOOT_PARAM = 4;
        KEXEC_RANGE_MA_EFI_MEMMAP = 5;
        KEXEC_RANGE_MA_VMCOREINFO = 6;
        KEXEC_CMD_KEXEC_GET_RANGE = 3;
        KEXEC_CMD_KEXEC_LOAD = 4;
        KEXEC_CMD_KEXEC_UNLOAD = 5;
        KEXEC_CMD_KEXEC_STATUS = 6;
    }
}
