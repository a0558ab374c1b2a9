//! The guest's part of a VMCS, and the controls that change, as a cache of field values.
//!
//! Invariants: a dirty value is valid. While the VMCS is not current on the CPU that runs this,
//! every value is valid, so that nothing is read from it: `fetch_all` sees to that before it is
//! cleared.
#![allow(unsafe_code, reason = "writes fields of the VMCS")]

use core::cell::Cell;

use super::insn;

/// An index into `ENCODINGS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(usize);

/// ES, CS, SS, DS, FS, GS, LDTR, TR; bases and limits also of GDTR and IDTR.
pub(super) const fn selector(n: usize) -> Slot {
    Slot(n)
}
pub(super) const fn limit(n: usize) -> Slot {
    Slot(8 + n)
}
pub(super) const fn rights(n: usize) -> Slot {
    Slot(18 + n)
}
pub(super) const fn base(n: usize) -> Slot {
    Slot(26 + n)
}
pub(super) const CR0: Slot = Slot(36);
pub(super) const CR3: Slot = Slot(37);
pub(super) const CR4: Slot = Slot(38);
pub(super) const DR7: Slot = Slot(39);
pub(super) const RSP: Slot = Slot(40);
pub(super) const RIP: Slot = Slot(41);
pub(super) const RFLAGS: Slot = Slot(42);
pub(super) const SYSENTER_CS: Slot = Slot(43);
pub(super) const SYSENTER_ESP: Slot = Slot(44);
pub(super) const SYSENTER_EIP: Slot = Slot(45);
pub(super) const EFER: Slot = Slot(46);
pub(super) const PAT: Slot = Slot(47);
/// Bits 0 and 1: after STI and MOV SS; bit 3: NMIs are blocked.
pub(super) const INTERRUPTIBILITY: Slot = Slot(48);
/// In `INTERRUPTIBILITY`.
pub(super) const NMI_BLOCKED: u64 = 1 << 3;
pub(super) const PENDING_DEBUG: Slot = Slot(49);
pub(super) const DEBUGCTL: Slot = Slot(50);
/// Changed by exits too: they store EFER.LMA into it.
pub(super) const ENTRY_CONTROLS: Slot = Slot(51);
// From here on only we change them.
const FIRST_STABLE: usize = 52;
pub(super) const CR0_SHADOW: Slot = Slot(52);
pub(super) const CR4_SHADOW: Slot = Slot(53);
pub(super) const PROC_CONTROLS: Slot = Slot(54);
pub(super) const TSC_OFFSET: Slot = Slot(55);
pub(super) const EPTP: Slot = Slot(56);
pub(super) const VPID: Slot = Slot(57);
pub(super) const TPR_THRESHOLD: Slot = Slot(58);
pub(super) const PIN_CONTROLS: Slot = Slot(59);
pub(super) const EXCEPTIONS: Slot = Slot(60);
const COUNT: usize = 61;
const ALL: u64 = (1 << COUNT) - 1;
const STABLE: u64 = ALL & !((1 << FIRST_STABLE) - 1);

/// In the order of the slots.
const ENCODINGS: [u32; COUNT] = [
    0x800, 0x802, 0x804, 0x806, 0x808, 0x80a, 0x80c, 0x80e, // selectors
    0x4800, 0x4802, 0x4804, 0x4806, 0x4808, 0x480a, 0x480c, 0x480e, 0x4810, 0x4812, // limits
    0x4814, 0x4816, 0x4818, 0x481a, 0x481c, 0x481e, 0x4820, 0x4822, // access rights
    0x6806, 0x6808, 0x680a, 0x680c, 0x680e, 0x6810, 0x6812, 0x6814, 0x6816, 0x6818, // bases
    0x6800, 0x6802, 0x6804, // CR0, CR3, CR4
    0x681a, 0x681c, 0x681e, 0x6820, // DR7, RSP, RIP, RFLAGS
    0x482a, 0x6824, 0x6826, // SYSENTER
    0x2806, 0x2804, // EFER, PAT
    0x4824, 0x6822, 0x2802, // interruptibility, pending debug exceptions, DEBUGCTL
    0x4012, // entry controls
    0x6004, 0x6006, // read shadows
    0x4002, 0x2010, 0x201a, 0x0, 0x401c, 0x4000, 0x4004,
];

pub(super) struct State {
    values: [Cell<u64>; COUNT],
    valid: Cell<u64>,
    dirty: u64,
    /// Fields that the CPU does not have, or this vcpu does not use: neither read nor written.
    absent: u64,
}

impl State {
    /// All zero, all to be written.
    pub(super) fn new() -> Self {
        Self {
            values: [const { Cell::new(0) }; COUNT],
            valid: Cell::new(ALL),
            dirty: ALL,
            absent: 0,
        }
    }

