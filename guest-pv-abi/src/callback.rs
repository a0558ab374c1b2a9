//! Entry points that a PV guest registers (xen/callback.h, xen/nmi.h).

abi! {
    abi_consts! { u32:
        CALLBACKOP_REGISTER = 0;
        CALLBACKOP_UNREGISTER = 1;
        CALLBACKTYPE_EVENT = 0;
        CALLBACKTYPE_FAILSAFE = 1;
        CALLBACKTYPE_SYSCALL = 2;
        CALLBACKTYPE_SYSENTER_DEPRECATED = 3;
        CALLBACKTYPE_NMI = 4;
        CALLBACKTYPE_SYSENTER = 5;
        CALLBACKTYPE_SYSCALL32 = 7;
        CALLBACKF_MASK_EVENTS = 1 << 0;
        XENNMI_REGISTER_CALLBACK = 0;
        XENNMI_UNREGISTER_CALLBACK = 1;
        XEN_NMIREASON_IO_ERROR = 1 << 0;
        XEN_NMIREASON_PCI_SERR = 1 << 1;
        XEN_NMIREASON_UNKNOWN = 1 << 2;
    }

    abi_struct! {
        /// `CALLBACKOP_REGISTER`.
        pub struct CallbackRegister = "struct callback_register", 16 {
            pub kind as "type": u16,
            pub flags: u16,
            pub _pad: u32,
            pub address: u64,
        }

        /// `CALLBACKOP_UNREGISTER`.
        pub struct CallbackUnregister = "struct callback_unregister", 4 {
            pub kind as "type": u16,
            pub _unused: u16,
        }

        /// `XENNMI_REGISTER_CALLBACK`.
        pub struct NmiCallback = "struct xennmi_callback", 16 {
            pub handler_address: u64,
            pub pad: u64,
        }
    }
}
