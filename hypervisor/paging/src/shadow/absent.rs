//! Stand-ins for a hypervisor without the feature `shadow`: the types have no values, so a domain never has shadows,
//! and the compiler drops the code that would use them.

use alloc::sync::Arc;
use core::convert::Infallible;
use core::marker::PhantomData;

use oxen_mm::FrameTable;
use oxen_types::paging::ShadowRoots;
use oxen_types::{DomainId, Result, Vaddr};

use super::{Answer, Counts, P2mFlush, ShadowSpace};
use crate::walk::Paging;

/// The shadows of a domain, of which there are none.
pub struct DomainShadow<F>(Infallible, PhantomData<F>);

/// A vcpu's root, of which there is none.
pub struct VcpuShadow(Infallible);

impl<F: P2mFlush> DomainShadow<F> {
    /// Returns `None`.
    pub fn new(
        _: &'static FrameTable,
        _: DomainId,
        _: Arc<F>,
        _: usize,
        _: [u64; 2],
    ) -> Option<Self> {
        None
    }
    /// Never called.
    pub fn pool(&self) -> u64 {
        match self.0 {}
    }
    /// Never called.
    pub fn set_pool(&self, _: u64) -> Result<bool> {
        match self.0 {}
    }
    /// Never called.
    pub fn counts(&self) -> Option<Counts> {
        match self.0 {}
    }
    /// Never called.
    pub fn invalidate(&self) {
        match self.0 {}
    }
}

impl VcpuShadow {
    /// Returns `None`.
    pub fn new(_: &'static FrameTable, _: DomainId) -> Option<Self> {
        None
    }
    /// Never called.
    pub fn roots(&self) -> ShadowRoots {
        match self.0 {}
    }
    /// Never called.
    pub fn new_address_space(&mut self) {
        match self.0 {}
    }
    /// Never called.
    pub fn is_ready<F: P2mFlush>(&self, _: &DomainShadow<F>, _: &Paging) -> bool {
        match self.0 {}
    }
    /// Never called.
    pub fn prepare<F: P2mFlush>(
        &mut self,
        _: &DomainShadow<F>,
        _: &(impl ShadowSpace + ?Sized),
        _: &Paging,
    ) -> Option<ShadowRoots> {
        match self.0 {}
    }
    /// Never called.
    pub fn fault<F: P2mFlush>(
        &mut self,
        _: &DomainShadow<F>,
        _: &(impl ShadowSpace + ?Sized),
        _: &Paging,
        _: Vaddr,
        _: u32,
    ) -> Answer {
        match self.0 {}
    }
}
