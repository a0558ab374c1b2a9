//! Guests on CPUs without "unrestricted guest" (SDM volume 3, 27.3.1): there CR0.PE and CR0.PG are
//! on whenever a guest runs.
//!
//! A guest without paging has an identity page table of ours under it, a page of its domain at
//! `IDENTITY_TABLE`, unless it runs on a shadow, which is one already (`shadow`). Real mode, in
//! which second CPUs start, runs as virtual-8086 mode at IOPL 3 with all exceptions intercepted:
//! what is privileged there exits as #GP and is done by `emul::real_mode`. Interrupts, exceptions,
//! and segments that are not 16 times their selector do not exist in this real mode: a guest that
//! needs them ends with a message.
//!
//! It is a disguise for the time of an entry. Between entries the state is the guest's own.

use alloc::boxed::Box;

use oxen_types::{Gfn, PAGE_SIZE};

use super::VmxVcpu;
use super::caps::{VmxCaps, proc};
use super::exit::Info;
use super::state::{self, State};
use super::virtual_registers::control_op;
use super::{control, event};
use crate::backend::{
    ControlExit, Event, Exit, Reg, SegReg, VcpuEmulation, VcpuEvents, VcpuRegisters,
};
use crate::x86::*;

/// In the local APICs' range, where no machine has RAM or devices.
const IDENTITY_TABLE: u64 = 0xfee0_1000;
/// Present, writable, for all, accessed, dirty, 4 MiB: the CPU has nothing to write there.
const IDENTITY_ENTRY: u32 = 0xe7;
/// The bits of CR4 that the identity table needs, and those that it cannot have.
const CR4_REPLACED: u64 = CR4_PSE | CR4_PAE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE;
const RFLAGS_IOPL: u64 = 3 << 12;
/// Present, DPL 3, writable data.
const REAL_RIGHTS: u64 = 0xf3;
const CODE_RIGHTS: u64 = 0x9b;
const DATA_RIGHTS: u64 = 0x93;
const DPL: u64 = 3 << 5;
const UNUSABLE: u64 = 1 << 16;
/// Their places in the VMCS: ES to GS come first.
const SEGMENTS: usize = 6;
const CS: usize = 1;
const TR: usize = 7;

/// The guest's own state where the CPU has something else.
pub(super) struct Disguise {
    registers: Option<Registers>,
    real_mode: Option<RealMode>,
}

/// Where the guest runs on the identity table.
struct Registers {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
}

struct RealMode {
    rflags: u64,
    tr_limit: u64,
    exceptions: u64,
}

impl VmxCaps {
    /// See `Platform::identity_table`.
    pub(super) fn table_for_restricted(&self) -> Option<(Gfn, Box<[u8; PAGE_SIZE]>)> {
        if self.unrestricted() || !self.has_nested_paging() {
            return None;
        }
        let mut table = Box::new([0; PAGE_SIZE]);
        for (index, entry) in table.chunks_exact_mut(4).enumerate() {
            entry.copy_from_slice(&((index as u32) << 22 | IDENTITY_ENTRY).to_le_bytes());
        }
        Some((Gfn::new(IDENTITY_TABLE >> 12), table))
    }
}

/// Puts the CPU's state in the place of the guest's: `real` if that is in real mode, `identity` if
/// it is not on a shadow, which has tables of its own.
fn put_on(s: &mut State, real: bool, identity: bool) -> Result<Disguise, &'static str> {
    let real_mode = if real {
        Some(put_on_real_mode(s)?)
    } else {
        // What real mode left in the selectors may ask for other rights than the segments have.
        for n in 0..SEGMENTS {
            if s.get(state::rights(n)) & (DPL | UNUSABLE) == 0 {
                s.change(state::selector(n), 3, false);
            }
        }
        None
    };
    Ok(Disguise {
        registers: identity.then(|| put_on_identity_table(s)),
        real_mode,
    })
}

fn put_on_identity_table(s: &mut State) -> Registers {
    let guest = Registers {
        cr0: s.get(state::CR0),
        cr3: s.get(state::CR3),
        cr4: s.get(state::CR4),
        efer: s.get(state::EFER),
    };
    s.set(state::CR0, guest.cr0 | CR0_PE | CR0_PG);
    s.set(state::CR3, IDENTITY_TABLE);
    s.set(state::CR4, guest.cr4 & !CR4_REPLACED | CR4_PSE);
    s.set(state::EFER, guest.efer & !(EFER_LME | EFER_LMA));
    guest
}

