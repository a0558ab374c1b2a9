//! xen/event_channel.h.

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
}

abi_struct! {
    pub struct EvtchnAllocUnbound { pub dom: u16, pub remote_dom: u16, pub port: u32, }
    pub struct EvtchnBindInterdomain { pub remote_dom: u16, pub _pad: u16, pub remote_port: u32, pub local_port: u32, }
    pub struct EvtchnBindVirq { pub virq: u32, pub vcpu: u32, pub port: u32, }
    pub struct EvtchnBindIpi { pub vcpu: u32, pub port: u32, }
    pub struct EvtchnClose { pub port: u32, }
    pub struct EvtchnSend { pub port: u32, }
    pub struct EvtchnStatus { pub dom: u16, pub _pad: u16, pub port: u32, pub status: u32, pub vcpu: u32, pub u: [u8; 8], }
    pub struct EvtchnBindVcpu { pub port: u32, pub vcpu: u32, }
    pub struct EvtchnUnmask { pub port: u32, }
    pub struct EvtchnReset { pub dom: u16, }
    pub struct EvtchnInitControl { pub control_gfn: u64, pub offset: u32, pub vcpu: u32, pub link_bits: u8, pub _pad: [u8; 7], }
    pub struct EvtchnExpandArray { pub array_gfn: u64, }
    pub struct EvtchnSetPriority { pub port: u32, pub priority: u32, }
}
