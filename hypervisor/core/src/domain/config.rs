//! The configuration of a domain, and who makes one.

use alloc::sync::Arc;

use oxen_types::{DomainId, Result};

use super::Domain;

/// The most vcpus that one domain can have.
pub const MAX_VCPUS: u32 = 128;

/// The settings that are fixed when a domain is made (`struct xen_domctl_createdomain`).
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// Whether the domain may manage others: dom0.
    pub privileged: bool,
    /// The first UUID; the toolstack may set another.
    pub handle: [u8; 16],
    /// The security label, which nothing here reads.
    pub ssid: u32,
    /// XEN_DOMCTL_CDF_*
    pub flags: u32,
    /// XEN_X86_EMU_*
    pub emulation: u32,
    /// How many vcpus the domain has.
    pub max_vcpus: u32,
    /// The highest event-channel port.
    pub max_ports: u32,
    /// The most frames of the grant table.
    pub max_grant_frames: u32,
    /// The most pages of handles of mapped grants.
    pub max_maptrack_frames: u32,
}

/// Makes domains out of the layers below core: memory, processor state, and [`Domain::new`] on top.
pub trait DomainBuilder: Send + Sync {
    /// Makes a domain with its memory and vcpus, which the machine does not list yet.
    ///
    /// # Errors
    /// `NoMem` if there is no memory for it; `Inval` for a configuration that cannot be.
    fn create_domain(
        &self,
        id: DomainId,
        config: DomainConfig,
        max_frames: u64,
    ) -> Result<Arc<Domain>>;
}
