//! Event channels (xen/event_channel.h): the operations, and the FIFO ABI's shared words.

abi! {
    abi_consts! { u32:
        EVTCHNOP_BIND_INTERDOMAIN = 0;
        EVTCHNOP_BIND_VIRQ = 1;
        EVTCHNOP_BIND_PIRQ = 2;
        EVTCHNOP_CLOSE = 3;
        EVTCHNOP_SEND = 4;
        EVTCHNOP_STATUS = 5;
        EVTCHNOP_ALLOC_UNBOUND = 6;
        EVTCHNOP_BIND_IPI = 7;
        EVTCHNOP_BIND_VCPU = 8;
        EVTCHNOP_UNMASK = 9;
        EVTCHNOP_RESET = 10;
        EVTCHNOP_INIT_CONTROL = 11;
        EVTCHNOP_EXPAND_ARRAY = 12;
        EVTCHNOP_SET_PRIORITY = 13;
        EVTCHNSTAT_CLOSED = 0;
        EVTCHNSTAT_UNBOUND = 1;
        EVTCHNSTAT_INTERDOMAIN = 2;
        EVTCHNSTAT_PIRQ = 3;
        EVTCHNSTAT_VIRQ = 4;
        EVTCHNSTAT_IPI = 5;
        BIND_PIRQ__WILL_SHARE = 1;
        EVTCHN_2L_NR_CHANNELS = 0x1000;

        EVTCHN_FIFO_PRIORITY_MAX = 0;
        EVTCHN_FIFO_PRIORITY_DEFAULT = 7;
        EVTCHN_FIFO_PRIORITY_MIN = 15;
        EVTCHN_FIFO_MAX_QUEUES = 16;
        EVTCHN_FIFO_PENDING = 31;
        EVTCHN_FIFO_MASKED = 30;
        EVTCHN_FIFO_LINKED = 29;
        EVTCHN_FIFO_BUSY = 28;
        EVTCHN_FIFO_LINK_BITS = 17;
        EVTCHN_FIFO_LINK_MASK = 0x0001_ffff;
        EVTCHN_FIFO_NR_CHANNELS = 1 << 17;
    }

    abi_struct! {
        /// `EVTCHNOP_ALLOC_UNBOUND`.
        pub struct EvtchnAllocUnbound = "struct evtchn_alloc_unbound", 8 {
            pub dom: u16,
            pub remote_dom: u16,
            pub port: u32,
        }

        /// `EVTCHNOP_BIND_INTERDOMAIN`.
        pub struct EvtchnBindInterdomain = "struct evtchn_bind_interdomain", 12 {
            pub remote_dom: u16,
            pub _pad: u16,
            pub remote_port: u32,
            pub local_port: u32,
        }

        /// `EVTCHNOP_BIND_VIRQ`.
        pub struct EvtchnBindVirq = "struct evtchn_bind_virq", 12 {
            pub virq: u32,
            pub vcpu: u32,
            pub port: u32,
        }

        /// `EVTCHNOP_BIND_PIRQ`.
        pub struct EvtchnBindPirq = "struct evtchn_bind_pirq", 12 {
            pub pirq: u32,
            pub flags: u32,
            pub port: u32,
        }

        /// `EVTCHNOP_BIND_IPI`.
        pub struct EvtchnBindIpi = "struct evtchn_bind_ipi", 8 {
            pub vcpu: u32,
            pub port: u32,
        }

        /// `EVTCHNOP_CLOSE`.
        pub struct EvtchnClose = "struct evtchn_close", 4 {
            pub port: u32,
        }

        /// `EVTCHNOP_SEND`.
        pub struct EvtchnSend = "struct evtchn_send", 4 {
            pub port: u32,
        }

        /// The union member of `EvtchnStatus` for an interdomain channel; an unbound one has only
        /// `dom`.
        pub struct EvtchnStatusInterdomain = "__typeof__(((struct evtchn_status *)0)->u.interdomain)", 8 {
            pub dom: u16,
            pub _pad: u16,
            pub port: u32,
        }

        /// `EVTCHNOP_STATUS`.
        pub struct EvtchnStatus = "struct evtchn_status", 24 {
            pub dom: u16,
            pub _pad: u16,
            pub port: u32,
            pub status: u32,
            pub vcpu: u32,
            pub u: [u8; 8],
        }

        /// `EVTCHNOP_BIND_VCPU`.
        pub struct EvtchnBindVcpu = "struct evtchn_bind_vcpu", 8 {
            pub port: u32,
            pub vcpu: u32,
        }

        /// `EVTCHNOP_UNMASK`.
        pub struct EvtchnUnmask = "struct evtchn_unmask", 4 {
            pub port: u32,
        }

        /// `EVTCHNOP_RESET`.
        pub struct EvtchnReset = "struct evtchn_reset", 2 {
            pub dom: u16,
        }

        /// `EVTCHNOP_INIT_CONTROL`.
        pub struct EvtchnInitControl = "struct evtchn_init_control", 24 {
            pub control_gfn: u64,
            pub offset: u32,
            pub vcpu: u32,
            pub link_bits: u8,
            pub _pad: [u8; 7],
        }

        /// `EVTCHNOP_EXPAND_ARRAY`.
        pub struct EvtchnExpandArray = "struct evtchn_expand_array", 8 {
            pub array_gfn: u64,
        }

        /// `EVTCHNOP_SET_PRIORITY`.
        pub struct EvtchnSetPriority = "struct evtchn_set_priority", 8 {
            pub port: u32,
            pub priority: u32,
        }

        /// A vcpu's control block of the FIFO ABI, in the guest's memory.
        pub struct EvtchnFifoControlBlock = "struct evtchn_fifo_control_block", 72 {
            pub ready: u32,
            pub _rsvd: u32,
            pub head: [u32; 16],
        }
    }
}
