//! The instruction emulator: what a guest does to memory that is a device.
//!
//! Scope: the integer instructions that kernels use on registers in memory, string moves and
//! string port I/O. An access that faulted is decoded, checked against the address that faulted,
//! and done through `PhysAccess`. Instructions that we do not know, or that changed under our
//! hands, never reach a device.
//!
//! Nothing here loops on a guest's word: a REP does at most `MAX_REPEAT` elements and then lets
//! the guest run into its next fault.

mod alu;

mod control;
mod decode;
mod encoding;
mod fetch;
mod operand;
mod real;
mod space;
mod string;

use oxen_types::{Gaddr, Vaddr};

pub use control::{ControlOutcome, control_exit, control_op};
pub use fetch::insn_len;
pub use real::{RealMode, real_mode};
pub use space::{Fault, PhysAccess};

use crate::backend::{Event, IoExit, Reg, VcpuEmulation};
use alu::Width;
use decode::{Insn, Kind, Operation};
use oxen_paging::walk::Access;
use oxen_types::paging::NestedFault;
use space::Memory;

/// Elements of a REP that one call does.
const MAX_REPEAT: u32 = 64;

/// The outcome of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmulOutcome {
    /// Done: registers and RIP are set (for a long REP: a part, and it faults again).
    Done,
    /// The instruction is not (or no longer) one that could have faulted there: run it again.
    Retry,
    /// The instruction faults in the guest; CR2 is set where it matters.
    Inject(Event),
    /// Not an instruction that this emulator knows. The bytes are for the log.
    Unknown { bytes: [u8; 15], len: u8 },
}

/// Emulates the instruction that caused `fault`, an access to a device's memory.
pub fn mmio(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    fault: &NestedFault,
) -> EmulOutcome {
    let bytes = match fetch::fetch(vcpu, space) {
        Ok(bytes) => bytes,
        Err(fault) => return stop(vcpu, fault),
    };
    let Some(insn) = decode::decode(vcpu, bytes.as_slice()) else {
        return unknown(&bytes);
    };
    let page = fault.gpa.frame();
    let result = match insn.kind {
        Kind::Memory { at, width, op } => single(vcpu, space, &insn, at, width, op, page.base()),
        Kind::Movs(width) => string::movs(vcpu, space, &insn, width, page.base()),
        Kind::Stos(width) => string::stos(vcpu, space, &insn, width, page.base()),
        Kind::Ins(_) | Kind::Outs(_) => return unknown(&bytes),
    };
    match result {
        Ok(true) => EmulOutcome::Done,
        Ok(false) => EmulOutcome::Retry,
        Err(fault) => stop(vcpu, fault),
    }
}

/// Emulates INS and OUTS; `port` does one access: the value to write, or `None` to read.
pub fn string_io(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    io: &IoExit,
    port: &mut dyn FnMut(Option<u32>) -> u32,
) -> EmulOutcome {
    let bytes = match fetch::fetch(vcpu, space) {
        Ok(bytes) => bytes,
        Err(fault) => return stop(vcpu, fault),
    };
    let Some(insn) = decode::decode(vcpu, bytes.as_slice()) else {
        return unknown(&bytes);
    };
    let result = match insn.kind {
        Kind::Ins(width) if io.input && width.bytes() == io.size => {
            string::ins(vcpu, space, &insn, width, port)
        }
        Kind::Outs(width) if !io.input && width.bytes() == io.size => {
            string::outs(vcpu, space, &insn, width, port)
        }
        _ => return EmulOutcome::Retry,
    };
    match result {
        Ok(_) => EmulOutcome::Done,
        Err(fault) => stop(vcpu, fault),
    }
}

/// One memory operand. False if it does not lie where the fault was.
fn single(
    vcpu: &mut dyn VcpuEmulation,
    space: &mut dyn PhysAccess,
    insn: &Insn,
    at: Vaddr,
    width: Width,
    op: Operation,
    page: Gaddr,
) -> Result<bool, Fault> {
    let access = if op.writes() {
        Access::WRITE
    } else {
        Access::READ
    };
    let mut memory = Memory::new(vcpu, space);
    let operand = memory.translate(at, width, access)?;
    if !operand.touches(page) {
        return Ok(false);
    }
    let old = if op.reads() {
        memory.read(&operand)?
    } else {
        0
    };
    let effects = op.apply(vcpu, old, width);
    if let Some(value) = effects.store {
        Memory::new(vcpu, space).write(&operand, value)?;
    }
    if let Some((reg, value)) = effects.load {
        operand::write(vcpu.gprs_mut(), reg, value);
    }
    if let Some(flags) = effects.flags {
        vcpu.set(Reg::Rflags, flags);
    }
    vcpu.advance_rip(insn.len);
    Ok(true)
}

fn stop(vcpu: &mut dyn VcpuEmulation, fault: Fault) -> EmulOutcome {
    EmulOutcome::Inject(event_of(vcpu, fault))
}

/// The exception that the instruction ends with; CR2 is set where it matters.
fn event_of(vcpu: &mut dyn VcpuEmulation, fault: Fault) -> Event {
    match fault {
        Fault::Page { address, code } => {
            vcpu.set(Reg::Cr2, address.raw());
            Event::page_fault(code)
        }
        Fault::Protection | Fault::NoMemory(_) => Event::GP,
    }
}

fn unknown(bytes: &fetch::Bytes) -> EmulOutcome {
    EmulOutcome::Unknown {
        bytes: bytes.raw,
        len: bytes.len,
    }
}

#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
