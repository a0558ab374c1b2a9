//! Encodings of VMCS fields (SDM volume 3, appendix B) that are not part of the cached `state`.

pub(super) const EXIT_CONTROLS: u32 = 0x400c;
pub(super) const ENTRY_EVENT: u32 = 0x4016;
pub(super) const ENTRY_EVENT_CODE: u32 = 0x4018;
pub(super) const SECONDARY_CONTROLS: u32 = 0x401e;
pub(super) const PLE_GAP: u32 = 0x4020;
pub(super) const PLE_WINDOW: u32 = 0x4022;
pub(super) const POSTED_VECTOR: u32 = 0x2;
pub(super) const IO_MAP_A: u32 = 0x2000;
pub(super) const IO_MAP_B: u32 = 0x2002;
pub(super) const MSR_MAP: u32 = 0x2004;
pub(super) const VIRTUAL_APIC: u32 = 0x2012;
pub(super) const POSTED_DESCRIPTOR: u32 = 0x2016;
/// For vectors from 0, 64, 128 and 192 on.
pub(super) const EOI_EXITS: [u32; 4] = [0x201c, 0x201e, 0x2020, 0x2022];
/// The highest requested vector, and the highest in service above it.
pub(super) const INTERRUPT_STATUS: u32 = 0x810;
pub(super) const XSS_EXITS: u32 = 0x202c;
pub(super) const PREEMPTION_TIMER: u32 = 0x482e;
pub(super) const CR0_MASK: u32 = 0x6000;
pub(super) const CR4_MASK: u32 = 0x6002;
pub(super) const LINK: u32 = 0x2800;

/// Fields that must be zero: counts of MSR areas, CR3 targets, the activity state.
pub(super) const ZEROED: [u32; 8] = [
    0x4006, 0x4008, 0x400a, 0x400e, 0x4010, 0x4014, 0x401a, 0x4826,
];

pub(super) const GUEST_PHYSICAL: u32 = 0x2400;
pub(super) const INSN_ERROR: u32 = 0x4400;
pub(super) const EXIT_REASON: u32 = 0x4402;
pub(super) const EXIT_EVENT: u32 = 0x4404;
pub(super) const EXIT_EVENT_CODE: u32 = 0x4406;
pub(super) const VECTORING: u32 = 0x4408;
pub(super) const VECTORING_CODE: u32 = 0x440a;
pub(super) const INSN_LEN: u32 = 0x440c;
pub(super) const QUALIFICATION: u32 = 0x6400;

/// ES, CS, SS, DS, FS, GS.
pub(super) const HOST_SELECTORS: [u32; 6] = [0xc00, 0xc02, 0xc04, 0xc06, 0xc08, 0xc0a];
pub(super) const HOST_TR: u32 = 0xc0c;
pub(super) const HOST_PAT: u32 = 0x2c00;
pub(super) const HOST_EFER: u32 = 0x2c02;
pub(super) const HOST_CR0: u32 = 0x6c00;
pub(super) const HOST_CR3: u32 = 0x6c02;
pub(super) const HOST_CR4: u32 = 0x6c04;
pub(super) const HOST_FS_BASE: u32 = 0x6c06;
pub(super) const HOST_GS_BASE: u32 = 0x6c08;
pub(super) const HOST_TR_BASE: u32 = 0x6c0a;
pub(super) const HOST_GDT_BASE: u32 = 0x6c0c;
pub(super) const HOST_IDT_BASE: u32 = 0x6c0e;
/// CS, ESP, EIP: the hypervisor has no use for SYSENTER.
pub(super) const HOST_SYSENTER: [u32; 3] = [0x4c00, 0x6c10, 0x6c12];
pub(super) const HOST_RSP: u32 = 0x6c14;
pub(super) const HOST_RIP: u32 = 0x6c16;
