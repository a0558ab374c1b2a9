//! States of the two ends of a split driver, as xenstore holds them in decimal (xen/io/xenbus.h),
//! and the names of their ring layouts (xen/io/protocols.h).

abi! {
    abi_consts! { u32:
        XENBUS_STATE_UNKNOWN = 0 => "XenbusStateUnknown";
        XENBUS_STATE_INITIALISING = 1 => "XenbusStateInitialising";
        XENBUS_STATE_INIT_WAIT = 2 => "XenbusStateInitWait";
        XENBUS_STATE_INITIALISED = 3 => "XenbusStateInitialised";
        XENBUS_STATE_CONNECTED = 4 => "XenbusStateConnected";
        XENBUS_STATE_CLOSING = 5 => "XenbusStateClosing";
        XENBUS_STATE_CLOSED = 6 => "XenbusStateClosed";
        XENBUS_STATE_RECONFIGURING = 7 => "XenbusStateReconfiguring";
        XENBUS_STATE_RECONFIGURED = 8 => "XenbusStateReconfigured";
    }

    abi_texts! {
        XEN_IO_PROTO_ABI_X86_32 = "x86_32-abi";
        XEN_IO_PROTO_ABI_X86_64 = "x86_64-abi";
        XEN_IO_PROTO_ABI_ARM = "arm-abi";
        XEN_IO_PROTO_ABI_NATIVE = XEN_IO_PROTO_ABI_X86_64;
    }
}
