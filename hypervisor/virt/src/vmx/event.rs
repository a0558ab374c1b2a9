//! Events in VMCS fields: the entry's interruption information, and the vectoring information of an
//! exit that came amid a delivery (SDM volume 3, 25.8.3 and 25.9.3). Both have one format.

use crate::backend::Event;

pub(super) const VALID: u32 = 1 << 31;
pub(super) const HAS_CODE: u32 = 1 << 11;
pub(super) const TYPE_MASK: u32 = 7 << 8;
pub(super) const INTERRUPT: u32 = 0;
pub(super) const NMI: u32 = 2 << 8;
pub(super) const EXCEPTION: u32 = 3 << 8;
/// INT1: RIP is still at the instruction.
pub(super) const ICEBP: u32 = 5 << 8;
/// In an exit's information on an exception or a fault of IRET: the IRET had unblocked NMIs.
pub(super) const IRET_UNBLOCKED: u32 = 1 << 12;

pub(super) fn encode(event: Event) -> (u32, u32) {
    match event {
        Event::Interrupt(vector) => (VALID | INTERRUPT | u32::from(vector), 0),
        Event::Nmi => (VALID | NMI | 2, 0),
        Event::Exception { vector, code } => {
            let with_code = if code.is_some() { HAS_CODE } else { 0 };
            (
                VALID | EXCEPTION | with_code | u32::from(vector),
                code.unwrap_or(0),
            )
        }
    }
}

/// The event to deliver again after an exit amid its delivery. Software interrupts and exceptions
/// are not delivered again: RIP is still at the instruction, which runs again.
pub(super) fn interrupted(info: u32, code: u32) -> Option<Event> {
    if info & VALID == 0 {
        return None;
    }
    let vector = info as u8;
    match info & TYPE_MASK {
        INTERRUPT => Some(Event::Interrupt(vector)),
        NMI => Some(Event::Nmi),
        EXCEPTION => Some(Event::Exception {
            vector,
            code: (info & HAS_CODE != 0).then_some(code),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_as_they_were() {
        assert_eq!(encode(Event::page_fault(6)), (0x8000_0b0e, 6));
        assert_eq!(encode(Event::Nmi), (0x8000_0202, 0));
        for event in [
            Event::Interrupt(0xec),
            Event::Nmi,
            Event::UD,
            Event::page_fault(6),
        ] {
            let (info, code) = encode(event);
            assert_eq!(interrupted(info, code), Some(event));
        }
        assert_eq!(interrupted(0x30, 0), None);
        // INT 0x80, INT3 and ICEBP run again.
        for info in [0x8000_0480, 0x8000_0603, 0x8000_0501] {
            assert_eq!(interrupted(info, 0), None);
        }
    }
}
