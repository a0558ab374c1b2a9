//! GNTTABOP_copy: bytes from page to page, each side granted or the caller's own.

use guest_pv_abi as abi;
use oxen_types::{DomainId, Gfn, GrantRef, PAGE_SIZE};

use super::{GrantTable, Granted, Pin, Status, ops};
use crate::hypercall::Call;
use crate::seams::PageRef;

struct Side {
    pin: Option<Pin>,
    page: PageRef,
}

impl Side {
    fn open(
        call: &Call<'_>,
        at: &abi::GnttabCopyPtr,
        granted: bool,
        writable: bool,
    ) -> Granted<Self> {
        if granted {
            let grant = u32::try_from(at.u & 0xffff_ffff).map_err(|_| Status::BadRef)?;
            let granter = ops::granter(call, at.domid)?;
            let (pin, page) =
                GrantTable::pin(&granter, GrantRef(grant), call.domain().id, writable)?;
            return Ok(Self {
                pin: Some(pin),
                page,
            });
        }
        if DomainId(at.domid) != DomainId::SELF && DomainId(at.domid) != call.domain().id {
            return Err(Status::PermissionDenied);
        }
        let page = call
            .domain()
            .memory
            .page(Gfn::new(at.u), writable)
            .map_err(|_| Status::BadPage)?;
        Ok(Self { pin: None, page })
    }

    fn close(self) {
        if let Some(pin) = self.pin {
            pin.release();
        }
    }
}

pub(super) fn copy(call: &Call<'_>, op: &abi::GnttabCopy) -> Granted<()> {
    let len = usize::from(op.len);
    let fits = |offset: u16| usize::from(offset) + len <= PAGE_SIZE;
    if !fits(op.source.offset) || !fits(op.dest.offset) {
        return Err(Status::BadCopyArg);
    }
    let from = Side::open(
        call,
        &op.source,
        op.flags & abi::GNTCOPY_SOURCE_GREF != 0,
        false,
    )?;
    let to = match Side::open(call, &op.dest, op.flags & abi::GNTCOPY_DEST_GREF != 0, true) {
        Ok(to) => to,
        Err(status) => {
            from.close();
            return Err(status);
        }
    };
    to.page.copy_from(
        op.dest.offset.into(),
        &from.page,
        op.source.offset.into(),
        len,
    );
    from.close();
    to.close();
    Ok(())
}
