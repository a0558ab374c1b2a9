//! Tests that look into the cache.

mod bounds;
pub(crate) mod crowd;
