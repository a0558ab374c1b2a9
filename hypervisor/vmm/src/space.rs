//! Guest memory as the emulator and the hypercalls see it.

use oxen_core::domain::Domain;
use oxen_core::seams::{GuestMemory, LinearMemory};
use oxen_paging::walk::{self, Access, Limits, Paging, PhysRead};
use oxen_types::{Errno, Gaddr, PAGE_MASK, Result, Vaddr};
use oxen_virt::Execution;
use oxen_virt::emul::PhysAccess;

/// The bits of CR3 that are the address of the guest's page tables.
const ROOT: u64 = ((1 << 52) - 1) & !PAGE_MASK;

/// The linear space of the guest's kernel at the moment of a hypercall.
pub(crate) struct Linear<'a> {
    memory: &'a dyn GuestMemory,
    paging: Paging,
}

impl<'a> Linear<'a> {
    pub(crate) fn of(state: &Execution, domain: &'a Domain, limits: Limits) -> Self {
        let mut paging = state.paging(limits);
        // privcmd hands us its user's buffers, within a hypercall of the kernel's.
        paging.ac = true;
        Self {
            memory: &*domain.memory,
            paging,
        }
    }

    /// Calls `each` for the parts of a linear range, page by page: guest-physical address, and
    /// range of bytes.
    fn pages(
        &self,
        start: Vaddr,
        len: usize,
        access: Access,
        mut each: impl FnMut(Gaddr, core::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let at = start.checked_add(done as u64).ok_or(Errno::Fault)?;
            let part =
                walk::walk(self.memory, &self.paging, at, access).map_err(|_| Errno::Fault)?;
            let step = (len - done).min(usize::try_from(part.left_in_page).unwrap_or(usize::MAX));
            each(part.gpa, done..done + step)?;
            done += step;
        }
        Ok(())
    }
}

impl LinearMemory for Linear<'_> {
    fn read(&self, from: Vaddr, into: &mut [u8]) -> Result<()> {
        self.pages(from, into.len(), Access::READ, |gpa, range| {
            match into.get_mut(range) {
                Some(part) => self.memory.read(gpa, part),
                None => Err(Errno::Fault),
            }
        })
    }

    fn write(&self, to: Vaddr, from: &[u8]) -> Result<()> {
        self.pages(to, from.len(), Access::WRITE, |gpa, range| {
            match from.get(range) {
                Some(part) => self.memory.write(gpa, part),
                None => Err(Errno::Fault),
            }
        })
    }

    fn translate(&self, at: Vaddr) -> Result<Gaddr> {
        let found = walk::walk(self.memory, &self.paging, at, Access::READ);
        found.map(|part| part.gpa).map_err(|_| Errno::Fault)
    }

    fn space(&self) -> u64 {
        self.paging.cr3 & ROOT
    }
}

/// Guest-physical space with its devices, for the emulator. Devices answer through `device`.
pub(crate) struct Devices<'a> {
    pub(crate) domain: &'a Domain,
    /// Of the domain's processors, for walks of the guest's page tables.
    pub(crate) limits: Limits,
    /// Reads (None) or writes a device register; None where no device is.
    pub(crate) device: &'a mut dyn FnMut(Gaddr, u8, Option<u64>) -> Option<u64>,
}

impl PhysRead for Devices<'_> {
    fn read_u64(&self, at: Gaddr) -> Option<u64> {
        (*self.domain.memory).read_u64(at)
    }

    fn read_bytes(&self, at: Gaddr, into: &mut [u8]) -> bool {
        (*self.domain.memory).read_bytes(at, into)
    }
}

impl PhysAccess for Devices<'_> {
    fn read(&mut self, at: Gaddr, size: u8) -> Option<u64> {
        if let Some(value) = (self.device)(at, size, None) {
            return Some(value);
        }
        let mut bytes = [0; 8];
        self.domain
            .memory
            .read(at, bytes.get_mut(..size.into())?)
            .ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, at: Gaddr, size: u8, value: u64) -> bool {
        if (self.device)(at, size, Some(value)).is_some() {
            return true;
        }
        let bytes = value.to_le_bytes();
        bytes
            .get(..size.into())
            .is_some_and(|bytes| self.domain.memory.write(at, bytes).is_ok())
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
