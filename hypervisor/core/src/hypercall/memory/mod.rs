//! memory_op: reservations, the memory map, and what stands where in the guest's space
//! (xen/memory.h).

mod map;
mod physmap;
mod reservation;
mod resource;

use guest_pv_abi as abi;
use oxen_types::Errno;

use super::op::operations;
use super::{Answer, Call, Stop, Target};

/// A continued memory_op carries how far it got in the upper bits of its command, as in Xen
/// (MEMOP_EXTENT_SHIFT): they are part of an argument register.
const PROGRESS_SHIFT: u32 = 6;
const COMMAND_MASK: u64 = (1 << PROGRESS_SHIFT) - 1;

operations! {
    /// args: cmd, argument.
    pub fn call(call) with ();
    declared OPERATIONS;
    command (call.args[0] & COMMAND_MASK) as u32;
    argument call.args[1];
    accepted {
        XENMEM_DECREASE_RESERVATION: takes(abi::MemoryReservation) by target(domid)
            => reservation::decrease, full("answers the extents done; an extent has 2 MiB at most");
        XENMEM_POPULATE_PHYSMAP: takes(abi::MemoryReservation) by target(domid)
            => reservation::populate, full("answers the extents done; an extent has 2 MiB at most, so that it is done in one go: of a larger one, none is done");
        XENMEM_MAXIMUM_RAM_PAGE: plain by anyone => maximum_ram_page, full;
        XENMEM_CURRENT_RESERVATION: takes(u16) by target => current_reservation, full;
        XENMEM_MAXIMUM_RESERVATION: takes(u16) by target => maximum_reservation, full;
        XENMEM_MAXIMUM_GPFN: takes(u16) by target => maximum_gpfn, full;
        XENMEM_MEMORY_MAP: updates(abi::MemoryMap) by anyone => map::get,
            full("a guest has what its toolset set, else -ENOSYS");
        XENMEM_SET_MEMORY_MAP: takes(abi::ForeignMemoryMap) by privileged => map::set,
            full("128 entries");
        XENMEM_ADD_TO_PHYSMAP: takes(abi::AddToPhysmap) by target(domid) => physmap::add,
            full("shared_info, grant_table, gmfn, gmfn_range");
        XENMEM_ADD_TO_PHYSMAP_BATCH: takes(abi::AddToPhysmapBatch) by target(domid)
            => physmap::add_batch, full("with gmfn_foreign for dom0");
        XENMEM_REMOVE_FROM_PHYSMAP: takes(abi::RemoveFromPhysmap) by target(domid)
            => physmap::remove, full;
        XENMEM_ACQUIRE_RESOURCE: updates(abi::AcquireResource) by privileged => resource::acquire,
            part("grant table (version 1), any number of frames");
        XENMEM_RESERVED_DEVICE_MEMORY_MAP: updates(abi::ReservedDeviceMemoryMap) by anyone
            => map::no_reserved_device_memory, full("an empty list");
        XENMEM_CLAIM_PAGES: takes(abi::MemoryReservation) by privileged => reservation::claim, full;
    }
    refused {
        XENMEM_INCREASE_RESERVATION: OpNotSupp, "makes no sense with a p2m of the hypervisor's";
        XENMEM_MACHPHYS_MFN_LIST: NoSys;
        XENMEM_MACHPHYS_COMPAT_MFN_LIST: NoSys;
        XENMEM_MACHPHYS_MAPPING: NoSys;
        XENMEM_MACHINE_MEMORY_MAP: NoSys;
        XENMEM_EXCHANGE: NoSys;
        XENMEM_SET_POD_TARGET: NoSys;
        XENMEM_GET_POD_TARGET: NoSys;
        XENMEM_GET_SHARING_FREED_PAGES: NoSys;
        XENMEM_GET_SHARING_SHARED_PAGES: NoSys;
        XENMEM_PAGING_OP: NoSys;
        XENMEM_ACCESS_OP: NoSys;
        XENMEM_SHARING_OP: NoSys;
        XENMEM_GET_VNUMAINFO: NoSys;
    }
    else Err(Errno::NoSys.into());
}

/// The highest frame number of the machine's RAM.
fn maximum_ram_page(call: &Call<'_>) -> u64 {
    call.machine().frames.stats().max_frame
}

fn current_reservation(_call: &Call<'_>, target: &Target, _id: &u16) -> u64 {
    target.memory.ram_frames()
}

fn maximum_reservation(_call: &Call<'_>, target: &Target, _id: &u16) -> u64 {
    target.memory.max_frames()
}

fn maximum_gpfn(_call: &Call<'_>, target: &Target, _id: &u16) -> u64 {
    target.memory.max_gfn().raw()
}

/// How many extents an earlier part of this call has done.
fn progress(call: &Call<'_>) -> u64 {
    call.args[0] >> PROGRESS_SHIFT
}

/// Has the call go on from the extent of that number.
fn go_on(call: &mut Call<'_>, done: u64) -> Stop {
    call.args[0] = (call.args[0] & COMMAND_MASK) | done << PROGRESS_SHIFT;
    Stop::Again
}
