//! CR0 and CR4 as the guest sees them and as the CPU has them (SDM volume 3, 25.6.6).
//!
//! The guest owns the bits outside the masks. A write that changes a bit of ours exits: if the
//! guest may have it so, the read shadow takes the new bits of ours, and the instruction runs
//! again; this time it differs in the guest's own bits only, and the CPU does all that follows from
//! them (paging on and off, page-directory pointers, EFER.LMA, faults).

use super::caps::VmxCaps;
use super::state::{self, State};
use crate::x86::*;

/// VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP,
/// SMAP, PKE: what guests may use. MCE too, in the shadow only: machine checks are the host's.
const CR4_GUEST: u64 = 0x77_0fbf;
/// PE, MP, EM, TS, WP, AM, PG.
const CR0_GUEST: u64 = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | 1 << 18 | CR0_PG;
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Write {
    /// Our bits are as wanted: run the instruction again.
    Again,
    /// #GP(0).
    Fault,
}

/// Without unrestricted guests, these are what the CPU has on when the guest may have them off.
const CR0_RESTRICTED: u64 = CR0_PE | CR0_PG;
const CR4_RESTRICTED: u64 = CR4_PSE | CR4_PAE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE;

pub(super) fn cr0_mask(caps: &VmxCaps) -> u64 {
    if caps.unrestricted() {
        !CR0_GUEST
    } else {
        !CR0_GUEST | CR0_RESTRICTED
    }
}

pub(super) fn cr4_mask(caps: &VmxCaps) -> u64 {
    let mask = !(CR4_GUEST & caps.cr4_allowed);
    if caps.unrestricted() {
        mask
    } else {
        mask | CR4_RESTRICTED
    }
}

/// Whether `value` may be written to CR0 at all.
pub(super) fn cr0_is_valid(value: u64) -> bool {
    value >> 32 == 0 && value & (CR0_NW | CR0_CD) != CR0_NW && value & (CR0_PE | CR0_PG) != CR0_PG
}

pub(super) fn cr0(state: &State, caps: &VmxCaps) -> u64 {
    let mask = cr0_mask(caps);
    state.get(state::CR0_SHADOW) & mask | state.get(state::CR0) & !mask | CR0_ET
}

pub(super) fn cr4(state: &State, caps: &VmxCaps) -> u64 {
    let mask = cr4_mask(caps);
    state.get(state::CR4_SHADOW) & mask | state.get(state::CR4) & !mask
}

pub(super) fn set_cr0(state: &mut State, caps: &VmxCaps, value: u64) {
    state.set(state::CR0_SHADOW, value | CR0_ET);
    let real = value & caps.cr0_allowed & !(CR0_CD | CR0_NW) | caps.cr0_fixed | CR0_ET;
    state.set(state::CR0, real);
}

pub(super) fn set_cr4(state: &mut State, caps: &VmxCaps, value: u64) {
    state.set(state::CR4_SHADOW, value);
    state.set(
        state::CR4,
        value & caps.cr4_allowed | caps.cr4_fixed | CR4_MCE,
    );
}

/// MOV to CR0 that changes a bit of ours.
pub(super) fn write_cr0(state: &mut State, value: u64) -> Write {
    if !cr0_is_valid(value) {
        return Write::Fault;
    }
    // All bits are compared, even ET and those without a meaning, which a CPU ignores.
    state.set(state::CR0_SHADOW, value);
    Write::Again
}

/// MOV to CR4 that changes a bit of ours.
pub(super) fn write_cr4(state: &mut State, caps: &VmxCaps, value: u64) -> Write {
    if value & !(CR4_GUEST & caps.cr4_allowed | CR4_MCE) != 0 {
        return Write::Fault;
    }
    state.set(state::CR4_SHADOW, value);
    Write::Again
}

#[cfg(test)]
mod tests {
    use super::super::caps::tests::caps;
    use super::*;

    #[test]
    fn the_cpu_keeps_what_it_needs_and_the_guest_sees_what_it_wrote() {
        let (mut state, caps) = (State::new(), caps());
        set_cr0(&mut state, &caps, CR0_PE | CR0_CD);
        assert_eq!(state.get(state::CR0), CR0_PE | CR0_ET | CR0_NE);
        assert_eq!(cr0(&state, &caps), CR0_PE | CR0_ET | CR0_CD);
        set_cr4(&mut state, &caps, CR4_PAE);
        assert_eq!(state.get(state::CR4), CR4_PAE | 1 << 13 | CR4_MCE);
        assert_eq!(cr4(&state, &caps), CR4_PAE);
    }

    #[test]
    fn a_write_runs_again_with_our_bits_as_wanted() {
        let (mut state, caps) = (State::new(), caps());
        set_cr0(&mut state, &caps, CR0_PE);
        let value = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
        assert_eq!(write_cr0(&mut state, value), Write::Again);
        assert_eq!((state.get(state::CR0_SHADOW) ^ value) & cr0_mask(&caps), 0);
        // Paging is for the instruction to switch on.
        assert_eq!(state.get(state::CR0) & CR0_PG, 0);
        assert_eq!(write_cr0(&mut state, CR0_NW), Write::Fault);
        assert_eq!(write_cr0(&mut state, 1 << 32), Write::Fault);
        assert_eq!(
            write_cr4(&mut state, &caps, CR4_MCE | CR4_PAE),
            Write::Again
        );
        assert_eq!(cr4(&state, &caps) & CR4_MCE, CR4_MCE);
        for bit in [12, 13, 14, 19, 23, 24, 25, 40] {
            assert_eq!(
                write_cr4(&mut state, &caps, 1 << bit),
                Write::Fault,
                "bit {bit}"
            );
        }
    }
}
