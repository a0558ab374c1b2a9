//! Guest memory that the hypervisor writes long after the call that named it.

use oxen_types::{Errno, PAGE_SIZE, Result, Vaddr};

use crate::seams::{GuestMemory, LinearMemory, PageRef};

/// A registered area of up to a page, which may lie across a page border. Its frames are found and
/// held when the guest registers it: later changes of the guest's page tables do not move it.
#[derive(Debug)]
pub struct SharedArea {
    first: PageRef,
    offset: usize,
    second: Option<PageRef>,
}

impl SharedArea {
    /// The area of `len` bytes at a linear address of the caller.
    ///
    /// # Errors
    /// `Fault` if the address is not mapped, and what `GuestMemory::page` returns.
    pub fn at_linear(
        linear: &dyn LinearMemory,
        memory: &dyn GuestMemory,
        at: Vaddr,
        len: usize,
    ) -> Result<Self> {
        let gaddr = linear.translate(at)?;
        let first = memory.page(gaddr.frame(), true)?;
        let offset = at.page_offset();
        let second = if offset + len > PAGE_SIZE {
            let next = at
                .checked_add((PAGE_SIZE - offset) as u64)
                .ok_or(Errno::Fault)?;
            Some(memory.page(linear.translate(next)?.frame(), true)?)
        } else {
            None
        };
        Ok(Self {
            first,
            offset,
            second,
        })
    }

    /// The area at `offset` within a page.
    pub fn in_page(page: PageRef, offset: usize) -> Self {
        Self {
            first: page,
            offset,
            second: None,
        }
    }

    /// Writes `bytes` at `at` within the area; what passes its end is dropped.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        let start = self.offset + at;
        if start >= PAGE_SIZE {
            if let Some(second) = &self.second {
                second.write(start - PAGE_SIZE, bytes);
            }
            return;
        }
        let (head, tail) = bytes.split_at(bytes.len().min(PAGE_SIZE - start));
        self.first.write(start, head);
        if let (Some(second), false) = (&self.second, tail.is_empty()) {
            second.write(0, tail);
        }
    }
}
