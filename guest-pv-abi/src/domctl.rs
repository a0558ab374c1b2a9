//! Control of one domain by the toolstack (xen/domctl.h, interface version 0x15): numbers and
//! envelope. The operations' arguments are in the `domctl_*` modules.

use bytemuck::Pod;

use crate::UnionBytes;

abi! {
    abi_consts! { u32:
        DOMCTL_INTERFACE_VERSION = 0x15 => "XEN_DOMCTL_INTERFACE_VERSION";

        XEN_DOMCTL_CREATEDOMAIN = 1;
        XEN_DOMCTL_DESTROYDOMAIN = 2;
        XEN_DOMCTL_PAUSEDOMAIN = 3;
        XEN_DOMCTL_UNPAUSEDOMAIN = 4;
        XEN_DOMCTL_GETDOMAININFO = 5;
        XEN_DOMCTL_SETVCPUAFFINITY = 9;
        XEN_DOMCTL_SHADOW_OP = 10;
        XEN_DOMCTL_MAX_MEM = 11;
        XEN_DOMCTL_SETVCPUCONTEXT = 12;
        XEN_DOMCTL_GETVCPUCONTEXT = 13;
        XEN_DOMCTL_GETVCPUINFO = 14;
        XEN_DOMCTL_MAX_VCPUS = 15;
        XEN_DOMCTL_SCHEDULER_OP = 16;
        XEN_DOMCTL_SETDOMAINHANDLE = 17;
        XEN_DOMCTL_SETDEBUGGING = 18;
        XEN_DOMCTL_IRQ_PERMISSION = 19;
        XEN_DOMCTL_IOMEM_PERMISSION = 20;
        XEN_DOMCTL_IOPORT_PERMISSION = 21;
        XEN_DOMCTL_HYPERCALL_INIT = 22;
        XEN_DOMCTL_SETTIMEOFFSET = 24;
        XEN_DOMCTL_GETVCPUAFFINITY = 25;
        XEN_DOMCTL_REAL_MODE_AREA = 26;
        XEN_DOMCTL_RESUMEDOMAIN = 27;
        XEN_DOMCTL_SENDTRIGGER = 28;
        XEN_DOMCTL_SUBSCRIBE = 29;
        XEN_DOMCTL_GETHVMCONTEXT = 33;
        XEN_DOMCTL_SETHVMCONTEXT = 34;
        XEN_DOMCTL_SET_ADDRESS_SIZE = 35;
        XEN_DOMCTL_GET_ADDRESS_SIZE = 36;
        XEN_DOMCTL_ASSIGN_DEVICE = 37;
        XEN_DOMCTL_BIND_PT_IRQ = 38;
        XEN_DOMCTL_MEMORY_MAPPING = 39;
        XEN_DOMCTL_IOPORT_MAPPING = 40;
        XEN_DOMCTL_SET_EXT_VCPUCONTEXT = 42;
        XEN_DOMCTL_GET_EXT_VCPUCONTEXT = 43;
        XEN_DOMCTL_SET_OPT_FEATURE = 44;
        XEN_DOMCTL_TEST_ASSIGN_DEVICE = 45;
        XEN_DOMCTL_SET_TARGET = 46;
        XEN_DOMCTL_DEASSIGN_DEVICE = 47;
        XEN_DOMCTL_UNBIND_PT_IRQ = 48;
        XEN_DOMCTL_GET_DEVICE_GROUP = 50;
        XEN_DOMCTL_DEBUG_OP = 54;
        XEN_DOMCTL_GETHVMCONTEXT_PARTIAL = 55;
        XEN_DOMCTL_VM_EVENT_OP = 56;
        XEN_DOMCTL_MEM_SHARING_OP = 57;
        XEN_DOMCTL_GETTSCINFO = 59;
        XEN_DOMCTL_SETTSCINFO = 60;
        XEN_DOMCTL_GETPAGEFRAMEINFO3 = 61;
        XEN_DOMCTL_SETVCPUEXTSTATE = 62;
        XEN_DOMCTL_GETVCPUEXTSTATE = 63;
        XEN_DOMCTL_SET_ACCESS_REQUIRED = 64;
        XEN_DOMCTL_AUDIT_P2M = 65;
        XEN_DOMCTL_SET_VIRQ_HANDLER = 66;
        XEN_DOMCTL_SET_BROKEN_PAGE_P2M = 67;
        XEN_DOMCTL_SETNODEAFFINITY = 68;
        XEN_DOMCTL_GETNODEAFFINITY = 69;
        XEN_DOMCTL_CACHEFLUSH = 71;
        XEN_DOMCTL_GET_VCPU_MSRS = 72;
        XEN_DOMCTL_SET_VCPU_MSRS = 73;
        XEN_DOMCTL_SETVNUMAINFO = 74;
        XEN_DOMCTL_PSR_CMT_OP = 75;
        XEN_DOMCTL_MONITOR_OP = 77;
        XEN_DOMCTL_PSR_ALLOC = 78;
        XEN_DOMCTL_SOFT_RESET = 79;
        XEN_DOMCTL_VUART_OP = 81;
        XEN_DOMCTL_GET_CPU_POLICY = 82;
        XEN_DOMCTL_SET_CPU_POLICY = 83;
        XEN_DOMCTL_VMTRACE_OP = 84;
        XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE = 85;
        XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE = 86;
        XEN_DOMCTL_GDBSX_GUESTMEMIO = 1000;
        XEN_DOMCTL_GDBSX_PAUSEVCPU = 1001;
        XEN_DOMCTL_GDBSX_UNPAUSEVCPU = 1002;
        XEN_DOMCTL_GDBSX_DOMSTATUS = 1003;
    }

    abi_struct! {
        /// The argument of the domctl hypercall. `u` holds the operation's own structure.
        pub struct Domctl = "struct xen_domctl", 144 {
            pub cmd: u32,
            pub interface_version: u32,
            pub domain: u16,
            pub _pad: [u16; 3],
            pub u: [u8; 128],
        }
    }
}

impl Domctl {
    /// An operation without an argument (so far).
    pub const fn new(cmd: u32, domain: u16) -> Self {
        Self {
            cmd,
            interface_version: DOMCTL_INTERFACE_VERSION,
            domain,
            _pad: [0; 3],
            u: [0; 128],
        }
    }

    /// An operation with its argument.
    pub fn with<T: Pod>(cmd: u32, domain: u16, argument: &T) -> Self {
        Self {
            u: UnionBytes::holding(argument),
            ..Self::new(cmd, domain)
        }
    }
}
