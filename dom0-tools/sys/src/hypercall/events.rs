//! Event channels of other domains (xen/event_channel.h). Our own are in [`crate::evtchn`].

use guest_pv_abi as abi;

use super::nr;
use crate::{Privcmd, Result};

impl Privcmd {
    /// A port of `domain` that waits for `remote` to connect.
    pub fn alloc_unbound(&self, domain: u16, remote: u16) -> Result<u32> {
        let arg = abi::EvtchnAllocUnbound {
            dom: domain,
            remote_dom: remote,
            port: 0,
        };
        self.structured(
            nr::EVENT_CHANNEL_OP,
            abi::EVTCHNOP_ALLOC_UNBOUND.into(),
            &arg,
        )
        .map(|(_, answer)| answer.port)
    }

    /// Closes all ports of a domain.
    pub fn reset_event_channels(&self, domain: u16) -> Result<()> {
        self.structured(nr::EVENT_CHANNEL_OP, abi::EVTCHNOP_RESET.into(), &domain)
            .map(drop)
    }
}
