//! The paging of guests: the walk of a guest's own page tables, and the shadow page tables of
//! guests without nested paging.
//!
//! - [`walk`] translates a guest's linear addresses in all of its paging modes. The emulator, the
//!   hypercalls and the shadows use the same walk.
//! - [`shadow`] is what the CPU walks instead of the guest's tables where there is no nested
//!   paging. The feature `shadow` leaves this part out.
//!
//! The crate runs on the host over two small traits, [`walk::PhysRead`] and
//! [`shadow::ShadowSpace`], and has no `unsafe` code.
#![no_std]
#![warn(unreachable_pub, missing_docs, unused_qualifications)]
#![warn(clippy::allow_attributes, clippy::wildcard_imports)]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bits;
#[cfg(test)]
mod fuzz;
pub mod shadow;
#[cfg(test)]
mod testing;
pub mod walk;
