//! Guests' memory as the toolset arranges it (xen/memory.h, xen/hvm/params.h).

use core::mem::offset_of;

use guest_pv_abi as abi;

use super::{E820Entry, nr};
use crate::{Errno, Privcmd, Result, SharedMemory};

/// Which pages a reservation call is about.
#[derive(Debug, Clone, Copy)]
pub struct Extents<'a> {
    /// The first frame of each extent.
    pub frames: &'a [u64],
    /// log2 of an extent's pages: 0, 9 or 18.
    pub order: u32,
    /// `XENMEMF_*`, usually 0.
    pub flags: u32,
}

impl Privcmd {
    /// Gives the domain memory at those frames; says how many extents were done, which may be
    /// fewer.
    pub fn populate_physmap(&self, domain: u16, extents: Extents<'_>) -> Result<usize> {
        self.reservation(abi::XENMEM_POPULATE_PHYSMAP.into(), domain, extents)
    }

    /// Populates all extents; ENOMEM if there is memory for fewer.
    pub fn populate_all(&self, domain: u16, extents: Extents<'_>) -> Result<()> {
        let done = self.populate_physmap(domain, extents)?;
        if done == extents.frames.len() {
            Ok(())
        } else {
            Err(Errno::NOMEM)
        }
    }

    /// Takes memory from the domain.
    pub fn decrease_reservation(&self, domain: u16, extents: Extents<'_>) -> Result<usize> {
        self.reservation(abi::XENMEM_DECREASE_RESERVATION.into(), domain, extents)
    }

    fn reservation(&self, cmd: u64, domain: u16, extents: Extents<'_>) -> Result<usize> {
        let frames = self.buffer_of(extents.frames)?;
        let arg = abi::MemoryReservation {
            extent_start: frames.addr(),
            nr_extents: extents.frames.len() as u64,
            extent_order: extents.order,
            mem_flags: extents.flags,
            domid: domain,
            _pad: [0; 3],
        };
        let (done, _) = self.structured(nr::MEMORY_OP, cmd, &arg)?;
        usize::try_from(done).map_err(|_| Errno::IO)
    }

    /// Keeps `pages` aside for a domain that is being built; 0 gives up the rest.
    pub fn claim_pages(&self, domain: u16, pages: u64) -> Result<()> {
        let arg = abi::MemoryReservation {
            extent_start: 0,
            nr_extents: pages,
            extent_order: 0,
            mem_flags: 0,
            domid: domain,
            _pad: [0; 3],
        };
        self.structured(nr::MEMORY_OP, abi::XENMEM_CLAIM_PAGES.into(), &arg)
            .map(drop)
    }

    /// Puts a page of one of the hypervisor's spaces (`XENMAPSPACE_*`) at `gfn`.
    pub fn add_to_physmap(&self, domain: u16, space: u32, index: u64, gfn: u64) -> Result<()> {
        self.structured(
            nr::MEMORY_OP,
            abi::XENMEM_ADD_TO_PHYSMAP.into(),
            &abi::AddToPhysmap {
                domid: domain,
                size: 0,
                space,
                idx: index,
                gpfn: gfn,
            },
        )
        .map(drop)
    }

    pub fn remove_from_physmap(&self, domain: u16, gfn: u64) -> Result<()> {
        self.structured(
            nr::MEMORY_OP,
            abi::XENMEM_REMOVE_FROM_PHYSMAP.into(),
            &abi::RemoveFromPhysmap {
                domid: domain,
                _pad: [0; 3],
                gpfn: gfn,
            },
        )
        .map(drop)
    }

    /// The map that the guest gets from XENMEM_memory_map.
    pub fn set_memory_map(&self, domain: u16, map: &[E820Entry]) -> Result<()> {
        let buffer = self.buffer_of(map)?;
        let arg = abi::ForeignMemoryMap {
            domid: domain,
            _pad0: [0; 3],
            nr_entries: u32::try_from(map.len()).map_err(|_| Errno::TOOBIG)?,
            _pad1: 0,
            buffer: buffer.addr(),
        };
        self.structured(nr::MEMORY_OP, abi::XENMEM_SET_MEMORY_MAP.into(), &arg)
            .map(drop)
    }

    /// The highest guest frame that was ever populated.
    pub fn maximum_gfn(&self, domain: u16) -> Result<u64> {
        self.of_domain(abi::XENMEM_MAXIMUM_GPFN.into(), domain)
    }

    /// Pages that the domain has.
    pub fn current_reservation(&self, domain: u16) -> Result<u64> {
        self.of_domain(abi::XENMEM_CURRENT_RESERVATION.into(), domain)
    }

    /// Pages that the domain may have.
    pub fn maximum_reservation(&self, domain: u16) -> Result<u64> {
        self.of_domain(abi::XENMEM_MAXIMUM_RESERVATION.into(), domain)
    }

    fn of_domain(&self, cmd: u64, domain: u16) -> Result<u64> {
        let (pages, _) = self.structured(nr::MEMORY_OP, cmd, &domain)?;
        u64::try_from(pages).map_err(|_| Errno::IO)
    }

    /// The first `frames` frames of the domain's grant table, to seed references before it runs.
    pub fn map_grant_table(&self, domain: u16, frames: usize) -> Result<SharedMemory> {
        self.map_resource(
            domain,
            abi::XENMEM_RESOURCE_GRANT_TABLE,
            abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
            0,
            frames,
        )
    }

    /// Grants frame `gfn` of `domain` to `to` by reference `reference` (version 1, writable).
    pub fn seed_grant(&self, domain: u16, reference: u32, to: u16, gfn: u64) -> Result<()> {
        const ENTRY: usize = size_of::<abi::GrantEntryV1>();
        let table = self.map_grant_table(domain, 1)?;
        let at = usize::try_from(reference)
            .map_err(|_| Errno::RANGE)?
            .checked_mul(ENTRY)
            .ok_or(Errno::RANGE)?;
        let frame = u32::try_from(gfn).map_err(|_| Errno::RANGE)?;
        table.store(at + offset_of!(abi::GrantEntryV1, frame), frame)?;
        // Flags and domain are one word, so that the entry becomes valid at once.
        table.store(at, u32::from(abi::GTF_PERMIT_ACCESS) | u32::from(to) << 16)
    }

    pub fn hvm_param(&self, domain: u16, index: u32) -> Result<u64> {
        let arg = abi::HvmParam {
            domid: domain,
            pad: 0,
            index,
            value: 0,
        };
        self.structured(nr::HVM_OP, abi::HVMOP_GET_PARAM.into(), &arg)
            .map(|(_, answer)| answer.value)
    }

    pub fn set_hvm_param(&self, domain: u16, index: u32, value: u64) -> Result<()> {
        self.structured(
            nr::HVM_OP,
            abi::HVMOP_SET_PARAM.into(),
            &abi::HvmParam {
                domid: domain,
                pad: 0,
                index,
                value,
            },
        )
        .map(drop)
    }
}
