//! The state of a domain beside its memory: register contexts, and which pages were written.

use guest_pv_abi as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Errno, Privcmd, Result};

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct HvmContext {
    pub(super) size: u32,
    pub(super) pad: u32,
    pub(super) address: u64,
}

/// `xen_domctl_hvmcontext_partial`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Partial {
    pub(super) kind: u32,
    pub(super) instance: u32,
    pub(super) size: u64,
    pub(super) address: u64,
}

/// `xen_domctl_shadow_op`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ShadowOp {
    pub(super) op: u32,
    pub(super) mode: u32,
    pub(super) mib: u32,
    pub(super) pad: u32,
    pub(super) address: u64,
    pub(super) pages: u64,
    pub(super) faults: u32,
    pub(super) dirty: u32,
}

const OFF: u32 = 0;
const ENABLE_LOG_DIRTY: u32 = 2;
const CLEAN: u32 = 11;
const PEEK: u32 = 12;
const FINAL: u32 = 1;

/// The pages written since the last look.
#[derive(Debug, Clone)]
pub struct Dirty {
    /// One bit a guest frame.
    pub bitmap: Vec<u8>,
    /// How many bits the hypervisor filled in.
    pub pages: u64,
    pub faults: u32,
    pub dirty: u32,
}

impl Privcmd {
    /// All records of the domain's context (xen/arch-x86/hvm/save.h).
    pub fn hvm_context(&self, domain: u16) -> Result<Vec<u8>> {
        let (_, need) = self.domctl(
            abi::XEN_DOMCTL_GETHVMCONTEXT,
            domain,
            &HvmContext {
                size: 0,
                pad: 0,
                address: 0,
            },
        )?;
        let buffer = self.buffer(need.size as usize)?;
        let arg = HvmContext {
            size: need.size,
            pad: 0,
            address: buffer.addr(),
        };
        let (_, got) = self.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT, domain, &arg)?;
        let mut bytes = vec![0; got.size.min(need.size) as usize];
        buffer.read(0, &mut bytes)?;
        Ok(bytes)
    }

    pub fn set_hvm_context(&self, domain: u16, records: &[u8]) -> Result<()> {
        let size = u32::try_from(records.len()).map_err(|_| Errno::TOOBIG)?;
        let buffer = self.buffer_of(records)?;
        self.domctl(
            abi::XEN_DOMCTL_SETHVMCONTEXT,
            domain,
            &HvmContext {
                size,
                pad: 0,
                address: buffer.addr(),
            },
        )
        .map(drop)
    }

    /// One record of the context, without its descriptor.
    pub fn hvm_context_record(
        &self,
        domain: u16,
        kind: u32,
        instance: u32,
        max: usize,
    ) -> Result<Vec<u8>> {
        let buffer = self.buffer(max)?;
        let arg = Partial {
            kind,
            instance,
            size: max as u64,
            address: buffer.addr(),
        };
        let (_, got) = self.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT_PARTIAL, domain, &arg)?;
        let mut bytes = vec![0; (got.size as usize).min(max)];
        buffer.read(0, &mut bytes)?;
        Ok(bytes)
    }

    pub fn log_dirty_on(&self, domain: u16) -> Result<()> {
        self.shadow(domain, ENABLE_LOG_DIRTY, 0, 0, 0).map(drop)
    }

    pub fn log_dirty_off(&self, domain: u16) -> Result<()> {
        self.shadow(domain, OFF, 0, 0, 0).map(drop)
    }

    /// The dirty pages among the first `pages` frames; `clean` forgets them, `last` says that none will follow.
    pub fn log_dirty(&self, domain: u16, pages: u64, clean: bool, last: bool) -> Result<Dirty> {
        let bytes = usize::try_from(pages.div_ceil(8)).map_err(|_| Errno::TOOBIG)?;
        // The hypervisor writes whole words.
        let buffer = self.buffer(bytes.checked_next_multiple_of(8).ok_or(Errno::TOOBIG)?)?;
        let op = if clean { CLEAN } else { PEEK };
        let answer = self.shadow(
            domain,
            op,
            if last { FINAL } else { 0 },
            buffer.addr(),
            pages,
        )?;
        let mut bitmap = vec![0; bytes];
        buffer.read(0, &mut bitmap)?;
        Ok(Dirty {
            bitmap,
            pages: answer.pages,
            faults: answer.faults,
            dirty: answer.dirty,
        })
    }

    fn shadow(
        &self,
        domain: u16,
        op: u32,
        mode: u32,
        address: u64,
        pages: u64,
    ) -> Result<ShadowOp> {
        let arg = ShadowOp {
            op,
            mode,
            mib: 0,
            pad: 0,
            address,
            pages,
            faults: 0,
            dirty: 0,
        };
        self.domctl(abi::XEN_DOMCTL_SHADOW_OP, domain, &arg)
            .map(|(_, answer)| answer)
    }
}
