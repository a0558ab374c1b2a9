//! The guest whose devices are attached and detached.

use oxen_config::Uuid;
use oxen_domain::world::DomId;

/// A guest, by all its names.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    pub domain: DomId,
    pub uuid: Uuid,
    pub name: &'a str,
}
