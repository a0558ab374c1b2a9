//! The base of the ABI (xen/xen.h): hypercall numbers, virtual interrupts, domain ids, multicall,
//! console_io, vm_assist.

use crate::GuestHandle;

abi! {
    abi_consts! { u32:
        HYPERVISOR_SET_TRAP_TABLE = 0;
        HYPERVISOR_MMU_UPDATE = 1;
        HYPERVISOR_SET_GDT = 2;
        HYPERVISOR_STACK_SWITCH = 3;
        HYPERVISOR_SET_CALLBACKS = 4;
        HYPERVISOR_FPU_TASKSWITCH = 5;
        HYPERVISOR_SCHED_OP_COMPAT = 6;
        HYPERVISOR_PLATFORM_OP = 7;
        HYPERVISOR_SET_DEBUGREG = 8;
        HYPERVISOR_GET_DEBUGREG = 9;
        HYPERVISOR_UPDATE_DESCRIPTOR = 10;
        HYPERVISOR_MEMORY_OP = 12;
        HYPERVISOR_MULTICALL = 13;
        HYPERVISOR_UPDATE_VA_MAPPING = 14;
        HYPERVISOR_SET_TIMER_OP = 15;
        HYPERVISOR_EVENT_CHANNEL_OP_COMPAT = 16;
        HYPERVISOR_XEN_VERSION = 17;
        HYPERVISOR_CONSOLE_IO = 18;
        HYPERVISOR_PHYSDEV_OP_COMPAT = 19;
        HYPERVISOR_GRANT_TABLE_OP = 20;
        HYPERVISOR_VM_ASSIST = 21;
        HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN = 22;
        HYPERVISOR_IRET = 23;
        HYPERVISOR_VCPU_OP = 24;
        HYPERVISOR_SET_SEGMENT_BASE = 25;
        HYPERVISOR_MMUEXT_OP = 26;
        HYPERVISOR_XSM_OP = 27;
        HYPERVISOR_NMI_OP = 28;
        HYPERVISOR_SCHED_OP = 29;
        HYPERVISOR_CALLBACK_OP = 30;
        HYPERVISOR_XENOPROF_OP = 31;
        HYPERVISOR_EVENT_CHANNEL_OP = 32;
        HYPERVISOR_PHYSDEV_OP = 33;
        HYPERVISOR_HVM_OP = 34;
        HYPERVISOR_SYSCTL = 35;
        HYPERVISOR_DOMCTL = 36;
        HYPERVISOR_KEXEC_OP = 37;
        HYPERVISOR_TMEM_OP = 38;
        HYPERVISOR_ARGO_OP = 39;
        HYPERVISOR_XENPMU_OP = 40;
        HYPERVISOR_DM_OP = 41;
        HYPERVISOR_HYPFS_OP = 42;
        HYPERVISOR_ARCH_0 = 48;
        HYPERVISOR_ARCH_1 = 49;
        HYPERVISOR_ARCH_2 = 50;
        HYPERVISOR_ARCH_3 = 51;
        HYPERVISOR_ARCH_4 = 52;
        HYPERVISOR_ARCH_5 = 53;
        HYPERVISOR_ARCH_6 = 54;
        HYPERVISOR_ARCH_7 = 55;

        VIRQ_TIMER = 0;
        VIRQ_DEBUG = 1;
        VIRQ_CONSOLE = 2;
        VIRQ_DOM_EXC = 3;
        VIRQ_TBUF = 4;
        VIRQ_DEBUGGER = 6;
        VIRQ_XENOPROF = 7;
        VIRQ_CON_RING = 8;
        VIRQ_PCPU_STATE = 9;
        VIRQ_MEM_EVENT = 10;
        VIRQ_ARGO = 11;
        VIRQ_ENOMEM = 12;
        VIRQ_XENPMU = 13;
        VIRQ_ARCH_0 = 16;
        VIRQ_ARCH_1 = 17;
        VIRQ_ARCH_2 = 18;
        VIRQ_ARCH_3 = 19;
        VIRQ_ARCH_4 = 20;
        VIRQ_ARCH_5 = 21;
        VIRQ_ARCH_6 = 22;
        VIRQ_ARCH_7 = 23;
        NR_VIRQS = 24;

        CONSOLEIO_WRITE = 0;
        CONSOLEIO_READ = 1;

        VMASST_CMD_ENABLE = 0;
        VMASST_CMD_DISABLE = 1;
        VMASST_TYPE_4GB_SEGMENTS = 0;
        VMASST_TYPE_4GB_SEGMENTS_NOTIFY = 1;
        VMASST_TYPE_WRITABLE_PAGETABLES = 2;
        VMASST_TYPE_PAE_EXTENDED_CR3 = 3;
        VMASST_TYPE_ARCHITECTURAL_IOPL = 4;
        VMASST_TYPE_RUNSTATE_UPDATE_FLAG = 5;
        VMASST_TYPE_M2P_STRICT = 32;
        SIF_PRIVILEGED = 1 << 0;
        SIF_INITDOMAIN = 1 << 1;
        SIF_MULTIBOOT_MOD = 1 << 2;
        SIF_MOD_START_PFN = 1 << 3;
        SIF_VIRT_P2M_4TOOLS = 1 << 4;
        SIF_PM_MASK = 0xff00;
        MAX_GUEST_CMDLINE = 1024;
        XEN_VGATYPE_TEXT_MODE_3 = 0x03;
        XEN_VGATYPE_VESA_LFB = 0x23;
        XEN_VGATYPE_EFI_LFB = 0x70;
    }

    abi_consts! { u16:
        DOMID_FIRST_RESERVED = 0x7ff0;
        DOMID_SELF = 0x7ff0;
        DOMID_IO = 0x7ff1;
        DOMID_XEN = 0x7ff2;
        DOMID_COW = 0x7ff3;
        DOMID_INVALID = 0x7ff4;
        DOMID_IDLE = 0x7fff;
        DOMID_MASK = 0x7fff;
    }

    abi_struct! {
        /// One call in the list of a multicall.
        pub struct MulticallEntry = "struct multicall_entry", 64 {
            pub op: u64,
            pub result: u64,
            pub args: [u64; 6],
        }

        /// A bitmap in the caller's memory.
        pub struct BitmapHandle = "struct xenctl_bitmap", 16 {
            pub bitmap: GuestHandle<u8>,
            pub nr_bits: u32,
            pub _pad: u32,
        }

        /// dom0's text mode, a member of `VgaConsoleInfo`.
        pub struct VgaTextMode = "__typeof__(((struct dom0_vga_console_info *)0)->u.text_mode_3)", 10 {
            pub font_height: u16,
            pub cursor_x: u16,
            pub cursor_y: u16,
            pub rows: u16,
            pub columns: u16,
        }

        /// dom0's frame buffer, a member of `VgaConsoleInfo`.
        pub struct VgaFrameBuffer = "__typeof__(((struct dom0_vga_console_info *)0)->u.vesa_lfb)", 36 {
            pub width: u16,
            pub height: u16,
            pub bytes_per_line: u16,
            pub bits_per_pixel: u16,
            pub lfb_base: u32,
            pub lfb_size: u32,
            pub red_pos: u8,
            pub red_size: u8,
            pub green_pos: u8,
            pub green_size: u8,
            pub blue_pos: u8,
            pub blue_size: u8,
            pub rsvd_pos: u8,
            pub rsvd_size: u8,
            pub gbl_caps: u32,
            pub mode_attrs: u16,
            pub pad: u16,
            pub ext_lfb_base: u32,
        }

        /// The screen that dom0 finds. `u` is a `VgaTextMode` or a `VgaFrameBuffer`, by
        /// `video_type`.
        pub struct VgaConsoleInfo = "struct dom0_vga_console_info", 40 {
            pub video_type: u8,
            pub _pad: [u8; 3],
            pub u: [u8; 36],
        }
    }
}