    pub(super) fn get(&self, slot: Slot) -> u64 {
        let (Some(cell), Some(encoding)) = (self.values.get(slot.0), ENCODINGS.get(slot.0)) else {
            return 0;
        };
        if self.valid.get() & 1 << slot.0 == 0 {
            cell.set(insn::vmread(*encoding));
            self.valid.set(self.valid.get() | 1 << slot.0);
        }
        cell.get()
    }

    pub(super) fn set(&mut self, slot: Slot, value: u64) {
        let bit = 1 << slot.0;
        let Some(cell) = self.values.get(slot.0) else {
            return;
        };
        if self.valid.get() & bit == 0 || cell.get() != value {
            cell.set(value);
            self.valid.set(self.valid.get() | bit);
            self.dirty |= bit;
        }
    }

    /// Whether the field was set since the last entry.
    pub(super) fn is_dirty(&self, slot: Slot) -> bool {
        self.dirty & 1 << slot.0 != 0
    }

    /// Sets bits of a field, or clears them.
    pub(super) fn change(&mut self, slot: Slot, bits: u64, on: bool) {
        let old = self.get(slot);
        self.set(slot, if on { old | bits } else { old & !bits });
    }

    /// Into the current VMCS, which is this one, before an entry.
    pub(super) fn write_back(&mut self) {
        let mut dirty = core::mem::take(&mut self.dirty) & !self.absent;
        while dirty != 0 {
            let n = dirty.trailing_zeros() as usize;
            dirty &= dirty - 1;
            if let (Some(cell), Some(encoding)) = (self.values.get(n), ENCODINGS.get(n)) {
                // SAFETY: the guest's own state, and controls whose bits `vcpu` chose.
                unsafe { insn::vmwrite(*encoding, cell.get()) };
            }
        }
    }

    /// The guest has run: what it may have changed is not known.
    pub(super) fn forget(&mut self) {
        self.valid.set(STABLE | self.absent);
    }

    /// From now on the field is a variable only.
    pub(super) fn lack(&mut self, slot: Slot) {
        self.absent |= 1 << slot.0;
    }

    /// Out of the current VMCS, which is this one, before it is cleared.
    pub(super) fn fetch_all(&mut self) {
        for n in 0..COUNT {
            self.get(Slot(n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_as_in_appendix_b() {
        let at = |slot: Slot| ENCODINGS[slot.0];
        assert_eq!([at(selector(0)), at(selector(7))], [0x800, 0x80e]);
        assert_eq!(
            [at(limit(0)), at(limit(8)), at(limit(9))],
            [0x4800, 0x4810, 0x4812]
        );
        assert_eq!([at(rights(1)), at(rights(7))], [0x4816, 0x4822]);
        assert_eq!([at(base(0)), at(base(9))], [0x6806, 0x6818]);
        assert_eq!(
            [at(CR0), at(CR3), at(CR4), at(DR7)],
            [0x6800, 0x6802, 0x6804, 0x681a]
        );
        assert_eq!([at(RSP), at(RIP), at(RFLAGS)], [0x681c, 0x681e, 0x6820]);
        assert_eq!([at(EFER), at(PAT), at(DEBUGCTL)], [0x2806, 0x2804, 0x2802]);
        assert_eq!(
            [at(SYSENTER_CS), at(SYSENTER_ESP), at(SYSENTER_EIP)],
            [0x482a, 0x6824, 0x6826]
        );
        assert_eq!([at(INTERRUPTIBILITY), at(PENDING_DEBUG)], [0x4824, 0x6822]);
        assert_eq!(
            [at(ENTRY_CONTROLS), at(PROC_CONTROLS), at(PIN_CONTROLS)],
            [0x4012, 0x4002, 0x4000]
        );
        assert_eq!([at(CR0_SHADOW), at(CR4_SHADOW)], [0x6004, 0x6006]);
        assert_eq!(
            [at(TSC_OFFSET), at(EPTP), at(VPID), at(TPR_THRESHOLD)],
            [0x2010, 0x201a, 0, 0x401c]
        );
    }

    #[test]
    fn only_changes_are_dirty() {
        let mut state = State::new();
        state.dirty = 0;
        state.set(RIP, 0);
        assert_eq!(state.dirty, 0);
        state.set(RIP, 5);
        state.change(PROC_CONTROLS, 0x84, true);
        state.change(PROC_CONTROLS, 0x4, false);
        assert_eq!(state.dirty, 1 << RIP.0 | 1 << PROC_CONTROLS.0);
        assert_eq!([state.get(RIP), state.get(PROC_CONTROLS)], [5, 0x80]);
        state.forget();
        assert_eq!(state.valid.get(), STABLE);
        // What the guest may have changed is written even if it is the old value.
        state.dirty = 0;
        state.set(RIP, 5);
        assert_eq!(state.dirty, 1 << RIP.0);
    }
}
