//! From the exit code of a VMCB to an `Exit` (APM volume 2, appendix C).

use oxen_types::{Gaddr, Vaddr};

use super::vmcb::Control;
use crate::backend::{ControlExit, ControlOp, Exit, IoExit};
use oxen_types::paging::NestedFault;

pub(crate) const EXCEPTION_DB: u64 = 0x41;
pub(crate) const EXCEPTION_AC: u64 = 0x51;
pub(crate) const VINTR: u64 = 0x64;
pub(crate) const IRET: u64 = 0x74;
pub(crate) const TASK_SWITCH: u64 = 0x7d;

pub(crate) fn is_debug_register(code: u64) -> bool {
    (0x20..0x40).contains(&code)
}

/// `assists`: the CPU has decode assists (APM 15.10).
pub(crate) fn decode(c: &Control, assists: bool) -> Exit {
    match c.exit_code {
        code @ 0x00..=0x1f => Exit::ControlRegister(control(code, c.exit_info1, assists)),
        0x4e => Exit::PageFault {
            code: c.exit_info1 as u32,
            address: Vaddr::new(c.exit_info2),
        },
        0x60 => Exit::ExternalInterrupt,
        0x61 => Exit::HostNmi,
        // SMI, INIT: the host's, pending like an interrupt.
        0x62 | 0x63 => Exit::ExternalInterrupt,
        VINTR => Exit::InterruptWindow,
        0x6f => Exit::Rdpmc,
        0x72 => Exit::Cpuid,
        IRET => Exit::NmiWindow,
        0x76 => Exit::Invd,
        0x77 => Exit::Pause,
        0x78 => Exit::Hlt,
        0x7b => Exit::Io(io(c)),
        0x7c if c.exit_info1 & 1 != 0 => Exit::Wrmsr,
        0x7c => Exit::Rdmsr,
        TASK_SWITCH => Exit::TaskSwitch,
        0x7f => Exit::Shutdown,
        0x81 => Exit::Hypercall,
        // INVLPGA; VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT; INVLPGB and its kin.
        0x79 => Exit::Invlpg,
        0x7a | 0x80 | 0x82..=0x86 | 0xa0..=0xa4 => Exit::VirtInstruction,
        0x88 => Exit::Icebp,
        0x89 => Exit::Wbinvd,
        0x8a => Exit::Monitor,
        0x8b | 0x8c => Exit::Mwait,
        0x8d => Exit::Xsetbv,
        0x8e => Exit::Rdpru,
        0x400 => Exit::NestedFault(nested_fault(c)),
        0x52 => Exit::HostMachineCheck,
        code @ 0x40..=0x5f => Exit::Exception {
            vector: (code - 0x40) as u8,
            code: c.exit_info1,
            addr: c.exit_info2,
        },
        // VMEXIT_INVALID is -1; emulators store it in 32 or 64 bits.
        code if code as u32 == u32::MAX => Exit::InvalidState,
        code => Exit::Unknown {
            code,
            info1: c.exit_info1,
            info2: c.exit_info2,
        },
    }
}

/// Codes from 0 on are reads of CR0 to CR15, those from 0x10 on writes. With decode assists MOV is
/// told with its general register; CLTS, LMSW and SMSW are not.
fn control(code: u64, info1: u64, assists: bool) -> ControlExit {
    const IS_MOV: u64 = 1 << 63;
    let (control, write) = (code as u8 & 0xf, code & 0x10 != 0);
    let register = info1 as u8 & 0xf;
    match (assists && info1 & IS_MOV != 0, write) {
        (true, true) => ControlExit::Known(ControlOp::Write { control, register }),
        (true, false) => ControlExit::Known(ControlOp::Read { control, register }),
        (false, _) => ControlExit::Access { control, write },
    }
}

