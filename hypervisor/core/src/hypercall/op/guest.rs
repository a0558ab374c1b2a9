//! The caller's memory: copies of arguments, and lists that an argument names.
//!
//! A guest pointer is an allegation, checked at each use. The copies of an operation's argument are
//! made by the dispatcher alone (`mod.rs`); a handler can reach the caller's memory only through a
//! [`List`]. `hypercall/tests/house.rs` names the files that use one, and why.

use core::marker::PhantomData;

use bytemuck::Pod;
use oxen_types::{Errno, Result, Vaddr};

use super::Call;
use crate::area::SharedArea;
use crate::seams::LinearMemory;

/// A list of `T` at a linear address of the caller's. Elements are copied one by one or in parts.
pub struct List<'a, T> {
    linear: &'a dyn LinearMemory,
    at: u64,
    of: PhantomData<T>,
}

impl<T: Pod> List<'_, T> {
    /// Whether the caller passed a null pointer for it.
    pub fn is_null(&self) -> bool {
        self.at == 0
    }

    /// The linear address of an element.
    ///
    /// # Errors
    /// `Fault` if it lies beyond the end of the address space.
    pub fn address(&self, index: u64) -> Result<u64> {
        let bytes = index.checked_mul(size_of::<T>() as u64);
        bytes
            .and_then(|bytes| self.at.checked_add(bytes))
            .ok_or(Errno::Fault)
    }

    /// A copy of one element.
    ///
    /// # Errors
    /// `Fault` if the element is not in memory that the caller can read.
    pub fn get(&self, index: u64) -> Result<T> {
        let mut value = T::zeroed();
        copy_in(
            self.linear,
            self.address(index)?,
            bytemuck::bytes_of_mut(&mut value),
        )?;
        Ok(value)
    }

    /// Writes one element.
    ///
    /// # Errors
    /// `Fault` if the element is not in memory that the caller can write.
    pub fn set(&self, index: u64, value: &T) -> Result<()> {
        copy_out(self.linear, self.address(index)?, bytemuck::bytes_of(value))
    }

    /// Copies the elements from `first` on that `into` has room for.
    ///
    /// # Errors
    /// `Fault` if one of them is not in memory that the caller can read.
    pub fn get_all(&self, first: u64, into: &mut [T]) -> Result<()> {
        copy_in(
            self.linear,
            self.address(first)?,
            bytemuck::cast_slice_mut(into),
        )
    }

    /// Writes elements from `first` on.
    ///
    /// # Errors
    /// `Fault` if one of them is not in memory that the caller can write.
    pub fn set_all(&self, first: u64, from: &[T]) -> Result<()> {
        copy_out(
            self.linear,
            self.address(first)?,
            bytemuck::cast_slice(from),
        )
    }
}

impl<'a> Call<'a> {
    /// A list in the caller's memory.
    pub fn list<T: Pod>(&self, at: u64) -> List<'a, T> {
        List {
            linear: self.linear,
            at,
            of: PhantomData,
        }
    }

    /// An area of the caller's memory that the hypervisor writes after the call, too.
    ///
    /// # Errors
    /// `Fault` if the area is not in RAM that the caller can write.
    pub fn area(&self, at: u64, len: usize) -> Result<SharedArea> {
        SharedArea::at_linear(self.linear, &*self.domain().memory, Vaddr::new(at), len)
    }

    /// One private copy of an argument: the caller may change its own meanwhile.
    pub(super) fn read<T: Pod>(&self, from: u64) -> Result<T> {
        let mut value = T::zeroed();
        copy_in(self.linear, from, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    pub(super) fn write<T: Pod>(&self, to: u64, value: &T) -> Result<()> {
        copy_out(self.linear, to, bytemuck::bytes_of(value))
    }
}

fn copy_in(linear: &dyn LinearMemory, from: u64, into: &mut [u8]) -> Result<()> {
    linear.read(Vaddr::new(from), into)
}

fn copy_out(linear: &dyn LinearMemory, to: u64, from: &[u8]) -> Result<()> {
    linear.write(Vaddr::new(to), from)
}
