//! Direct access to hypervisor and store, for commands that only read.

use oxen_domain::lifecycle::{self, Listed};
use oxen_domain::live::{Xen, XenStore};
use oxen_domain::world::{Change, DomId, Store};
use oxen_domain::{Error, Result};

pub(crate) struct Machine {
    pub(crate) xen: Xen,
    pub(crate) store: Box<dyn Store>,
}

impl Machine {
    /// Opens both. Without a store, domains have numbers and no names.
    pub(crate) fn open() -> Result<Self> {
        let xen = Xen::open()?;
        let store: Box<dyn Store> = match XenStore::open() {
            Ok(store) => Box::new(store),
            Err(error) => {
                eprintln!("xm: warning: {error}; names are not known");
                Box::new(NoStore)
            }
        };
        Ok(Self { xen, store })
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Listed>> {
        lifecycle::list(&self.xen, &mut *self.store)
    }

    pub(crate) fn find(&mut self, wanted: &str) -> Result<Listed> {
        lifecycle::find(&self.xen, &mut *self.store, wanted)
    }

    /// The domains of the given names or numbers, or all domains.
    pub(crate) fn some(&mut self, wanted: &[String]) -> Result<Vec<Listed>> {
        if wanted.is_empty() {
            return self.list();
        }
        wanted.iter().map(|name| self.find(name)).collect()
    }
}

/// A failed hypercall in one line.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(oxen_sys::Errno) -> Error {
    let what = what.into();
    move |errno| Error::new(what, errno)
}

/// The store when xenstored is not running: it has no nodes.
struct NoStore;

impl NoStore {
    fn refuse() -> Error {
        Error::new("cannot use the store", "xenstored is not running")
    }
}

impl Store for NoStore {
    fn read(&mut self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }

    fn list(&mut self, _: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn apply(&mut self, _: &[Change]) -> Result<()> {
        Err(Self::refuse())
    }

    fn introduce(&mut self, _: DomId, _: u64, _: u32) -> Result<()> {
        Err(Self::refuse())
    }

    fn release(&mut self, _: DomId) -> Result<()> {
        Err(Self::refuse())
    }

    fn resume(&mut self, _: DomId) -> Result<()> {
        Err(Self::refuse())
    }

    fn wait(
        &mut self,
        _: &[String],
        _: core::time::Duration,
        _: &mut dyn FnMut(&mut dyn Store) -> Result<bool>,
    ) -> Result<bool> {
        Err(Self::refuse())
    }
}