fn put_on_real_mode(s: &mut State) -> Result<RealMode, &'static str> {
    let guest = RealMode {
        rflags: s.get(state::RFLAGS),
        tr_limit: s.get(state::limit(TR)),
        exceptions: s.get(state::EXCEPTIONS),
    };
    if guest.rflags & RFLAGS_IF != 0 {
        return Err("real mode with interrupts on, which is not emulated on this CPU");
    }
    for n in 0..SEGMENTS {
        if s.get(state::base(n)) != s.get(state::selector(n)) << 4 {
            return Err(
                "real mode with a segment from elsewhere, which is not emulated on this CPU",
            );
        }
    }
    for n in 0..SEGMENTS {
        s.set(state::limit(n), 0xffff);
        s.set(state::rights(n), REAL_RIGHTS);
    }
    // No port is open in an empty TSS.
    s.set(state::limit(TR), 0);
    s.set(state::RFLAGS, guest.rflags | RFLAGS_VM | RFLAGS_IOPL);
    s.set(state::EXCEPTIONS, u64::from(u32::MAX));
    Ok(guest)
}

/// Back to the guest's own state, with what it changed meanwhile.
fn take_off(s: &mut State, guest: &Disguise) {
    if let Some(guest) = &guest.registers {
        const PAGING: u64 = CR0_PE | CR0_PG;
        s.set(state::CR0, s.get(state::CR0) & !PAGING | guest.cr0 & PAGING);
        s.set(state::CR3, guest.cr3);
        let cr4 = s.get(state::CR4) & !CR4_REPLACED | guest.cr4 & CR4_REPLACED;
        s.set(state::CR4, cr4);
        s.set(state::EFER, guest.efer);
    }
    let Some(guest) = &guest.real_mode else {
        return;
    };
    for n in 0..SEGMENTS {
        let rights = if n == CS { CODE_RIGHTS } else { DATA_RIGHTS };
        s.set(state::rights(n), rights);
    }
    s.set(state::limit(TR), guest.tr_limit);
    let flags = s.get(state::RFLAGS) & !(RFLAGS_VM | RFLAGS_IOPL);
    s.set(state::RFLAGS, flags | guest.rflags & RFLAGS_IOPL);
    s.set(state::EXCEPTIONS, guest.exceptions);
}

impl VmxVcpu {
    /// Before an entry. Nothing, if the guest can run as it is.
    pub(super) fn disguise(&mut self) -> Result<Option<Disguise>, &'static str> {
        if self.caps.unrestricted() {
            return Ok(None);
        }
        let identity = self.shadowed.is_none();
        let paging = self.get(Reg::Cr0) & CR0_PG != 0;
        if identity {
            let exits = u64::from(proc::CR3_LOAD | proc::CR3_STORE);
            self.state.change(state::PROC_CONTROLS, exits, !paging);
        }
        if paging {
            return Ok(None);
        }
        let real = self.pretends_real_mode();
        if real && self.pending.is_some() {
            return Err("an event in real mode, which is not emulated on this CPU");
        }
        put_on(&mut self.state, real, identity).map(Some)
    }

    pub(super) fn undisguise(&mut self, disguise: Option<Disguise>) {
        if let Some(guest) = disguise {
            take_off(&mut self.state, &guest);
        }
    }

    /// The guest is in real mode, the CPU is not.
    pub(super) fn pretends_real_mode(&self) -> bool {
        !self.caps.unrestricted() && self.get(Reg::Cr0) & CR0_PE == 0
    }

    /// A #GP of the pretended real mode, where no event was being delivered.
    pub(super) fn real_mode_instruction(&self) -> bool {
        let Info {
            event, vectoring, ..
        } = self.info;
        event as u8 == 13 && vectoring & event::VALID == 0 && self.pretends_real_mode()
    }

    /// An access to a control register that exits on these CPUs alone. `None`: it is like on
    /// others.
    pub(super) fn write_restricted(&mut self, q: u64, value: u64) -> Option<Exit> {
        let cr0 = control::cr0(&self.state, &self.caps);
        Some(match (q & 15, q >> 4 & 3) {
            (3, 0) => {
                self.set(Reg::Cr3, value);
                self.advance_rip(self.info.insn_len);
                Exit::Settled
            }
            (3, 1) => {
                let cr3 = self.get(Reg::Cr3);
                self.regs.set((q >> 8) as u8, cr3);
                self.advance_rip(self.info.insn_len);
                Exit::Settled
            }
            (4, 0) if (value ^ self.get(Reg::Cr4)) & CR4_REPLACED != 0 => {
                Exit::ControlRegister(ControlExit::Known(control_op(q)?))
            }
            (0, 0) if (value ^ cr0) & (CR0_PE | CR0_PG) != 0 => self.write_cr0(cr0, value),
            // LMSW has four bits, and cannot clear PE.
            (0, 3) => self.write_cr0(cr0, cr0 & !0xe | q >> 16 & 0xf),
            _ => return None,
        })
    }

    /// A write to CR0 that may switch protection or paging (SDM volume 2, MOV to control
    /// registers).
    fn write_cr0(&mut self, old: u64, value: u64) -> Exit {
        let (efer, cr4) = (self.get(Reg::Efer), self.get(Reg::Cr4));
        let on = value & !old & CR0_PG != 0;
        let off = old & !value & CR0_PG != 0;
        let long_code = self.segment(SegReg::Cs).long();
        if !control::cr0_is_valid(value)
            || (on && efer & EFER_LME != 0 && (cr4 & CR4_PAE == 0 || long_code))
            || (off && (cr4 & CR4_PCIDE != 0 || efer & EFER_LMA != 0 && long_code))
        {
            self.inject(Event::GP);
            return Exit::Settled;
        }
        if on && efer & EFER_LME == 0 && cr4 & CR4_PAE != 0 {
            log::error!("a guest with 32-bit PAE paging, which is not emulated on this CPU");
            return Exit::InvalidState;
        }
        self.set(Reg::Cr0, value);
        self.advance_rip(self.info.insn_len);
        Exit::Settled
    }
}

