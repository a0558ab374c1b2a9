//! Event channels as guests use them, in both ABIs.

mod bindings;
pub(super) mod close;
mod fifo;
mod two_level;

use bytemuck::Zeroable;
use guest_pv_abi as abi;
use oxen_types::{DomainId, Port};

use crate::testing::Guest;

const NUMBER: u32 = abi::HYPERVISOR_EVENT_CHANNEL_OP;

/// event_channel_op as each guest makes it.
trait Events {
    fn send(&self, port: u32) -> i64;
    fn close(&self, port: u32) -> i64;
    fn unmask(&self, port: u32) -> i64;
    fn alloc(&self, remote: u16) -> Result<u32, i64>;
    fn bind(&self, remote: u16, port: u32) -> Result<u32, i64>;
    fn virq(&self, virq: u32, vcpu: u32) -> Result<u32, i64>;
    fn ipi(&self, vcpu: u32) -> Result<u32, i64>;
    fn move_to(&self, port: u32, vcpu: u32) -> i64;
    fn status(&self, port: u32) -> Result<(u32, u32), i64>;
    fn is_pending(&self, port: u32) -> bool;
}

fn result(code: i64, value: u32) -> Result<u32, i64> {
    if code == 0 { Ok(value) } else { Err(code) }
}

impl Events for Guest {
    fn send(&self, port: u32) -> i64 {
        self.op(NUMBER, abi::EVTCHNOP_SEND, &mut abi::EvtchnSend { port })
    }

    fn close(&self, port: u32) -> i64 {
        self.op(NUMBER, abi::EVTCHNOP_CLOSE, &mut abi::EvtchnClose { port })
    }

    fn unmask(&self, port: u32) -> i64 {
        let mut ask = abi::EvtchnUnmask { port };
        self.op(NUMBER, abi::EVTCHNOP_UNMASK, &mut ask)
    }

    fn alloc(&self, remote: u16) -> Result<u32, i64> {
        let mut ask = abi::EvtchnAllocUnbound {
            dom: DomainId::SELF.0,
            remote_dom: remote,
            port: 0,
        };
        let code = self.op(NUMBER, abi::EVTCHNOP_ALLOC_UNBOUND, &mut ask);
        result(code, ask.port)
    }

    fn bind(&self, remote: u16, port: u32) -> Result<u32, i64> {
        let mut ask = abi::EvtchnBindInterdomain {
            remote_dom: remote,
            remote_port: port,
            ..Zeroable::zeroed()
        };
        let code = self.op(NUMBER, abi::EVTCHNOP_BIND_INTERDOMAIN, &mut ask);
        result(code, ask.local_port)
    }

    fn virq(&self, virq: u32, vcpu: u32) -> Result<u32, i64> {
        let mut ask = abi::EvtchnBindVirq {
            virq,
            vcpu,
            port: 0,
        };
        let code = self.op(NUMBER, abi::EVTCHNOP_BIND_VIRQ, &mut ask);
        result(code, ask.port)
    }

    fn ipi(&self, vcpu: u32) -> Result<u32, i64> {
        let mut ask = abi::EvtchnBindIpi { vcpu, port: 0 };
        let code = self.op(NUMBER, abi::EVTCHNOP_BIND_IPI, &mut ask);
        result(code, ask.port)
    }

    fn move_to(&self, port: u32, vcpu: u32) -> i64 {
        let mut ask = abi::EvtchnBindVcpu { port, vcpu };
        self.op(NUMBER, abi::EVTCHNOP_BIND_VCPU, &mut ask)
    }

    /// A port's state (EVTCHNSTAT_*), and its vcpu.
    fn status(&self, port: u32) -> Result<(u32, u32), i64> {
        let mut ask = abi::EvtchnStatus {
            dom: DomainId::SELF.0,
            port,
            ..Zeroable::zeroed()
        };
        let code = self.op(NUMBER, abi::EVTCHNOP_STATUS, &mut ask);
        if code == 0 {
            Ok((ask.status, ask.vcpu))
        } else {
            Err(code)
        }
    }

    fn is_pending(&self, port: u32) -> bool {
        self.domain.events.is_pending(&self.domain, Port(port))
    }
}
