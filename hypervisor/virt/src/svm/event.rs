//! Events as the VMCB holds them: EVENTINJ and EXITINTINFO (APM 15.20).

use super::vmcb;
use crate::backend::Event;
use crate::quirks::Quirks;

/// EVENTINJ for what EXITINTINFO tells, if it is to be delivered again.
pub(super) fn interrupted_event(info: u64, quirks: Quirks) -> Option<u64> {
    use vmcb::event::{EXCEPTION, HAS_CODE, INTERRUPT, NMI, SOFT, TYPE_MASK, VALID};
    if info & VALID == 0 {
        return None;
    }
    let vector = info & 0xff;
    match info & TYPE_MASK {
        SOFT => None,
        // The emulator calls everything an exception, which it would then refuse to inject.
        EXCEPTION if quirks.event_type_lost && vector == 2 => Some(NMI | VALID | vector),
        EXCEPTION if quirks.event_type_lost && vector >= 32 => Some(INTERRUPT | VALID | vector),
        // INT3 and INTO: instructions too.
        EXCEPTION if vector == 3 || vector == 4 => None,
        kind => {
            let code = if info & HAS_CODE != 0 {
                info & !0xffff_ffff | HAS_CODE
            } else {
                0
            };
            Some(code | kind | VALID | vector)
        }
    }
}

/// EVENTINJ for an event of ours.
pub(super) fn encode_event(event: Event) -> u64 {
    use vmcb::event::{EXCEPTION, HAS_CODE, INTERRUPT, NMI, VALID};
    VALID
        | match event {
            Event::Interrupt(vector) => INTERRUPT | u64::from(vector),
            Event::Nmi => NMI | 2,
            Event::Exception { vector, code: None } => EXCEPTION | u64::from(vector),
            Event::Exception {
                vector,
                code: Some(code),
            } => EXCEPTION | u64::from(vector) | HAS_CODE | u64::from(code) << 32,
        }
}

/// The inverse of `encode_event`.
pub(super) fn decode_event(info: u64) -> Option<Event> {
    use vmcb::event::{HAS_CODE, INTERRUPT, NMI, TYPE_MASK, VALID};
    if info & VALID == 0 {
        return None;
    }
    let vector = info as u8;
    Some(match info & TYPE_MASK {
        INTERRUPT => Event::Interrupt(vector),
        NMI => Event::Nmi,
        _ => Event::Exception {
            vector,
            code: (info & HAS_CODE != 0).then_some((info >> 32) as u32),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCG: Quirks = Quirks {
        event_type_lost: true,
        ..NONE
    };
    const NONE: Quirks = Quirks {
        event_type_lost: false,
        xsetbv_runs: false,
        injects_twice: false,
        shadow_lost: false,
        cr8_aborts: false,
        cx16_broken: false,
    };

    #[test]
    fn interrupted_events_come_back_as_they_were() {
        assert_eq!(interrupted_event(0x30, NONE), None);
        let interrupt = encode_event(Event::Interrupt(0xec));
        assert_eq!(interrupted_event(interrupt, NONE), Some(interrupt));
        for event in [
            Event::Interrupt(0xec),
            Event::Nmi,
            Event::UD,
            Event::page_fault(6),
        ] {
            assert_eq!(decode_event(encode_event(event)), Some(event));
        }
        let fault = encode_event(Event::page_fault(6));
        assert_eq!(fault, 6 << 32 | 0x8000_0b0e);
        assert_eq!(interrupted_event(fault, TCG), Some(fault));
        assert_eq!(interrupted_event(0x8000_0480, NONE), None);
        assert_eq!(interrupted_event(0x8000_0303, NONE), None);
    }

    #[test]
    fn the_type_that_tcg_loses_is_put_right() {
        assert_eq!(interrupted_event(0x8000_03ec, TCG), Some(0x8000_00ec));
        assert_eq!(interrupted_event(0x8000_0302, TCG), Some(0x8000_0202));
        assert_eq!(interrupted_event(0x8000_030d, TCG), Some(0x8000_030d));
    }
}
