//! memory_op: reservations, the memory map, and what stands where in the guest's space (xen/memory.h).

mod map;
mod physmap;
mod reservation;
mod resource;

use guest_pv_abi as abi;
use oxen_types::Errno;

use super::{Answer, Call, Stop};

/// A continued memory_op carries how far it got in the upper bits of its command (MEMOP_EXTENT_SHIFT).
const PROGRESS_SHIFT: u32 = 6;
const COMMAND_MASK: u64 = (1 << PROGRESS_SHIFT) - 1;

/// args: cmd, argument.
pub fn call(call: &mut Call<'_>) -> Answer {
    match (call.args[0] & COMMAND_MASK) as u32 {
        abi::XENMEM_INCREASE_RESERVATION => Err(Errno::OpNotSupp.into()),
        abi::XENMEM_DECREASE_RESERVATION => reservation::decrease(call),
        abi::XENMEM_POPULATE_PHYSMAP => reservation::populate(call),
        abi::XENMEM_MAXIMUM_RAM_PAGE => Ok(call.machine().frames.stats().max_frame),
        abi::XENMEM_CURRENT_RESERVATION => reservation::ask(call, |m| m.ram_frames()),
        abi::XENMEM_MAXIMUM_RESERVATION => reservation::ask(call, |m| m.max_frames()),
        abi::XENMEM_MAXIMUM_GPFN => reservation::ask(call, |m| m.max_gfn().raw()),
        abi::XENMEM_MEMORY_MAP => map::get(call),
        abi::XENMEM_SET_MEMORY_MAP => map::set(call),
        abi::XENMEM_ADD_TO_PHYSMAP => physmap::add(call),
        abi::XENMEM_ADD_TO_PHYSMAP_BATCH => physmap::add_batch(call),
        abi::XENMEM_REMOVE_FROM_PHYSMAP => physmap::remove(call),
        abi::XENMEM_ACQUIRE_RESOURCE => resource::acquire(call),
        abi::XENMEM_RESERVED_DEVICE_MEMORY_MAP => map::no_reserved_device_memory(call),
        abi::XENMEM_CLAIM_PAGES => reservation::claim(call),
        _ => Err(Errno::NoSys.into()),
    }
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
