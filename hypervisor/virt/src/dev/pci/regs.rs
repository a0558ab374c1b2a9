//! Configuration registers and capability layouts (PCI Local Bus 3.0 chapter 6; PCIe base
//! specification for the extended capabilities).

pub(super) const CONFIG_SIZE: u16 = 4096;
pub(super) const LEGACY_SIZE: u16 = 256;

pub(super) const VENDOR: u16 = 0x00;
pub(super) const COMMAND: u16 = 0x04;
pub(super) const STATUS: u16 = 0x06;
pub(super) const HEADER_TYPE: u16 = 0x0e;
pub(super) const BAR_0: u16 = 0x10;
pub(super) const CAP_HEAD: u16 = 0x34;
pub(super) const CAP_HEAD_CARDBUS: u16 = 0x14;
pub(super) const ROM: u16 = 0x30;
pub(super) const ROM_BRIDGE: u16 = 0x38;

pub(super) const COMMAND_MEMORY: u16 = 1 << 1;
pub(super) const STATUS_CAP_LIST: u32 = 1 << 4;
pub(super) const HEADER_MULTI: u32 = 1 << 7;

pub(super) const BAR_IO: u32 = 1;
pub(super) const BAR_TYPE: u32 = 3 << 1;
pub(super) const BAR_TYPE_64: u32 = 2 << 1;
pub(super) const BAR_TYPE_RESERVED: u32 = 3 << 1;
pub(super) const BAR_FLAGS: u32 = 0xf;
pub(super) const ROM_ENABLE: u32 = 1;
pub(super) const ROM_ADDRESS: u32 = 0xffff_f800;

pub(super) const CAP_MSI: u16 = 0x05;
pub(super) const CAP_MSIX: u16 = 0x11;
/// Enhanced Allocation: BARs by other means, which we would not track.
pub(super) const CAP_EA: u16 = 0x14;

/// SR-IOV and its later form: functions that appear by themselves, with BARs elsewhere.
pub(super) const EXT_SRIOV: u16 = 0x10;
pub(super) const EXT_MRIOV: u16 = 0x11;
/// Resizable BARs, of functions and of virtual functions: sizes that change under us.
pub(super) const EXT_REBAR: u16 = 0x15;
pub(super) const EXT_VF_REBAR: u16 = 0x24;

pub(super) const MSI_ENABLE: u16 = 1 << 0;
pub(super) const MSI_64BIT: u16 = 1 << 7;
pub(super) const MSI_MASKABLE: u16 = 1 << 8;

pub(super) const MSIX_ENABLE: u16 = 1 << 15;
pub(super) const MSIX_MASK_ALL: u16 = 1 << 14;
pub(super) const MSIX_SIZE: u16 = 0x7ff;
