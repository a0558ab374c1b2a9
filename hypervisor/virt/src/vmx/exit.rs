//! From the exit fields of a VMCS to an `Exit` (SDM volume 3, appendix C and 28.2.1).

use oxen_types::{Gaddr, Vaddr};

use super::{event, field, insn};
use crate::backend::{Exit, IoExit};
use oxen_types::paging::NestedFault;

pub(super) mod reason {
    pub(crate) const EXCEPTION: u32 = 0;
    pub(crate) const INTERRUPT: u32 = 1;
    pub(crate) const INTERRUPT_WINDOW: u32 = 7;
    pub(crate) const NMI_WINDOW: u32 = 8;
    pub(crate) const CONTROL_REGISTER: u32 = 28;
    pub(crate) const DEBUG_REGISTER: u32 = 29;
    pub(crate) const IO: u32 = 30;
    pub(crate) const PAUSE: u32 = 40;
    pub(crate) const EOI: u32 = 45;
    pub(crate) const EPT_VIOLATION: u32 = 48;
    pub(crate) const EPT_MISCONFIGURED: u32 = 49;
    pub(crate) const APIC_WRITE: u32 = 56;
    pub(crate) const ENTRY_FAILED: u32 = 1 << 31;
}

/// The CPU's information on an exit, read once.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Info {
    pub(super) reason: u32,
    pub(super) qualification: u64,
    pub(super) guest_physical: u64,
    pub(super) event: u32,
    pub(super) event_code: u32,
    pub(super) vectoring: u32,
    pub(super) vectoring_code: u32,
    /// Of the instruction that exited, if one did.
    pub(super) insn_len: u8,
}

impl Info {
    /// From the current VMCS, as far as this kind of exit fills it in.
    pub(super) fn read() -> Self {
        let reason = insn::vmread(field::EXIT_REASON) as u32;
        let mut info = Self {
            reason,
            ..Self::default()
        };
        match reason & 0xffff {
            reason::EXCEPTION => {
                info.event = insn::vmread(field::EXIT_EVENT) as u32;
                info.event_code = insn::vmread(field::EXIT_EVENT_CODE) as u32;
                info.qualification = insn::vmread(field::QUALIFICATION);
            }
            reason::EPT_VIOLATION | reason::EPT_MISCONFIGURED => {
                info.guest_physical = insn::vmread(field::GUEST_PHYSICAL);
                info.qualification = insn::vmread(field::QUALIFICATION);
            }
            // The vector, if it was taken from the local APIC.
            reason::INTERRUPT => info.event = insn::vmread(field::EXIT_EVENT) as u32,
            // Hot, and nothing more to tell.
            7 | 10 | 12 | 18 | 31 | 32 | 52 => {}
            _ => info.qualification = insn::vmread(field::QUALIFICATION),
        }
        if by_instruction(reason) || info.event & event::TYPE_MASK == event::ICEBP {
            info.insn_len = insn::vmread(field::INSN_LEN) as u8;
        }
        info.vectoring = insn::vmread(field::VECTORING) as u32;
        if info.vectoring & event::HAS_CODE != 0 {
            info.vectoring_code = insn::vmread(field::VECTORING_CODE) as u32;
        }
        info
    }

    /// The IRET that faulted had already let NMIs in again: they are to stay blocked.
    pub(super) fn iret_unblocked_nmi(&self) -> bool {
        let told = match self.reason & 0xffff {
            reason::EXCEPTION => self.event & 0xff != 8 && self.event & event::IRET_UNBLOCKED != 0,
            reason::EPT_VIOLATION => self.qualification & 1 << 12 != 0,
            _ => false,
        };
        told && self.vectoring & event::VALID == 0
    }
}

/// Exits that an instruction causes unconditionally or by intercept: its length is known.
pub(super) fn by_instruction(reason: u32) -> bool {
    matches!(reason, 10..=27 | 28..=32 | 36 | 39 | 40 | 46 | 47 | 50 | 51 | 53..=55 | 57..=59 | 61 | 63 | 64)
}

pub(super) fn decode(info: &Info, rip: u64) -> Exit {
    match info.reason {
        reason::EXCEPTION => exception(info),
        // INIT and SIPI are the host's, pending like an interrupt. The preemption timer is as good
        // as one.
        reason::INTERRUPT | 3 | 4 | 52 => Exit::ExternalInterrupt,
        2 => Exit::Shutdown,
        reason::INTERRUPT_WINDOW => Exit::InterruptWindow,
        reason::NMI_WINDOW => Exit::NmiWindow,
        9 => Exit::TaskSwitch,
        10 => Exit::Cpuid,
        12 => Exit::Hlt,
        13 => Exit::Invd,
        14 => Exit::Invlpg,
        15 => Exit::Rdpmc,
        18 => Exit::Hypercall,
        // The instructions of VMX, SMX's GETSEC, and VMFUNC.
        11 | 19..=27 | 50 | 53 | 59 => Exit::VirtInstruction,
        reason::IO => Exit::Io(io(info, rip)),
        31 => Exit::Rdmsr,
        32 => Exit::Wrmsr,
        36 => Exit::Mwait,
        39 => Exit::Monitor,
        reason::PAUSE => Exit::Pause,
        // TPR below the threshold: what it held back can be delivered.
        43 => Exit::InterruptWindow,
        reason::EOI => Exit::LevelEoi(info.qualification as u8),
        reason::EPT_VIOLATION => Exit::NestedFault(nested_fault(info)),
        54 => Exit::Wbinvd,
        55 => Exit::Xsetbv,
        code if code & reason::ENTRY_FAILED != 0 => Exit::InvalidState,
        code => Exit::Unknown {
            code: code.into(),
            info1: info.qualification,
            info2: info.guest_physical,
        },
    }
}

