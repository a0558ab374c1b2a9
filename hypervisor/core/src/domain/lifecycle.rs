//! A domain's life: pauses, shutdown and resume, and the end in steps.

use alloc::sync::Arc;

use guest_pv_abi as abi;
use oxen_types::{DomainId, Errno, Port, Result};
use spin::Mutex;

use super::Domain;
use crate::evtchn;
use crate::seams::PowerAction;
use crate::vcpu::Hold;

/// How far the end of a domain has gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Dying {
    /// The end has not begun.
    Alive,
    /// The domain's resources are being taken back, in steps.
    Dying,
    /// Nothing is left of the domain but its number, and frames that others hold. The machine lists
    /// it until these are gone, so that tools see them, and so that no new domain gets the number.
    Dead,
}

/// A domain's life as its toolstack sees it.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// How far the end has gone.
    pub dying: Dying,
    /// SHUTDOWN_* once the guest has shut down or crashed.
    pub shutdown: Option<u32>,
    /// How often the toolstack has paused the domain without unpausing it.
    pub pauses: u32,
    /// The pauses among them of calls that still wait for the domain to stand still.
    unanswered: u32,
    /// Whether the toolstack has ever unpaused the domain: then it may have run.
    pub started: bool,
}

pub(super) struct Lifecycle(Mutex<Life>);

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Life {
            dying: Dying::Alive,
            shutdown: None,
            pauses: 1,
            unanswered: 0,
            started: false,
        }))
    }
}

/// The action that follows a domain's shutdown. [`ShutdownAction::perform`] does it, without locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum ShutdownAction {
    /// Nothing: the domain had shut down before.
    Nothing,
    /// dom0 has shut down: the machine follows.
    Machine(PowerAction),
    /// The guest has suspended, and its toolstack subscribed to a port of the guest's.
    Send(Port),
    /// dom0 hears of the shutdown by VIRQ_DOM_EXC.
    RaiseDomExc,
}

impl ShutdownAction {
    /// Does what follows from the shutdown of `domain`.
    pub fn perform(self, domain: &Arc<Domain>) {
        let machine = domain.machine;
        match self {
            Self::Nothing => {}
            Self::Machine(action) => machine.platform.power(action),
            Self::Send(port) if evtchn::send(domain, port).is_ok() => {}
            Self::Send(_) | Self::RaiseDomExc => machine.raise_global_virq(abi::VIRQ_DOM_EXC),
        }
    }
}

impl Domain {
    /// The domain's life at this moment.
    pub fn life(&self) -> Life {
        *self.lifecycle.0.lock()
    }

    /// Whether the end of the domain has begun.
    pub fn is_dying(&self) -> bool {
        self.life().dying != Dying::Alive
    }

