//! Why an entry failed, in words: VM-instruction errors (SDM volume 3, 31.4) and the failures that
//! look like exits (27.8).

/// Why a guest was not entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// A machine check came during the entry: the machine's trouble, not the guest's. Its state is
    /// as it was.
    MachineCheck,
    Because(&'static str),
}

impl From<&'static str> for Refused {
    fn from(why: &'static str) -> Self {
        Self::Because(why)
    }
}

pub(super) fn instruction(error: u64) -> Refused {
    Refused::Because(match error {
        1 => "VMCALL in VMX root operation",
        2 | 3 => "VMCLEAR with a bad address",
        4 => "VMLAUNCH of a VMCS that is not clear",
        5 => "VMRESUME of a VMCS that was not launched",
        6 => "VMRESUME after VMXOFF",
        7 => "invalid control fields",
        8 => "invalid host state",
        9..=11 => "VMPTRLD with a bad address or revision",
        12 => "no such VMCS field",
        13 => "the VMCS field is read-only",
        15 => "VMXON in VMX root operation",
        26 => "events blocked by MOV SS",
        28 => "bad operand of INVEPT or INVVPID",
        _ => "unknown VM-instruction error",
    })
}

/// For exit reasons with bit 31 set.
pub(super) fn entry(reason: u32, qualification: u64) -> Refused {
    Refused::Because(match (reason & 0xffff, qualification) {
        (41, _) => return Refused::MachineCheck,
        (33, 2) => "invalid guest state: loading the page-directory pointers failed",
        (33, 3) => "invalid guest state: NMI injected while blocked by STI",
        (33, 4) => "invalid guest state: bad VMCS link pointer",
        (33, _) => "invalid guest state",
        (34, _) => "an MSR could not be loaded",
        _ => "unknown entry failure",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let because = Refused::Because;
        assert_eq!(instruction(7), because("invalid control fields"));
        assert_eq!(entry(0x8000_0021, 0), because("invalid guest state"));
        assert_ne!(entry(0x8000_0021, 2), entry(0x8000_0021, 0));
        assert_ne!(entry(0x8000_0022, 0), entry(0x8000_0021, 0));
    }

    #[test]
    fn a_machine_check_during_the_entry_is_not_the_guests_fault() {
        assert_eq!(entry(0x8000_0029, 0), Refused::MachineCheck);
    }
}
