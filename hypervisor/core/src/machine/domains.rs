//! The machine's domains by their numbers.

use alloc::sync::Arc;

use oxen_types::{DomainId, Errno, Result};

use crate::domain::Domain;
use crate::fallible::{Account, Paged};

type Place = Option<Arc<Domain>>;

/// The list of domains. Its caller locks it.
pub(super) struct Domains {
    account: Account,
    by_id: Paged<Place>,
    count: usize,
}

impl Domains {
    pub(super) fn new() -> Self {
        Self {
            account: Account::machine(),
            by_id: Paged::new(DomainId::FIRST_RESERVED.index()),
            count: 0,
        }
    }

    /// How many domains there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The domain of a number.
    pub(super) fn get(&self, id: DomainId) -> Option<&Arc<Domain>> {
        self.by_id.get(id.index())?.as_ref()
    }

    /// The domain with the lowest number from `first` on.
    pub(super) fn next(&self, first: DomainId) -> Option<&Arc<Domain>> {
        let leaf = Paged::<Place>::LEAF;
        let (start, skipped) = (first.index() / leaf, first.index() % leaf);
        let head = self.by_id.leaf(start).iter().skip(skipped);
        let rest = start + 1..=self.by_id.capacity() / leaf;
        let rest = rest.flat_map(|at| self.by_id.leaf(at));
        head.chain(rest).find_map(Option::as_ref)
    }

    /// Lists a domain.
    ///
    /// # Errors
    /// `Exist` if its number is taken; `NoMem` if there is no memory for the entry.
    pub(super) fn insert(&mut self, domain: Arc<Domain>) -> Result<()> {
        let at = domain.id.index();
        self.by_id.ensure(at, &self.account, || None)?;
        match self.by_id.get_mut(at).ok_or(Errno::Inval)? {
            Some(_) => Err(Errno::Exist),
            place => {
                *place = Some(domain);
                self.count += 1;
                Ok(())
            }
        }
    }

    /// Takes a domain off the list. Another one of the same number stays.
    pub(super) fn remove(&mut self, domain: &Domain) {
        let at = domain.id.index();
        let Some(place) = self.by_id.get_mut(at) else {
            return;
        };
        let listed = place.as_ref();
        if listed.is_some_and(|listed| core::ptr::eq(Arc::as_ptr(listed), domain)) {
            // Its caller has a reference too: it is not dropped here.
            *place = None;
            self.count -= 1;
            self.by_id.trim(at, &self.account, Option::is_none);
        }
    }
}
