//! Authority: what a caller may do, as values that exist only where the check has passed.
//!
//! A handler that needs authority takes it as an argument, so it cannot be called without. The
//! values have private fields and are made in this file alone, after [`policy`] has agreed.
//! [`policy`] is the one place that decides: a security module (XSM) or device-model domains would
//! stand there.

use alloc::sync::Arc;
use core::ops::Deref;

use oxen_types::{DomainId, Errno, Result};

use super::Call;
use crate::domain::Domain;

/// An object that a caller wants to act on.
enum Object {
    /// The machine, or any domain without distinction.
    Machine,
    /// A domain other than the caller's own.
    Foreign,
}

/// Decides whether a domain may act on an object. Only dom0 may act beyond itself.
///
/// # Errors
/// `Perm` if it may not.
fn policy(subject: &Domain, object: Object) -> Result<()> {
    match object {
        Object::Machine | Object::Foreign if subject.config.privileged => Ok(()),
        Object::Machine | Object::Foreign => Err(Errno::Perm),
    }
}

/// Authority over the machine and over all domains.
#[derive(Clone, Copy, Debug)]
pub struct Privileged(());

impl Privileged {
    /// The domain of that number, on which a privileged caller may act. `DomainId::SELF` names
    /// none.
    ///
    /// # Errors
    /// `Srch` if there is no such domain.
    pub fn over(self, call: &Call<'_>, id: DomainId) -> Result<Target> {
        call.machine().domain(id).map(Target).ok_or(Errno::Srch)
    }
}

/// A domain that the caller may act on: its own, or any other one if the caller is privileged.
pub struct Target(Arc<Domain>);

impl Target {
    /// Refuses the caller's own domain, for operations that would have it wait for itself.
    ///
    /// # Errors
    /// `Inval` if the target is the caller's own domain.
    pub fn is_other(&self, call: &Call<'_>) -> Result<()> {
        match Arc::ptr_eq(&self.0, call.domain()) {
            true => Err(Errno::Inval),
            false => Ok(()),
        }
    }
}

impl Deref for Target {
    type Target = Arc<Domain>;

    fn deref(&self) -> &Arc<Domain> {
        &self.0
    }
}

impl Call<'_> {
    /// Authority over the machine. Most operations declare that they need it; this is for those
    /// whose argument decides.
    ///
    /// # Errors
    /// `Perm` for all domains but dom0.
    pub fn privileged(&self) -> Result<Privileged> {
        policy(self.domain(), Object::Machine).map(Privileged)
    }

    /// Authority over the domain that a `domid_t` names: the caller's own for `DOMID_SELF` or its
    /// number, another one only for a privileged caller.
    ///
    /// # Errors
    /// `Perm` if the caller may not act on other domains, `Srch` if there is no such domain.
    pub fn target(&self, id: u16) -> Result<Target> {
        let id = DomainId(id);
        if id == DomainId::SELF || id == self.domain().id {
            return Ok(Target(self.domain().clone()));
        }
        policy(self.domain(), Object::Foreign)?;
        self.machine().domain(id).map(Target).ok_or(Errno::Srch)
    }
}
