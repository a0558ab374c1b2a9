//! Segments between `backend::Segment` (packed as in a VMCB) and VMCS fields (SDM volume 3,
//! 25.4.1).

use super::state::{self, State};
use crate::backend::{SegReg, Segment};

const PRESENT: u64 = 1 << 7;
const UNUSABLE: u64 = 1 << 16;

/// Position in the VMCS's order.
fn number(reg: SegReg) -> usize {
    match reg {
        SegReg::Es => 0,
        SegReg::Cs => 1,
        SegReg::Ss => 2,
        SegReg::Ds => 3,
        SegReg::Fs => 4,
        SegReg::Gs => 5,
        SegReg::Ldtr => 6,
        SegReg::Tr => 7,
        SegReg::Gdtr => 8,
        SegReg::Idtr => 9,
    }
}

/// Descriptor bits 52 to 55 lie four bits higher than in a VMCB; a segment that is not present
/// counts as unusable.
fn rights_of(attr: u16) -> u64 {
    let attr = u64::from(attr);
    let rights = attr & 0xff | (attr & 0xf00) << 4;
    if rights & PRESENT == 0 {
        rights | UNUSABLE
    } else {
        rights
    }
}

fn attr_of(rights: u64) -> u16 {
    let attr = (rights & 0xff | rights >> 4 & 0xf00) as u16;
    if rights & UNUSABLE == 0 {
        attr
    } else {
        attr & !(PRESENT as u16)
    }
}

pub(super) fn get(state: &State, reg: SegReg) -> Segment {
    let n = number(reg);
    let (limit, base) = (state.get(state::limit(n)), state.get(state::base(n)));
    if n >= 8 {
        return Segment::new(0, 0, limit as u32, base);
    }
    Segment {
        selector: state.get(state::selector(n)) as u16,
        attr: attr_of(state.get(state::rights(n))),
        limit: limit as u32,
        base,
    }
}

pub(super) fn set(state: &mut State, reg: SegReg, segment: Segment) {
    let n = number(reg);
    state.set(state::base(n), segment.base);
    if n >= 8 {
        // An entry refuses the upper half.
        state.set(state::limit(n), u64::from(segment.limit & 0xffff));
        return;
    }
    state.set(state::limit(n), u64::from(segment.limit));
    state.set(state::selector(n), u64::from(segment.selector));
    state.set(state::rights(n), rights_of(segment.attr));
}

/// The DPL of SS, even where SS is unusable.
pub(super) fn cpl(state: &State) -> u8 {
    (state.get(state::rights(2)) >> 5) as u8 & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_spread_and_packed() {
        assert_eq!(rights_of(0xc9b), 0xc09b);
        assert_eq!(rights_of(0xa9b), 0xa09b);
        assert_eq!(rights_of(0), 0x10000);
        assert_eq!(rights_of(0x72), 0x1_0072);
        for attr in [0x93, 0xc9b, 0xa9b, 0x8b, 0x82, 0xcf3, 0x72] {
            assert_eq!(attr_of(rights_of(attr)), attr);
        }
        // The CPU may leave P set in an unusable segment.
        assert_eq!(attr_of(0x1_c093), 0xc13);
    }

    #[test]
    fn tables_have_short_limits() {
        let mut state = State::new();
        set(
            &mut state,
            SegReg::Gdtr,
            Segment::new(0, 0, 0x1_ffff, 0x1000),
        );
        assert_eq!(
            get(&state, SegReg::Gdtr),
            Segment::new(0, 0, 0xffff, 0x1000)
        );
        set(
            &mut state,
            SegReg::Ss,
            Segment::new(0x2b, 0xcf3, u32::MAX, 0),
        );
        assert_eq!(
            get(&state, SegReg::Ss),
            Segment::new(0x2b, 0xcf3, u32::MAX, 0)
        );
        assert_eq!(cpl(&state), 3);
    }
}
