//! How a vcpu learns of events: its vcpu_info, the upcall, and SCHEDOP_poll.

use core::sync::atomic::{AtomicU8, Ordering};

use oxen_types::{Errno, Port, Result, VcpuId};
use spin::Mutex;

use super::{Hold, Vcpu};
use crate::domain::Domain;
use crate::seams::PageRef;

/// Where the vcpu's `vcpu_info` lies: in shared_info until the guest moves it.
pub struct InfoArea {
    /// The page that holds the area.
    pub page: PageRef,
    /// The area's first byte within the page.
    pub offset: usize,
}

/// Offsets within `struct vcpu_info` (xen/xen.h).
pub mod info {
    /// `evtchn_upcall_pending`.
    pub const UPCALL: usize = 0;
    /// `evtchn_pending_sel`.
    pub const PENDING_SEL: usize = 8;
    /// `time`.
    pub const TIME: usize = 32;
    /// The structure's size.
    pub const SIZE: usize = 64;
    /// How many vcpus have their area in shared_info.
    pub const IN_SHARED_INFO: u32 = 32;
}

/// SCHEDOP_poll: the ports that the vcpu waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// The vcpu does not poll.
    No,
    /// One port.
    One(Port),
    /// Several ports: any event ends the poll, and the guest looks for itself.
    Any,
}

/// The vcpu's state of events.
pub(super) struct Upcall {
    info: Mutex<Option<InfoArea>>,
    /// The vector to inject through the local APIC for event upcalls; 0 if none was set.
    vector: AtomicU8,
    poll: Mutex<Poll>,
}

impl Upcall {
    pub(super) fn new(domain: &Domain, id: VcpuId) -> Self {
        let info = (id.0 < info::IN_SHARED_INFO)
            .then(|| domain.shared_info().try_clone())
            .flatten()
            .map(|page| InfoArea {
                page,
                offset: id.index() * info::SIZE,
            });
        Self {
            info: Mutex::new(info),
            vector: AtomicU8::new(0),
            poll: Mutex::new(Poll::No),
        }
    }
}

impl Vcpu {
    /// Runs `act` on the vcpu's `vcpu_info`; `None` if it has none.
    pub fn with_info<R>(&self, act: impl FnOnce(&InfoArea) -> R) -> Option<R> {
        self.upcall.info.lock().as_ref().map(act)
    }

    /// Moves the vcpu's `vcpu_info` with its contents to `offset` in `page`.
    ///
    /// # Errors
    /// `Inval` if the area was moved before.
    pub fn move_info(&self, page: PageRef, offset: usize) -> Result<()> {
        {
            let mut area = self.upcall.info.lock();
            if let Some(old) = &*area {
                if old.page.mfn() != self.domain.shared_info().mfn() {
                    return Err(Errno::Inval);
                }
                page.copy_from(offset, &old.page, old.offset, info::SIZE);
            } else {
                page.write(offset, &[0; info::SIZE]);
            }
            *area = Some(InfoArea { page, offset });
        }
        self.update_time();
        Ok(())
    }

    pub(super) fn forget_info(&self) {
        *self.upcall.info.lock() = None;
    }

    /// Whether an interrupt or an upcall waits that the vcpu would take now.
    pub fn has_event(&self) -> bool {
        self.arch.has_deliverable_event() || (self.uses_callback() && self.upcall_pending())
    }

    /// Sets the vector that upcalls are injected with (HVMOP_set_evtchn_upcall_vector).
    pub fn set_upcall_vector(&self, vector: u8) {
        self.upcall.vector.store(vector, Ordering::SeqCst);
        self.recheck_upcall();
    }

    /// Whether upcalls are injected as a plain vector, past the local APIC.
    pub fn uses_callback(&self) -> bool {
        self.upcall.vector.load(Ordering::Relaxed) == 0 && self.domain.callback_vector() != 0
    }

    /// Whether `evtchn_upcall_pending` is set.
    pub fn upcall_pending(&self) -> bool {
        let pending = self
            .with_info(|i| i.page.word(i.offset + info::UPCALL).load(Ordering::SeqCst) & 0xff != 0);
        pending.unwrap_or(false)
    }

    /// Sets `evtchn_upcall_pending`, and injects the upcall if the flag was clear.
    pub fn raise_upcall(&self) {
        let before = self.with_info(|i| {
            i.page.update(i.offset + info::UPCALL, |word| {
                word.fetch_or(1, Ordering::SeqCst)
            })
        });
        if before.is_some_and(|before| before & 0xff == 0) {
            self.inject_upcall();
        }
    }

    /// Injects the upcall again if one is pending: when the guest sets its vector, or switches its
    /// local APIC on.
    pub fn recheck_upcall(&self) {
        if self.upcall_pending() {
            self.inject_upcall();
        }
    }

    fn inject_upcall(&self) {
        match self.upcall.vector.load(Ordering::Relaxed) {
            0 => self.kick(),
            vector => {
                self.arch.post_vector(vector);
                self.kick_posted();
            }
        }
    }

    /// Begins or ends SCHEDOP_poll.
    pub fn set_poll(&self, poll: Poll) {
        *self.upcall.poll.lock() = poll;
    }

    /// The ports that the vcpu polls.
    #[cfg(test)]
    pub(crate) fn poll(&self) -> Poll {
        *self.upcall.poll.lock()
    }

    /// Wakes the vcpu out of SCHEDOP_poll if it polls `port`.
    pub fn end_poll(&self, port: Port) {
        let mut poll = self.upcall.poll.lock();
        if *poll == Poll::Any || *poll == Poll::One(port) {
            *poll = Poll::No;
            drop(poll);
            self.release(Hold::Blocked);
        }
    }

    /// Wakes the vcpu because SCHEDOP_poll's timeout has come.
    pub(crate) fn poll_timed_out(&self) {
        if core::mem::replace(&mut *self.upcall.poll.lock(), Poll::No) != Poll::No {
            self.release(Hold::Blocked);
        }
    }
}