#[cfg(test)]
mod tests {
    use super::super::enter::EXCEPTIONS;
    use super::*;

    fn real(cs: u64) -> State {
        let mut s = State::new();
        s.set(state::selector(CS), cs);
        s.set(state::base(CS), cs << 4);
        s.set(state::rights(CS), CODE_RIGHTS);
        s.set(state::limit(TR), 0x67);
        s.set(state::RFLAGS, 2);
        s.set(state::CR4, CR4_PAE);
        s.set(state::EXCEPTIONS, EXCEPTIONS);
        s
    }

    #[test]
    fn real_mode_runs_as_virtual_8086_mode() {
        let mut s = real(0x9900);
        let guest = put_on(&mut s, true, true).unwrap();
        assert_eq!(s.get(state::CR0) & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
        assert_eq!(
            [s.get(state::CR3), s.get(state::CR4)],
            [IDENTITY_TABLE, CR4_PSE]
        );
        assert_eq!(s.get(state::RFLAGS), 2 | RFLAGS_VM | RFLAGS_IOPL);
        assert_eq!(
            [s.get(state::rights(CS)), s.get(state::limit(TR))],
            [0xf3, 0]
        );
        // The guest loads DS, and counts.
        s.set(state::selector(3), 0x1234);
        s.set(state::base(3), 0x12340);
        s.set(state::RFLAGS, 0x46 | RFLAGS_VM | RFLAGS_IOPL);
        take_off(&mut s, &guest);
        assert_eq!(
            [s.get(state::CR0), s.get(state::CR3), s.get(state::CR4)],
            [0, 0, CR4_PAE]
        );
        assert_eq!(
            [s.get(state::RFLAGS), s.get(state::limit(TR))],
            [0x46, 0x67]
        );
        assert_eq!(
            [s.get(state::rights(CS)), s.get(state::rights(3))],
            [0x9b, 0x93]
        );
        assert_eq!(s.get(state::base(3)), 0x12340);
        assert_eq!(s.get(state::EXCEPTIONS), EXCEPTIONS);
    }

    #[test]
    fn on_a_shadow_real_mode_needs_no_table() {
        let mut s = real(0x9900);
        let registers = [CR0_PE | CR0_PG | CR0_WP, 0x1000, CR4_PAE];
        for (slot, value) in [state::CR0, state::CR3, state::CR4]
            .into_iter()
            .zip(registers)
        {
            s.set(slot, value);
        }
        let guest = put_on(&mut s, true, false).unwrap();
        assert_eq!(s.get(state::RFLAGS), 2 | RFLAGS_VM | RFLAGS_IOPL);
        for off in [false, true] {
            if off {
                take_off(&mut s, &guest);
            }
            assert_eq!(
                [state::CR0, state::CR3, state::CR4].map(|slot| s.get(slot)),
                registers
            );
        }
        assert_eq!(s.get(state::RFLAGS), 2);
    }

    #[test]
    fn what_this_real_mode_lacks_is_told() {
        let mut s = real(0x9900);
        s.set(state::RFLAGS, 2 | RFLAGS_IF);
        assert!(put_on(&mut s, true, true).is_err());
        let mut s = real(0xf000);
        s.set(state::base(CS), 0xffff_0000);
        assert!(put_on(&mut s, true, true).is_err());
    }

    #[test]
    fn protected_mode_without_paging_keeps_its_segments() {
        let mut s = real(0x9903);
        s.set(state::CR0, CR0_PE | CR0_TS);
        s.set(state::EFER, EFER_LME | EFER_NX);
        let guest = put_on(&mut s, false, true).unwrap();
        assert_eq!(s.get(state::EFER), EFER_NX);
        assert_eq!(
            [s.get(state::rights(CS)), s.get(state::selector(CS))],
            [0x9b, 0x9900]
        );
        // CLTS.
        s.change(state::CR0, CR0_TS, false);
        take_off(&mut s, &guest);
        assert_eq!(
            [s.get(state::CR0), s.get(state::EFER)],
            [CR0_PE, EFER_LME | EFER_NX]
        );
    }
}
