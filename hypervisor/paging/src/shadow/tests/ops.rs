//! Random operations of vcpus and the hypervisor.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Table, entry, frame, flags.
    Edit(u64, u64, u64, u64),
    Access(usize, usize, u32),
    Invlpg(usize, usize),
    /// Table, and the number of the address space if the guest has such.
    Cr3(usize, u64, u64),
    Control(usize, Control),
    /// The hypervisor changed much of the guest's memory.
    Reset,
    /// The hypervisor changes a page, or two.
    Remap(u64, Remap),
    /// The hypervisor changes a page while an access's fault is handled.
    Race(usize, usize, u32, u64, Remap),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Remap {
    Swap(u64),
    Take,
    GiveBack,
    Protect,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Control {
    Mode(u8),
    Wp,
    Smep,
    Nx,
    Pge,
    Pcid,
}

pub(super) const ADDRESSES: [u64; 8] = [
    0,
    0x1000,
    0x20_0000,
    0x20_1000,
    0x40_0000,
    0x4000_0000,
    0x4020_1000,
    0x7f_ffe0_0000,
];

pub(super) fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![
        8 => Just(7u64),
        2 => Just(0x67u64),
        2 => 0u64..8,
        1 => (0u64..8).prop_map(|low| low | 1 << 63 | 1),
        1 => Just(0x107),
        1 => Just(7 | LARGE),
        1 => Just(7 | LARGE | LARGE_FIRST << 12),
    ];
    let frame = prop_oneof![
        12 => NEXT..NEXT + 12,
        2 => 0..TABLES,
        2 => TABLES..NEXT,
        1 => LARGE_FIRST..LARGE_END,
    ];
    let index = prop_oneof![4 => 0u64..3, 1 => 510u64..512];
    let control = prop_oneof![
        4 => (0u8..4).prop_map(Control::Mode),
        2 => Just(Control::Wp),
        1 => Just(Control::Smep),
        1 => Just(Control::Nx),
        1 => Just(Control::Pge),
        1 => Just(Control::Pcid),
    ];
    let vcpu = || 0..VCPUS;
    let access = || prop::sample::select(std::vec![0u32, 2, 4, 6, 16, 20]);
    let gfn =
        || prop_oneof![8 => TABLES..FRAMES, 1 => 0..TABLES, 1 => LARGE_FIRST..LARGE_FIRST + 4];
    let remap = || {
        prop_oneof![
            2 => (TABLES..ABSENT).prop_map(Remap::Swap),
            1 => Just(Remap::Take),
            3 => Just(Remap::GiveBack),
            1 => Just(Remap::Protect),
        ]
    };
    prop_oneof![
        60 => (0..TABLES, index, frame, flags).prop_map(|(t, i, f, b)| Op::Edit(t, i, f, b)),
        100 => (vcpu(), 0..ADDRESSES.len(), access())
            .prop_map(|(vcpu, at, access)| Op::Access(vcpu, at, access)),
        10 => (vcpu(), 0..ADDRESSES.len()).prop_map(|(vcpu, at)| Op::Invlpg(vcpu, at)),
        18 => (vcpu(), 0..LEVELS[1], 0u64..3).prop_map(|(vcpu, table, n)| Op::Cr3(vcpu, table, n)),
        2 => (vcpu(), 0..TABLES, 0u64..3).prop_map(|(vcpu, table, n)| Op::Cr3(vcpu, table, n)),
        2 => (vcpu(), control).prop_map(|(vcpu, control)| Op::Control(vcpu, control)),
        1 => Just(Op::Reset),
        2 => (gfn(), remap()).prop_map(|(gfn, how)| Op::Remap(gfn, how)),
        4 => (vcpu(), 0..ADDRESSES.len(), access(), gfn(), remap())
            .prop_map(|(vcpu, at, access, gfn, how)| Op::Race(vcpu, at, access, gfn, how)),
    ]
}

/// The frame that an operation means for an entry of a table.
pub(super) fn frame_of(table: u64, number: u64) -> u64 {
    let Some(pick) = number.checked_sub(NEXT) else {
        return number;
    };
    let level = LEVELS.iter().filter(|first| **first <= table).count();
    match (LEVELS.get(level), LEVELS.get(level + 1)) {
        (Some(first), Some(end)) => first + pick % (end - first),
        // Pages: tables among them.
        _ => pick * 7 % FRAMES,
    }
}