fn io(c: &Control) -> IoExit {
    let info = c.exit_info1;
    IoExit {
        port: (info >> 16) as u16,
        size: (info >> 4) as u8 & 7,
        input: info & 1 != 0,
        string: info & (1 << 2) != 0,
        rep: info & (1 << 3) != 0,
        next_rip: c.exit_info2,
    }
}

fn nested_fault(c: &Control) -> NestedFault {
    let info = c.exit_info1;
    NestedFault {
        gpa: Gaddr::new(c.exit_info2),
        present: info & 1 != 0,
        write: info & (1 << 1) != 0,
        fetch: info & (1 << 4) != 0,
        table_walk: info & (1 << 33) != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svm::vmcb::Vmcb;
    use crate::zeroed::zeroed_box;

    fn exit(code: u64, info1: u64, info2: u64) -> Exit {
        let mut vmcb = zeroed_box::<Vmcb>().unwrap();
        vmcb.control.exit_code = code;
        vmcb.control.exit_info1 = info1;
        vmcb.control.exit_info2 = info2;
        decode(&vmcb.control, false)
    }

    #[test]
    fn control_registers_are_told_as_far_as_the_cpu_tells_them() {
        let access = |control, write| Exit::ControlRegister(ControlExit::Access { control, write });
        assert_eq!(exit(0x00, 0, 0), access(0, false));
        assert_eq!(exit(0x13, 0, 0), access(3, true));
        // Without decode assists the information means nothing.
        assert_eq!(exit(0x14, 1 << 63 | 5, 0), access(4, true));
        let mut vmcb = zeroed_box::<Vmcb>().unwrap();
        vmcb.control.exit_code = 0x14;
        vmcb.control.exit_info1 = 1 << 63 | 9;
        let (control, register) = (4, 9);
        let known = ControlExit::Known(ControlOp::Write { control, register });
        assert_eq!(decode(&vmcb.control, true), Exit::ControlRegister(known));
        // LMSW and CLTS are not MOV.
        vmcb.control.exit_info1 = 0;
        vmcb.control.exit_code = 0x10;
        assert_eq!(decode(&vmcb.control, true), access(0, true));
    }

    #[test]
    fn task_switches_and_rdpru_are_exits_of_their_own() {
        assert_eq!(exit(0x7d, 0, 0), Exit::TaskSwitch);
        assert_eq!(exit(0x8e, 0, 0), Exit::Rdpru);
        assert_eq!(exit(0x88, 0, 0), Exit::Icebp);
    }

    #[test]
    fn io_information() {
        // OUT DX, AL to 0x3f8; REP INSW from 0x1f0.
        assert_eq!(
            exit(0x7b, 0x03f8_0010, 0x1001),
            Exit::Io(IoExit {
                port: 0x3f8,
                size: 1,
                input: false,
                string: false,
                rep: false,
                next_rip: 0x1001
            })
        );
        let Exit::Io(io) = exit(0x7b, 0x01f0_002d, 7) else {
            panic!()
        };
        assert!(io.input && io.string && io.rep && io.size == 2 && io.port == 0x1f0);
    }

    #[test]
    fn nested_faults() {
        let Exit::NestedFault(f) = exit(0x400, 1 << 32 | 0b110, 0xfee0_0300) else {
            panic!()
        };
        assert!(f.write && !f.present && !f.fetch && !f.table_walk);
        assert_eq!(f.gpa, Gaddr::new(0xfee0_0300));
        let Exit::NestedFault(f) = exit(0x400, 1 << 33 | 0b10101, 0) else {
            panic!()
        };
        assert!(f.table_walk && f.present && f.fetch && !f.write);
    }

    #[test]
    fn invalid_in_either_width() {
        assert_eq!(exit(u64::MAX, 0, 0), Exit::InvalidState);
        assert_eq!(exit(0xffff_ffff, 0, 0), Exit::InvalidState);
        assert!(matches!(
            exit(0x1234, 1, 2),
            Exit::Unknown {
                code: 0x1234,
                info1: 1,
                info2: 2
            }
        ));
    }
}
