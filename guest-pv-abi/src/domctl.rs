//! Control of one domain by the toolstack (xen/domctl.h, interface version 0x15): numbers and envelope.
//! The operations' arguments are in the `domctl_*` modules.

abi! {
    abi_consts! { u32:
        DOMCTL_INTERFACE_VERSION = 0x15 => "XEN_DOMCTL_INTERFACE_VERSION";

        XEN_DOMCTL_CREATEDOMAIN = 1;
        XEN_DOMCTL_DESTROYDOMAIN = 2;
        XEN_DOMCTL_PAUSEDOMAIN = 3;
        XEN_DOMCTL_UNPAUSEDOMAIN = 4;
        XEN_DOMCTL_GETDOMAININFO = 5;
        XEN_DOMCTL_SETVCPUAFFINITY = 9;
        XEN_DOMCTL_SETVCPUCONTEXT = 12;
        XEN_DOMCTL_GETVCPUCONTEXT = 13;
        XEN_DOMCTL_GETVCPUINFO = 14;
        XEN_DOMCTL_SETDOMAINHANDLE = 17;
        XEN_DOMCTL_SETDEBUGGING = 18;
        XEN_DOMCTL_SETTIMEOFFSET = 24;
        XEN_DOMCTL_GETVCPUAFFINITY = 25;
        XEN_DOMCTL_RESUMEDOMAIN = 27;
        XEN_DOMCTL_SENDTRIGGER = 28;
        XEN_DOMCTL_SUBSCRIBE = 29;
        XEN_DOMCTL_GETHVMCONTEXT = 33;
        XEN_DOMCTL_SETHVMCONTEXT = 34;
        XEN_DOMCTL_GETTSCINFO = 59;
        XEN_DOMCTL_SETTSCINFO = 60;
        XEN_DOMCTL_SETVCPUEXTSTATE = 62;
        XEN_DOMCTL_GETVCPUEXTSTATE = 63;
        XEN_DOMCTL_SETNODEAFFINITY = 68;
        XEN_DOMCTL_GETNODEAFFINITY = 69;
        XEN_DOMCTL_CACHEFLUSH = 71;
        XEN_DOMCTL_SETVNUMAINFO = 74;
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
        Self { cmd, interface_version: DOMCTL_INTERFACE_VERSION, domain, _pad: [0; 3], u: [0; 128] }
    }
}
