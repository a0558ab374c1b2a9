//! The protocol of xenstore (xen/io/xs_wire.h), on its socket and in a domain's ring.

use crate::{
    XEN_E2BIG, XEN_EACCES, XEN_EAGAIN, XEN_EBUSY, XEN_EEXIST, XEN_EINVAL, XEN_EIO, XEN_EISCONN,
    XEN_EISDIR, XEN_ENOENT, XEN_ENOMEM, XEN_ENOSPC, XEN_ENOSYS, XEN_ENOTEMPTY, XEN_EPERM,
    XEN_EROFS,
};

abi! {
    abi_consts! { u32:
        XS_CONTROL = 0;
        XS_DIRECTORY = 1;
        XS_READ = 2;
        XS_GET_PERMS = 3;
        XS_WATCH = 4;
        XS_UNWATCH = 5;
        XS_TRANSACTION_START = 6;
        XS_TRANSACTION_END = 7;
        XS_INTRODUCE = 8;
        XS_RELEASE = 9;
        XS_GET_DOMAIN_PATH = 10;
        XS_WRITE = 11;
        XS_MKDIR = 12;
        XS_RM = 13;
        XS_SET_PERMS = 14;
        XS_WATCH_EVENT = 15;
        XS_ERROR = 16;
        XS_IS_DOMAIN_INTRODUCED = 17;
        XS_RESUME = 18;
        XS_SET_TARGET = 19;
        XS_RESET_WATCHES = 21;
        XS_DIRECTORY_PART = 22;
        XS_TYPE_COUNT = 23;
        XS_INVALID = 0xffff;
        XENSTORE_RING_SIZE = 1024;
        XENSTORE_PAYLOAD_MAX = 4096;
        XENSTORE_ABS_PATH_MAX = 3072;
        XENSTORE_REL_PATH_MAX = 2048;
        XENSTORE_SERVER_FEATURE_RECONNECTION = 1;
        XENSTORE_SERVER_FEATURE_ERROR = 2;
        XENSTORE_CONNECTED = 0;
        XENSTORE_RECONNECT = 1;
        XENSTORE_ERROR_NONE = 0;
        XENSTORE_ERROR_COMM = 1;
        XENSTORE_ERROR_RINGIDX = 2;
        XENSTORE_ERROR_PROTO = 3;
        XS_WATCH_PATH = 0;
        XS_WATCH_TOKEN = 1;
    }

    abi_struct! {
        /// The header of each message.
        pub struct XsdSockmsg = "struct xsd_sockmsg", 16 {
            pub kind as "type": u32,
            pub req_id: u32,
            pub tx_id: u32,
            pub len: u32,
        }

        /// The page by which a domain reaches xenstore.
        pub struct XenstoreDomainInterface = "struct xenstore_domain_interface", 2076 {
            pub req: [u8; 1024],
            pub rsp: [u8; 1024],
            pub req_cons: u32,
            pub req_prod: u32,
            pub rsp_cons: u32,
            pub rsp_prod: u32,
            pub server_features: u32,
            pub connection: u32,
            pub error: u32,
        }
    }

    abi_texts! {
        XS_WRITE_NONE = "NONE";
        XS_WRITE_CREATE = "CREATE";
        XS_WRITE_CREATE_EXCL = "CREATE|EXCL";
        XSD_EINVAL = "EINVAL" => "xsd_errors[0].errstring";
        XSD_EACCES = "EACCES" => "xsd_errors[1].errstring";
        XSD_EEXIST = "EEXIST" => "xsd_errors[2].errstring";
        XSD_EISDIR = "EISDIR" => "xsd_errors[3].errstring";
        XSD_ENOENT = "ENOENT" => "xsd_errors[4].errstring";
        XSD_ENOMEM = "ENOMEM" => "xsd_errors[5].errstring";
        XSD_ENOSPC = "ENOSPC" => "xsd_errors[6].errstring";
        XSD_EIO = "EIO" => "xsd_errors[7].errstring";
        XSD_ENOTEMPTY = "ENOTEMPTY" => "xsd_errors[8].errstring";
        XSD_ENOSYS = "ENOSYS" => "xsd_errors[9].errstring";
        XSD_EROFS = "EROFS" => "xsd_errors[10].errstring";
        XSD_EBUSY = "EBUSY" => "xsd_errors[11].errstring";
        XSD_EAGAIN = "EAGAIN" => "xsd_errors[12].errstring";
        XSD_EISCONN = "EISCONN" => "xsd_errors[13].errstring";
        XSD_E2BIG = "E2BIG" => "xsd_errors[14].errstring";
        XSD_EPERM = "EPERM" => "xsd_errors[15].errstring";
    }
}

/// The payloads of `XS_ERROR` and the error numbers that they stand for.
pub const XSD_ERRORS: [(i32, &str); 16] = [
    (XEN_EINVAL, XSD_EINVAL),
    (XEN_EACCES, XSD_EACCES),
    (XEN_EEXIST, XSD_EEXIST),
    (XEN_EISDIR, XSD_EISDIR),
    (XEN_ENOENT, XSD_ENOENT),
    (XEN_ENOMEM, XSD_ENOMEM),
    (XEN_ENOSPC, XSD_ENOSPC),
    (XEN_EIO, XSD_EIO),
    (XEN_ENOTEMPTY, XSD_ENOTEMPTY),
    (XEN_ENOSYS, XSD_ENOSYS),
    (XEN_EROFS, XSD_EROFS),
    (XEN_EBUSY, XSD_EBUSY),
    (XEN_EAGAIN, XSD_EAGAIN),
    (XEN_EISCONN, XSD_EISCONN),
    (XEN_E2BIG, XSD_E2BIG),
    (XEN_EPERM, XSD_EPERM),
];
