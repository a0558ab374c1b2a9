//! The virtual machine control block: APM volume 2, tables B-1 and B-2.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};
use core::mem::offset_of;

use crate::backend::Segment;

/// A segment as the save area holds it.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct VmcbSeg {
    pub(crate) selector: u16,
    pub(crate) attr: u16,
    pub(crate) limit: u32,
    pub(crate) base: u64,
}

impl From<Segment> for VmcbSeg {
    fn from(s: Segment) -> Self {
        Self {
            selector: s.selector,
            attr: s.attr,
            limit: s.limit,
            base: s.base,
        }
    }
}

impl From<VmcbSeg> for Segment {
    fn from(s: VmcbSeg) -> Self {
        Self {
            selector: s.selector,
            attr: s.attr,
            limit: s.limit,
            base: s.base,
        }
    }
}

#[derive(Zeroable)]
#[repr(C)]
pub(crate) struct Control {
    pub(crate) cr_read: u16,
    pub(crate) cr_write: u16,
    pub(crate) dr_read: u16,
    pub(crate) dr_write: u16,
    pub(crate) exceptions: u32,
    /// Intercept vectors 3, 4 and 5 (offsets 0x0c, 0x10, 0x14).
    pub(crate) general1: u32,
    pub(crate) general2: u32,
    pub(crate) general3: u32,
    _reserved0: [u8; 0x24],
    pub(crate) pause_threshold: u16,
    pub(crate) pause_count: u16,
    pub(crate) iopm: u64,
    pub(crate) msrpm: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) asid: u32,
    pub(crate) tlb_control: u8,
    _reserved1: [u8; 3],
    pub(crate) int_ctl: u64,
    /// Bit 0: the interrupt shadow.
    pub(crate) int_state: u64,
    pub(crate) exit_code: u64,
    pub(crate) exit_info1: u64,
    pub(crate) exit_info2: u64,
    pub(crate) exit_int_info: u64,
    pub(crate) nested_ctl: u64,
    _avic_bar: u64,
    _ghcb: u64,
    pub(crate) event_inj: u64,
    pub(crate) nested_cr3: u64,
    pub(crate) virt_ext: u64,
    pub(crate) clean: u32,
    _reserved2: u32,
    pub(crate) next_rip: u64,
    pub(crate) fetched: u8,
    pub(crate) insn: [u8; 15],
    _reserved3: [u8; 0x320],
}

#[derive(Zeroable)]
#[repr(C)]
pub(crate) struct Save {
    pub(crate) es: VmcbSeg,
    pub(crate) cs: VmcbSeg,
    pub(crate) ss: VmcbSeg,
    pub(crate) ds: VmcbSeg,
    pub(crate) fs: VmcbSeg,
    pub(crate) gs: VmcbSeg,
    pub(crate) gdtr: VmcbSeg,
    pub(crate) ldtr: VmcbSeg,
    pub(crate) idtr: VmcbSeg,
    pub(crate) tr: VmcbSeg,
    _reserved0: [u8; 0x2b],
    pub(crate) cpl: u8,
    _reserved1: u32,
    pub(crate) efer: u64,
    _reserved2: [u8; 0x70],
    pub(crate) cr4: u64,
    pub(crate) cr3: u64,
    pub(crate) cr0: u64,
    pub(crate) dr7: u64,
    pub(crate) dr6: u64,
    pub(crate) rflags: u64,
    pub(crate) rip: u64,
    _reserved3: [u8; 0x58],
    pub(crate) rsp: u64,
    _cet: [u64; 3],
    pub(crate) rax: u64,
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) sysenter_cs: u64,
    pub(crate) sysenter_esp: u64,
    pub(crate) sysenter_eip: u64,
    pub(crate) cr2: u64,
    _reserved4: [u8; 0x20],
    pub(crate) pat: u64,
    _lbr: [u64; 5],
    _reserved5: [u8; 0x968],
}

/// One page, read and written by the CPU during an entry only.
#[derive(Zeroable)]
#[repr(C, align(4096))]
pub(crate) struct Vmcb {
    pub(crate) control: Control,
    pub(crate) save: Save,
}

macro_rules! at {
    ($($ty:ident.$field:ident = $offset:literal;)*) => {
        const _: () = { $(assert!(offset_of!($ty, $field) == $offset);)* };
    };
}
at! {
    Control.exceptions = 0x8; Control.general1 = 0xc; Control.pause_threshold = 0x3c;
    Control.iopm = 0x40; Control.msrpm = 0x48; Control.tsc_offset = 0x50; Control.asid = 0x58;
    Control.tlb_control = 0x5c; Control.int_ctl = 0x60; Control.int_state = 0x68;
    Control.exit_code = 0x70; Control.exit_int_info = 0x88; Control.nested_ctl = 0x90;
    Control.event_inj = 0xa8; Control.nested_cr3 = 0xb0; Control.virt_ext = 0xb8;
    Control.clean = 0xc0; Control.next_rip = 0xc8; Control.fetched = 0xd0;
    Vmcb.save = 0x400;
    Save.gdtr = 0x60; Save.ldtr = 0x70; Save.idtr = 0x80; Save.tr = 0x90; Save.cpl = 0xcb;
    Save.efer = 0xd0; Save.cr4 = 0x148; Save.cr3 = 0x150; Save.cr0 = 0x158; Save.dr7 = 0x160;
    Save.dr6 = 0x168; Save.rflags = 0x170; Save.rip = 0x178; Save.rsp = 0x1d8;
    Save.rax = 0x1f8; Save.star = 0x200; Save.sfmask = 0x218; Save.sysenter_cs = 0x228;
    Save.cr2 = 0x240; Save.pat = 0x268;
}
const _: () = assert!(size_of::<Vmcb>() == 4096 && align_of::<Vmcb>() == 4096);

bitflags! {
    /// The parts of the VMCB that the CPU may take from its cache because they did not change since
    /// the last exit (APM 15.15.3). A set bit means unchanged.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Clean: u32 {
        const INTERCEPTS = 1;
        const PERMISSION_MAPS = 1 << 1;
        const ASID = 1 << 2;
        const TPR = 1 << 3;
        const NESTED = 1 << 4;
        const CRX = 1 << 5;
        const DRX = 1 << 6;
        const DT = 1 << 7;
        const SEG = 1 << 8;
        const CR2 = 1 << 9;
    }
}

/// Fields of `int_ctl`.
pub(crate) mod int_ctl {
    pub(crate) const TPR_MASK: u64 = 0xf;
    pub(crate) const V_IRQ: u64 = 1 << 8;
    pub(crate) const PRIO_SHIFT: u32 = 16;
    pub(crate) const PRIO_MAX: u64 = 0xf << PRIO_SHIFT;
    pub(crate) const IGNORE_TPR: u64 = 1 << 20;
    pub(crate) const MASKING: u64 = 1 << 24;
}

/// EVENTINJ and EXITINTINFO (APM 15.20).
pub(crate) mod event {
    pub(crate) const TYPE_MASK: u64 = 7 << 8;
    pub(crate) const INTERRUPT: u64 = 0;
    pub(crate) const NMI: u64 = 2 << 8;
    pub(crate) const EXCEPTION: u64 = 3 << 8;
    pub(crate) const SOFT: u64 = 4 << 8;
    pub(crate) const HAS_CODE: u64 = 1 << 11;
    pub(crate) const VALID: u64 = 1 << 31;
}

pub(crate) const TLB_KEEP: u8 = 0;
pub(crate) const TLB_FLUSH_ALL: u8 = 1;
pub(crate) const TLB_FLUSH_ASID: u8 = 3;
