//! Checks on the source text of the crate.

mod floors;
mod source;