fn exception(info: &Info) -> Exit {
    match (info.event & event::TYPE_MASK, info.event as u8) {
        (event::NMI, _) => Exit::HostNmi,
        (_, 18) => Exit::HostMachineCheck,
        (_, 14) => Exit::PageFault {
            code: info.event_code,
            address: Vaddr::new(info.qualification),
        },
        (_, vector) => Exit::Exception {
            vector,
            code: info.event_code.into(),
            addr: info.qualification,
        },
    }
}

fn io(info: &Info, rip: u64) -> IoExit {
    let q = info.qualification;
    IoExit {
        port: (q >> 16) as u16,
        size: (q & 7) as u8 + 1,
        input: q & (1 << 3) != 0,
        string: q & (1 << 4) != 0,
        rep: q & (1 << 5) != 0,
        next_rip: rip.wrapping_add(info.insn_len.into()),
    }
}

fn nested_fault(info: &Info) -> NestedFault {
    let q = info.qualification;
    NestedFault {
        gpa: Gaddr::new(info.guest_physical),
        write: q & (1 << 1) != 0,
        fetch: q & (1 << 2) != 0,
        present: q & (7 << 3) != 0,
        // The linear address is valid, and it was not its final translation.
        table_walk: q & (3 << 7) == 1 << 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(reason: u32, qualification: u64) -> Exit {
        let info = Info {
            reason,
            qualification,
            guest_physical: 0xfee0_0300,
            insn_len: 2,
            ..Info::default()
        };
        decode(&info, 0x1000)
    }

    #[test]
    fn io_information() {
        // OUT DX, AL to 0x3f8; REP INSW from 0x1f0.
        let out = IoExit {
            port: 0x3f8,
            size: 1,
            input: false,
            string: false,
            rep: false,
            next_rip: 0x1002,
        };
        assert_eq!(exit(30, 0x03f8_0000), Exit::Io(out));
        let Exit::Io(io) = exit(30, 0x01f0_0039) else {
            panic!()
        };
        assert!(io.input && io.string && io.rep && io.size == 2 && io.port == 0x1f0);
    }

    #[test]
    fn nested_faults() {
        let Exit::NestedFault(f) = exit(48, 0x182) else {
            panic!()
        };
        assert!(f.write && !f.present && !f.fetch && !f.table_walk);
        assert_eq!(f.gpa, Gaddr::new(0xfee0_0300));
        let Exit::NestedFault(f) = exit(48, 0x0a4) else {
            panic!()
        };
        assert!(f.table_walk && f.present && f.fetch && !f.write);
    }

    #[test]
    fn exceptions_and_failures() {
        let info = |event| Info {
            event,
            ..Info::default()
        };
        assert_eq!(decode(&info(0x8000_0202), 0), Exit::HostNmi);
        assert_eq!(decode(&info(0x8000_0312), 0), Exit::HostMachineCheck);
        assert!(matches!(
            decode(&info(0x8000_0301), 0),
            Exit::Exception { vector: 1, .. }
        ));
        let fault = Info {
            event: 0x8000_0b0e,
            event_code: 6,
            qualification: 0x1234,
            ..Info::default()
        };
        let (code, address) = (6, Vaddr::new(0x1234));
        assert_eq!(decode(&fault, 0), Exit::PageFault { code, address });
        assert_eq!(exit(0x8000_0021, 0), Exit::InvalidState);
        assert_eq!(exit(2, 0), Exit::Shutdown);
        assert_eq!(exit(9, 0), Exit::TaskSwitch);
        assert_eq!(exit(45, 0x51), Exit::LevelEoi(0x51));
        assert!(matches!(exit(49, 0), Exit::Unknown { code: 49, .. }));
    }

    #[test]
    fn an_iret_that_faulted_keeps_nmis_blocked() {
        let fault = |qualification, vectoring| Info {
            reason: 48,
            qualification,
            vectoring,
            ..Info::default()
        };
        assert!(fault(1 << 12, 0).iret_unblocked_nmi());
        assert!(!fault(1 << 12, 0x8000_0030).iret_unblocked_nmi());
        assert!(!fault(0, 0).iret_unblocked_nmi());
    }

    #[test]
    fn only_instructions_have_lengths() {
        assert!([10, 12, 18, 28, 30, 32, 55].into_iter().all(by_instruction));
        assert!(
            ![0, 1, 2, 7, 8, 43, 45, 48, 49, 52, 56]
                .into_iter()
                .any(by_instruction)
        );
    }
}