    /// Runs `act` if the domain is alive, and keeps its end from beginning meanwhile.
    pub fn while_alive<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let life = self.lifecycle.0.lock();
        (life.dying == Dying::Alive).then(act)
    }

    /// Pauses the domain once more. The vcpus may still be on their way out of the guest: see
    /// [`Domain::is_quiet`].
    ///
    /// # Errors
    /// `Overflow` if one more pause cannot be counted.
    pub fn pause(&self) -> Result<()> {
        self.add_pause(&mut self.lifecycle.0.lock())
    }

    fn add_pause(&self, life: &mut Life) -> Result<()> {
        life.pauses = life.pauses.checked_add(1).ok_or(Errno::Overflow)?;
        self.each_vcpu(|vcpu| vcpu.hold(Hold::DomainPaused));
        Ok(())
    }

    /// Pauses the domain for a call that is executed in parts: only the first part counts. One
    /// pause is as good as another, so a call may take over the pause that another call has
    /// counted; that one then counts a new one.
    ///
    /// # Errors
    /// As [`Domain::pause`].
    pub fn pause_once(&self) -> Result<()> {
        let mut life = self.lifecycle.0.lock();
        if life.unanswered == 0 {
            self.add_pause(&mut life)?;
            life.unanswered = 1;
        }
        Ok(())
    }

    /// Ends a call of [`Domain::pause_once`]; its pause stays.
    pub fn pause_answered(&self) {
        let mut life = self.lifecycle.0.lock();
        life.unanswered = life.unanswered.saturating_sub(1);
    }

    /// Takes one pause back. The domain runs when none is left.
    ///
    /// # Errors
    /// `Inval` if the domain is not paused.
    pub fn unpause(&self) -> Result<()> {
        let mut life = self.lifecycle.0.lock();
        life.pauses = life.pauses.checked_sub(1).ok_or(Errno::Inval)?;
        life.unanswered = life.unanswered.min(life.pauses);
        if life.pauses == 0 && life.dying == Dying::Alive {
            life.started = true;
            self.each_vcpu(|vcpu| vcpu.release(Hold::DomainPaused));
        }
        Ok(())
    }

    /// Whether no CPU holds the state of any of the vcpus.
    pub fn is_quiet(&self) -> bool {
        self.with_vcpus(|vcpus| vcpus.iter().all(|vcpu| vcpu.is_quiet()))
    }

    /// Ends the guest, at its own call or for a fault of its own. The first reason stays. The
    /// caller performs the action that is returned.
    pub fn shutdown(&self, reason: u32) -> ShutdownAction {
        {
            let mut life = self.lifecycle.0.lock();
            if life.shutdown.is_some() {
                return ShutdownAction::Nothing;
            }
            life.shutdown = Some(reason);
            self.each_vcpu(|vcpu| vcpu.hold(Hold::ShutDown));
        }
        log::info!("d{} shut down, reason {}", self.id, reason);
        let suspend_port = self.with_control(|control| control.suspend_port);
        match (reason, suspend_port) {
            (abi::SHUTDOWN_POWEROFF, _) if self.id == DomainId::DOM0 => {
                ShutdownAction::Machine(PowerAction::PowerOff)
            }
            _ if self.id == DomainId::DOM0 => ShutdownAction::Machine(PowerAction::Reboot),
            (abi::SHUTDOWN_SUSPEND, Some(port)) => ShutdownAction::Send(port),
            _ => ShutdownAction::RaiseDomExc,
        }
    }

    /// Shuts the domain down if all of its vcpus are down: no vcpu could start another again, so
    /// the domain has powered itself down.
    pub fn end_if_all_are_down(self: &Arc<Self>) {
        if self.with_vcpus(|vcpus| vcpus.iter().all(|vcpu| vcpu.is_held(Hold::Down))) {
            self.shutdown(abi::SHUTDOWN_POWEROFF).perform(self);
        }
    }

    /// Undoes a suspend that was cancelled, or follows a restore (XEN_DOMCTL_resumedomain).
    pub fn resume(&self) {
        let mut life = self.lifecycle.0.lock();
        if life.shutdown.take().is_some() {
            self.each_vcpu(|vcpu| vcpu.release(Hold::ShutDown));
        }
    }

    /// Takes everything back from the domain, in bounded steps. Returns whether it is done.
    pub fn destroy_step(self: &Arc<Self>, budget: usize) -> bool {
        {
            let mut life = self.lifecycle.0.lock();
            if life.dying == Dying::Dead {
                return true;
            }
            if life.dying == Dying::Alive {
                life.dying = Dying::Dying;
                self.each_vcpu(|vcpu| vcpu.hold(Hold::Dying));
            }
        }
        if !self.is_quiet() {
            return false;
        }
        if !self.events.teardown(self, budget) || !self.grants.teardown(self, budget) {
            return false;
        }
        self.each_vcpu(|vcpu| vcpu.forget_guest_memory());
        if !self.memory.teardown(budget) {
            return false;
        }
        // To shrink a pool fails for pages that are in use to the end, and for nothing else.
        if self.arch.set_shadow_pool(0) == Ok(false) || self.memory.set_pool(0) == Ok(false) {
            return false;
        }
        let _ = self.memory.claim(0);
        self.retire_vcpus();
        self.lifecycle.0.lock().dying = Dying::Dead;
        self.machine.raise_global_virq(abi::VIRQ_DOM_EXC);
        self.machine.reap();
        true
    }

    /// Whether the domain is dead and others hold no frame of it any more. Its own shared_info
    /// stays with it to the end.
    pub fn is_gone(&self) -> bool {
        self.life().dying == Dying::Dead && self.machine.frames.held_by(self.id) <= 1
    }
}
