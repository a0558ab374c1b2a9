//! Operations on lists: the address of the list in argument 1, its length in argument 2.
//!
//! A private copy of each element is worked on, and written back with its own status. What is done
//! is counted off in the arguments, so that the call goes on with the rest.

use bytemuck::{Pod, Zeroable};
use oxen_types::Errno;

use super::super::{Answer, Stop, Work};
use super::{Call, List};

/// Elements that are copied from and to the caller together.
pub(crate) const BATCH: usize = 16;

/// Runs `act` on each element.
pub(crate) fn each<T: Pod>(call: &mut Call<'_>, act: impl Fn(&Call<'_>, &mut T)) -> Answer {
    batches(call, |call, batch| {
        batch.iter_mut().for_each(|element| act(call, element));
    })
}

/// Runs `act` on the elements, up to [`BATCH`] of them at a time.
pub(crate) fn batches<T: Pod>(call: &mut Call<'_>, act: impl Fn(&Call<'_>, &mut [T])) -> Answer {
    let list: List<'_, T> = call.list(call.args[1]);
    let count = call.args[2];
    if count > u64::from(u32::MAX) {
        return Err(Errno::Inval.into());
    }
    let mut room: [T; BATCH] = Zeroable::zeroed();
    let mut done = 0;
    while done < count {
        if call.is_spent() {
            call.args[1] = list.address(done)?;
            call.args[2] = count - done;
            return Err(Stop::Again);
        }
        let len = (count - done).min(BATCH as u64);
        let batch = room.get_mut(..len as usize).unwrap_or_default();
        call.spend(Work::Operation, len);
        list.get_all(done, batch)?;
        act(call, batch);
        list.set_all(done, batch)?;
        done += len;
    }
    Ok(0)
}
