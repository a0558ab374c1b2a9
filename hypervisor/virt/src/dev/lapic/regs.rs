//! Register numbers and their writable bits.
//!
//! A register's number is its xAPIC offset divided by 16, which is also its x2APIC MSR minus 0x800
//! (SDM vol. 3, "Local APIC Register Address Map", "x2APIC Register Address Space").

/// The xAPIC page, fixed: like Xen we do not let a guest move it.
pub const XAPIC_BASE: u64 = 0xfee0_0000;
pub const XAPIC_SIZE: u64 = 0x1000;

pub const MSR_APIC_BASE: u32 = 0x1b;
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
pub const MSR_X2APIC_FIRST: u32 = 0x800;
pub const MSR_X2APIC_LAST: u32 = 0x8ff;

pub(super) const ID: u32 = 0x02;
pub(super) const VERSION: u32 = 0x03;
pub(super) const TPR: u32 = 0x08;
pub(super) const APR: u32 = 0x09;
pub(super) const PPR: u32 = 0x0a;
pub(super) const EOI: u32 = 0x0b;
pub(super) const RRD: u32 = 0x0c;
pub(super) const LDR: u32 = 0x0d;
pub(super) const DFR: u32 = 0x0e;
pub(super) const SVR: u32 = 0x0f;
pub(super) const ISR: u32 = 0x10;
pub(super) const ISR_LAST: u32 = 0x17;
pub(super) const TMR: u32 = 0x18;
pub(super) const TMR_LAST: u32 = 0x1f;
pub(super) const IRR: u32 = 0x20;
pub(super) const IRR_LAST: u32 = 0x27;
pub(super) const ESR: u32 = 0x28;
pub(super) const ICR: u32 = 0x30;
pub(super) const ICR_HIGH: u32 = 0x31;
pub(super) const LVT_FIRST: u32 = 0x32;
pub(super) const LVT_LAST: u32 = 0x37;
pub(super) const TIMER_INITIAL: u32 = 0x38;
pub(super) const TIMER_CURRENT: u32 = 0x39;
pub(super) const TIMER_DIVIDE: u32 = 0x3e;
pub(super) const SELF_IPI: u32 = 0x3f;

/// Integrated APIC, last LVT entry 5: no CMCI, no suppression of EOI broadcasts.
pub(super) const VERSION_VALUE: u32 = 0x0005_0014;

/// Indices into the local vector table.
pub(super) const LVT_TIMER: usize = 0;
pub(super) const LVT_ERROR: usize = 5;
pub(super) const LVT_COUNT: usize = 6;

pub(super) const LVT_MASKED: u32 = 1 << 16;
pub(super) const LVT_TIMER_MODE: u32 = 3 << 17;
const LVT_VECTOR: u32 = 0xff;
const LVT_MODE: u32 = 7 << 8;
const LVT_POLARITY: u32 = 1 << 13;
const LVT_LEVEL: u32 = 1 << 15;

/// The bits that a guest may set in each entry: timer, thermal, performance, LINT0, LINT1, error.
pub(super) const LVT_WRITABLE: [u32; LVT_COUNT] = [
    LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
    LVT_VECTOR | LVT_MASKED | LVT_MODE,
    LVT_VECTOR | LVT_MASKED | LVT_MODE,
    LVT_VECTOR | LVT_MASKED | LVT_MODE | LVT_POLARITY | LVT_LEVEL,
    LVT_VECTOR | LVT_MASKED | LVT_MODE | LVT_POLARITY | LVT_LEVEL,
    LVT_VECTOR | LVT_MASKED,
];
/// Delivery status and remote IRR: never set here, and a write of them is ignored, not an error.
pub(super) const LVT_READ_ONLY: u32 = 1 << 12 | 1 << 14;

pub(super) const SVR_ENABLE: u32 = 1 << 8;
/// Vector, enable, focus checking off.
pub(super) const SVR_WRITABLE: u32 = 0x3ff;

pub(super) const DFR_FLAT: u32 = u32::MAX;

pub(super) const ICR_BUSY: u32 = 1 << 12;
pub(super) const ICR_WRITABLE: u32 = 0x000c_cfff;

pub(super) const ESR_SEND_ILLEGAL: u32 = 1 << 5;
pub(super) const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
pub(super) const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// Vectors below belong to exceptions: no APIC accepts them.
pub(super) const FIRST_VECTOR: u8 = 16;

pub(super) const BASE_BSP: u64 = 1 << 8;
pub(super) const BASE_X2APIC: u64 = 1 << 10;
pub(super) const BASE_ENABLE: u64 = 1 << 11;
pub(super) const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
