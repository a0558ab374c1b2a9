//! Network interfaces (xen/io/netif.h).

abi! {
    abi_consts! { u16:
        NETTXF_CSUM_BLANK = 1 << 0;
        NETTXF_DATA_VALIDATED = 1 << 1;
        NETTXF_MORE_DATA = 1 << 2;
        NETTXF_EXTRA_INFO = 1 << 3;
        NETRXF_DATA_VALIDATED = 1 << 0;
        NETRXF_CSUM_BLANK = 1 << 1;
        NETRXF_MORE_DATA = 1 << 2;
        NETRXF_EXTRA_INFO = 1 << 3;
        NETRXF_GSO_PREFIX = 1 << 4;
    }

    abi_consts! { u8:
        XEN_NETIF_EXTRA_TYPE_NONE = 0;
        XEN_NETIF_EXTRA_TYPE_GSO = 1;
        XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2;
        XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3;
        XEN_NETIF_EXTRA_TYPE_HASH = 4;
        XEN_NETIF_EXTRA_TYPE_MAX = 5;
        XEN_NETIF_EXTRA_FLAG_MORE = 1 << 0;
        XEN_NETIF_GSO_TYPE_NONE = 0;
        XEN_NETIF_GSO_TYPE_TCPV4 = 1;
        XEN_NETIF_GSO_TYPE_TCPV6 = 2;
    }

    abi_consts! { u32:
        XEN_NETIF_NR_SLOTS_MIN = 18;
        XEN_NETIF_MAX_TX_SIZE = 0xffff;
        XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 1 << 0;
        XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1 << 1;
        XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 1 << 2;
        XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 1 << 3;
        XEN_NETIF_CTRL_HASH_ALGORITHM_NONE = 0;
        XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ = 1;
        XEN_NETIF_CTRL_TYPE_INVALID = 0;
        XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS = 1;
        XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS = 2;
        XEN_NETIF_CTRL_TYPE_SET_HASH_KEY = 3;
        XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE = 4;
        XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE = 5;
        XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING = 6;
        XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM = 7;
        XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE = 8;
        XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING = 9;
        XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING = 10;
        XEN_NETIF_CTRL_STATUS_SUCCESS = 0;
        XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED = 1;
        XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER = 2;
        XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW = 3;
        XEN_NETIF_CTRLF_GREF_READONLY = 1 << 0;
    }

    abi_consts! { i16:
        NETIF_RSP_DROPPED = -2;
        NETIF_RSP_ERROR = -1;
        NETIF_RSP_OKAY = 0;
        NETIF_RSP_NULL = 1;
    }

    abi_consts! { usize:
        /// Slots in a transmit ring of one page.
        NETIF_TX_RING_SLOTS = crate::ring_slots(4096, 12) => "__CONST_RING_SIZE(netif_tx, 4096)";
        /// Slots in a receive ring of one page.
        NETIF_RX_RING_SLOTS = crate::ring_slots(4096, 8) => "__CONST_RING_SIZE(netif_rx, 4096)";
    }

    abi_struct! {
        /// A part of a packet to send.
        pub struct NetifTxRequest = "struct netif_tx_request", 12 {
            pub gref: u32,
            pub offset: u16,
            pub flags: u16,
            pub id: u16,
            pub size: u16,
        }

        /// More about the packet, in a slot after its first.
        pub struct NetifExtraInfo = "struct netif_extra_info", 8 {
            pub kind as "type": u8,
            pub flags: u8,
            pub u: [u8; 6],
        }

        /// The answer to a sent part.
        pub struct NetifTxResponse = "struct netif_tx_response", 4 {
            pub id: u16,
            pub status: i16,
        }

        /// A page to receive into.
        pub struct NetifRxRequest = "struct netif_rx_request", 8 {
            pub id: u16,
            pub pad: u16,
            pub gref: u32,
        }

        /// A received part of a packet; `status` is its size.
        pub struct NetifRxResponse = "struct netif_rx_response", 8 {
            pub id: u16,
            pub offset: u16,
            pub flags: u16,
            pub status: i16,
        }

        /// A request on the control ring.
        pub struct NetifCtrlRequest = "struct xen_netif_ctrl_request", 16 {
            pub id: u16,
            pub kind as "type": u16,
            pub data: [u32; 3],
        }

        /// A response on the control ring.
        pub struct NetifCtrlResponse = "struct xen_netif_ctrl_response", 12 {
            pub id: u16,
            pub kind as "type": u16,
            pub status: u32,
            pub data: u32,
        }
    }
}
