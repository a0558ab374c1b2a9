//! The state of a domain beside its memory: register contexts, and which pages were written.

use guest_pv_abi as abi;

use crate::{Errno, Privcmd, Result};

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
            &abi::DomctlHvmContext {
                size: 0,
                _pad: 0,
                buffer: 0,
            },
        )?;
        let buffer = self.buffer(need.size as usize)?;
        let arg = abi::DomctlHvmContext {
            size: need.size,
            _pad: 0,
            buffer: buffer.addr(),
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
            &abi::DomctlHvmContext {
                size,
                _pad: 0,
                buffer: buffer.addr(),
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
        let arg = abi::DomctlHvmContextPartial {
            kind,
            instance,
            bufsz: max as u64,
            buffer: buffer.addr(),
        };
        let (_, got) = self.domctl(abi::XEN_DOMCTL_GETHVMCONTEXT_PARTIAL, domain, &arg)?;
        let mut bytes = vec![0; (got.bufsz as usize).min(max)];
        buffer.read(0, &mut bytes)?;
        Ok(bytes)
    }

    pub fn log_dirty_on(&self, domain: u16) -> Result<()> {
        self.shadow(domain, abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, 0, 0, 0)
            .map(drop)
    }

    pub fn log_dirty_off(&self, domain: u16) -> Result<()> {
        self.shadow(domain, abi::XEN_DOMCTL_SHADOW_OP_OFF, 0, 0, 0)
            .map(drop)
    }

    /// The dirty pages among the first `pages` frames; `clean` forgets them, `last` says that none
    /// will follow.
    pub fn log_dirty(&self, domain: u16, pages: u64, clean: bool, last: bool) -> Result<Dirty> {
        let bytes = usize::try_from(pages.div_ceil(8)).map_err(|_| Errno::TOOBIG)?;
        // The hypervisor writes whole words.
        let buffer = self.buffer(bytes.checked_next_multiple_of(8).ok_or(Errno::TOOBIG)?)?;
        let op = if clean {
            abi::XEN_DOMCTL_SHADOW_OP_CLEAN
        } else {
            abi::XEN_DOMCTL_SHADOW_OP_PEEK
        };
        let answer = self.shadow(
            domain,
            op,
            if last {
                abi::XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL
            } else {
                0
            },
            buffer.addr(),
            pages,
        )?;
        let mut bitmap = vec![0; bytes];
        buffer.read(0, &mut bitmap)?;
        Ok(Dirty {
            bitmap,
            pages: answer.pages,
            faults: answer.stats.fault_count,
            dirty: answer.stats.dirty_count,
        })
    }

    fn shadow(
        &self,
        domain: u16,
        op: u32,
        mode: u32,
        address: u64,
        pages: u64,
    ) -> Result<abi::DomctlShadowOp> {
        let arg = abi::DomctlShadowOp {
            op,
            mode,
            mb: 0,
            _pad: 0,
            dirty_bitmap: address,
            pages,
            stats: abi::DomctlShadowOpStats {
                fault_count: 0,
                dirty_count: 0,
            },
        };
        self.domctl(abi::XEN_DOMCTL_SHADOW_OP, domain, &arg)
            .map(|(_, answer)| answer)
    }
}
